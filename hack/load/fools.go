package main
func foolMain([]string) error {return nil}
