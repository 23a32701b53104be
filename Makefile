# The linter's own module keeps its dependencies out of ours. It is built on
# first use, which takes a minute or two.
GOLANGCI := go tool -modfile=tools/golangci-lint/go.mod golangci-lint
# Where there is no git the version is unknown.
VERSION  := $(or $(shell git describe --tags --always --dirty 2>/dev/null),unknown)

# How the programs are built, for here and for an image.
DRAIN_WAIT := go build -trimpath -ldflags "-s -w -X main.version=$(VERSION)"
PRESTOP    := $(DRAIN_WAIT) -tags nethttpomithttp2
# The programs of an image depend on the source, the version and the Go release alone:
# not on the directory, the state of git, or the settings of who builds them.
ALIKE := CGO_ENABLED=0 GOOS=linux GOAMD64=v1 GOARM64=v8.0 GOFLAGS=-buildvcs=false
PROGRAMS ?= build/linux
# An image is as old as its commit.
image release-image: export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 0)

.PHONY: help check test lint dead shipped e2e matrix promises mutants controls fuzz load demo generate screenshot ci build programs image release-image release-check
help: ## show this help
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1: /p' Makefile
check: lint ## run this before a commit (two minutes, no root): lint, and the tests without the slow worlds
	go test -short ./...
test: ## run the tests, with the race detector where cgo works
	@if [ "$$(go env CGO_ENABLED)" = 1 ] && command -v "$$(go env CC)" >/dev/null; then set -x; go test -race -timeout 15m ./...; else set -x; go test -timeout 15m ./...; fi
e2e: ## test against a real API server and its controllers, as root; builds Kubernetes once
	cd test/e2e && go test -count=1 -timeout 60m -parallel 4 .
matrix: ## try each cell of the matrix with each version of Kubernetes, and write docs/compatibility.md; builds each version once
	cd test/e2e && for version in 1.34 1.35 1.36 go; do \
		E2E_REQUIRED=1 E2E_MATRIX=write E2E_KUBE=$$version go test -count=1 -run '^TestMatrix$$' . || exit 1; \
	done
	go run ./hack/docs
lint: ## check the formatting, run go vet and golangci-lint
	@test -z "$$(gofmt -l .)" || { echo "lint: not formatted; run gofmt -w on these:"; gofmt -l .; exit 1; }
	go vet ./...
	cd test/e2e && go vet ./...
	@$(GOLANGCI) version >/dev/null || { echo "lint: golangci-lint cannot be built (it needs the module proxy once), so it linted nothing" >&2; exit 1; }
	$(GOLANGCI) run ./...
	cd test/e2e && go tool -modfile=../../tools/golangci-lint/go.mod golangci-lint run ./...
dead: ## find functions that nothing calls
	@dead=$$(go tool -modfile=tools/deadcode/go.mod deadcode -test ./...) && test -z "$$dead" || { echo "lint: nothing calls these:"; echo "$$dead"; exit 1; }
shipped: ## test the Helm chart, that deploy/ is made from it, and the released image
	@for module in chart image; do \
		if go -C tools/$$module mod download; then (set -x; go -C tools/$$module vet ./... && go -C tools/$$module test -count=1 ./...) || exit 1; \
		else echo "shipped: SKIPPED: what tools/$$module needs is not in the module cache, and cannot be fetched" >&2; fi; \
	done
promises: ## play two hundred random worlds (two or three minutes)
	cd internal/service && go test -count=1 -timeout 30m -run '^TestPromises' -seeds 200
mutants: ## break the code one line at a time, and check that a test notices (three minutes)
	go run ./hack/mutants
controls: ## break what the random worlds must notice, and check that they do
	go run ./hack/mutants -group controls
fuzz: ## fuzz each reader of what strangers write, for FUZZTIME each (an hour)
	hack/fuzz $(FUZZTIME)
load: ## hold thousands of waits and call in hostile ways, and measure (eight minutes)
	go run ./hack/load $(LOADFLAGS)
demo: ## roll a deployment in simulated worlds
	go run . demo
generate: ## write the generated parts of the documentation, and deploy/ from the Helm chart
	go run ./hack/docs
	cd tools/chart && go run .
screenshot: ## write the demo's output into README.md; needs tmux
	hack/screenshot
ci: ## run everything that must pass before a change lands
	.ci/run
build: ## build the static binaries ./drain-wait and ./prestop
	CGO_ENABLED=0 $(DRAIN_WAIT) -o drain-wait .
	CGO_ENABLED=0 $(PRESTOP) -o prestop ./cmd/prestop
programs: ## build the programs of the image for amd64 and arm64, into build/linux
	@set -ex; for arch in amd64 arm64; do \
		$(ALIKE) GOARCH=$$arch $(DRAIN_WAIT) -o $(PROGRAMS)/$$arch/drain-wait .; \
		$(ALIKE) GOARCH=$$arch $(PRESTOP) -o $(PROGRAMS)/$$arch/prestop ./cmd/prestop; \
	done
image: programs ## build your own image IMAGE with docker, podman or buildah; PUSH=1 pushes it, too
	@hack/image "$(IMAGE)" "$(VERSION)"
release-image: programs ## make the released image, into build/image, and its SBOMs, into build/sbom; given IMAGE, push it
	@rm -rf build/image build/sbom
	@go build -C tools/image -o $(CURDIR)/build/make-image .
	@build/make-image -version "$(VERSION)" -revision "$(REVISION)" -source "$(SOURCE)" $(if $(IMAGE),"$(IMAGE)")
release-check: ## check what a release does, as far as it can be done here; says what it skips
	hack/release-check
