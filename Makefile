.PHONY: help test lint demo
help: ## show this help
	@sed -n 's/^\([a-z]*\):.*## /\1: /p' Makefile
test: ## run the tests, with the race detector where cgo works
	@if [ "$$(go env CGO_ENABLED)" = 1 ] && command -v "$$(go env CC)" >/dev/null; then set -x; go test -race -timeout 5m ./...; else set -x; go test -timeout 5m ./...; fi
lint: ## check the formatting and run go vet
	@test -z "$$(gofmt -l .)" || { gofmt -l .; exit 1; }
	go vet ./...
demo: ## roll a deployment in simulated worlds
	go run . demo
