package main
import "context"
func hostile(ctx context.Context, o *options) (*table, error) { return &table{}, nil }
