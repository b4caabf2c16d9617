# Everything is written to bin/ and out/. `make help` lists the targets.
SHELL := /bin/sh
GO ?= go
# Version control is not asked for a stamp: it may be absent, or refuse to work for this user.
# A sandbox sees no libraries: programs that run in one, as runsc does, must not need any.
GOBUILD := CGO_ENABLED=0 $(GO) build -buildvcs=false

.DEFAULT_GOAL := help
.PHONY: help deps kernels build test lint demo vm-demo bench bench-syscall bench-idle bench-rss bench-code bench-apps bench-profile clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

deps: ## Install the Debian packages that are missing (root)
	@scripts/deps.sh

# `make test` needs them; `go test ./...` skips the tests in virtual machines without them, saying so.
kernels: deps ## Fetch the kernels for tests in virtual machines, where they are missing (root)
	@scripts/kernels.sh

build: deps ## Build ub, runsc-ub and ub-bench into bin/
	@mkdir -p bin
	$(GOBUILD) -ldflags=-w -o bin/ ./cmd/...

lint: deps ## Check formatting and run go vet
	@bad=$$(gofmt -l $$(git ls-files '*.go' 2>/dev/null || find . -name '*.go')); \
	if [ -n "$$bad" ]; then echo "not formatted (run gofmt -w):" $$bad >&2; exit 1; fi
	$(GO) vet ./...

# One package at a time: sandboxes and guests need the processors, and what they show depends on getting them.
test: build lint kernels ## Build, check, and run all tests, end-to-end ones included (root)
	UB_RUNSC=$(CURDIR)/bin/runsc-ub UB_GUESTS=required $(GO) test -p 1 -timeout 20m ./...

demo: build ## Programs with and without bypass, side by side (root, under two minutes)
	@bin/ub-bench demo

vm-demo: build kernels ## The kernel module in a virtual machine: equal results, counts of what it saves (a few minutes)
	@bin/ub-bench vmdemo

bench: bench-syscall bench-idle bench-rss bench-code bench-apps bench-profile ## Run all benchmarks; rows also go to out/bench/*.json (root)

bench-syscall: build ## ns per syscall: native, sandbox, sandbox with bypass
	@bin/ub-bench syscall

bench-idle: build ## What bypass costs a program that does no syscalls
	@bin/ub-bench idle

bench-rss: build ## Memory of the sandbox without and with bypass
	@bin/ub-bench rss

bench-code: build ## Slow-down of translated code, and what each safety rule costs (under a minute)
	@bin/ub-bench code

bench-apps: build ## Redis and nginx: requests per second, time and crossings per request (under five minutes)
	@bin/ub-bench apps

bench-profile: build ## What `ub profile` costs the program that it watches
	@bin/ub-bench profile

clean: ## Remove bin/ and out/
	rm -rf bin out
