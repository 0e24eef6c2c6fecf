# Roomcast. `make help` lists the targets; each has its one line beside its name.

GO ?= go
TAGGED := $(shell git describe --tags --exact-match --match 'v[0-9]*' 2>/dev/null)
COMMIT := $(shell git rev-parse --short HEAD 2>/dev/null)
# A version is a tag. Without one the program says what the Go tool chain recorded.
LDFLAGS := -s -w -X main.commit=$(COMMIT) $(if $(TAGGED),-X main.version=$(TAGGED))
STATIC := CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)'

# Pinned in internal/tools/go.mod, a module of its own: users of ours never see their dependencies.
TOOLS := bin/buf bin/grpcurl bin/staticcheck bin/gotestsum
GOLANGCI_VERSION := v2.15.0
GOLANGCI := bin/golangci-lint-$(GOLANGCI_VERSION)

PLATFORMS := linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64

# What starts whole nodes or processes; `make check` leaves it to `make test`.
SLOW := /(cmd|test|internal/bench|internal/node|internal/nodetest)(/|$$)

# Every Go file of ours, those for other systems and tests too.
GO_FILES := find . -name '*.go' -not -path '*/node_modules/*' -not -path './.*'

# What `make run` passes on: make run ARGS='--http-addr 127.0.0.1:0'
ARGS ?=
# Which benchmarks, how often: make bench BENCH=Deliver COUNT=10
BENCH ?= .
COUNT ?= 1
# Which rows of the end-to-end table (default all), and how many runs of each.
ROWS ?=
RUNS ?= 3
# How many schedules soak runs, and the first one's seed.
SEEDS ?= 20
SEED ?= 1
# Flags of the rolling restart: make rolling ROLL='-sockets 900 -drain-window 10s'
ROLL ?=
# How long each target is fuzzed.
FUZZTIME ?= 30s

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: run
run: build ## One node for a laptop: embedded NATS, development token (ARGS='...')
	@exec bin/roomcast serve --dev $(ARGS)

.PHONY: test
test: test-tree test-proto check-generate test-go ## Everything that a change must pass

.PHONY: check
check: ## The quick one: vet and unit tests
	$(GO) vet ./...
	$(GO) test $$($(GO) list ./... | grep -vE '$(SLOW)')

.PHONY: build
build: ## bin/roomcast, static
	@echo 'building bin/roomcast; the first time on a machine it compiles NATS and gRPC, about a minute and a half'
	$(STATIC) -o bin/ ./cmd/roomcast

.PHONY: generate
generate: bin/buf ## Write gen/ from proto/
	bin/buf generate

.PHONY: check-generate
check-generate: bin/buf ## Fail if gen/ is not what proto/ says; changes nothing
	@out=$$(mktemp -d) && trap 'rm -rf "$$out"' EXIT && \
	bin/buf generate --output "$$out" && \
	if diff -ru gen "$$out/gen"; then echo 'gen/ is current'; \
	else echo 'gen/ is not what proto/ says: run make generate' >&2; exit 1; fi

.PHONY: fmt
fmt: bin/buf ## Format Go and proto
	@$(GO_FILES) | xargs gofmt -w
	bin/buf format -w

.PHONY: lint
lint: $(GOLANGCI) bin/buf ## golangci-lint (its first build takes minutes), buf lint, and vet of the gateway for macOS
	$(GOLANGCI) run ./...
	bin/buf lint
	GOOS=darwin $(GO) vet ./internal/gateway

.PHONY: bench
bench: bench-micro bench-table ## Run the benchmarks (BENCH=regexp COUNT=n), then the table of docs/benchmarks.md

.PHONY: bench-micro
bench-micro: ## Run the benchmarks of packages alone
	@dirs=$$(grep -rlE --include='*_test.go' '^func Benchmark' client cmd internal test 2>/dev/null | xargs -n 1 dirname | sort -u | sed 's|^|./|'); \
	if [ -z "$$dirs" ]; then echo 'no benchmarks found' >&2; exit 1; fi; \
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem -count $(COUNT) $$dirs

.PHONY: bench-table
bench-table: build ## Measure the table of docs/benchmarks.md alone (ROWS=B1,C RUNS=3)
	$(GO) run ./test/bench -roomcast bin/roomcast -rows '$(ROWS)' -runs $(RUNS)

.PHONY: soak
soak: ## Break clusters by seeded schedules and prove that nothing is lost silently (SEEDS=20 SEED=1)
	$(GO) test ./test/chaos -run 'TestChaos$$' -v -count 1 -timeout 3h -args -seeds $(SEEDS) -seed $(SEED)

.PHONY: planted
planted: ## Show that the checker of soak finds eight bugs that are planted in the program
	$(GO) test ./test/chaos -run 'TestPlantedBugs$$' -v -count 1

.PHONY: rolling
rolling: build ## Restart three nodes under load with 9,000 sockets, two minutes (ROLL='-sockets 900')
	@$(GO) build -o bin/ ./test/rolling/roll
	bin/roll $(ROLL)

.PHONY: fuzz
fuzz: ## Run every fuzz target, one after the other (FUZZTIME=30s each)
	@dirs=$$(grep -rlE --include='*_test.go' '^func Fuzz' client cmd internal test 2>/dev/null | xargs -n 1 dirname | sort -u); \
	if [ -z "$$dirs" ]; then echo 'no fuzz targets found' >&2; exit 1; fi; \
	failed=; for dir in $$dirs; do \
		listed=$$($(GO) test -list '^Fuzz' "./$$dir") || { echo "$$listed"; exit 1; }; \
		for name in $$(echo "$$listed" | grep '^Fuzz'); do \
			echo "== $$dir $$name $(FUZZTIME)"; \
			$(GO) test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) "./$$dir" || failed="$$failed $$name"; \
		done; \
	done; \
	if [ -n "$$failed" ]; then echo "failed:$$failed" >&2; exit 1; fi

.PHONY: tools
tools: $(TOOLS) ## Build grpcurl, buf, staticcheck and gotestsum into bin/
	@ls -1 $(TOOLS)

.PHONY: release
release: ## Static programs for every platform and SHA256SUMS in dist/
	@rm -rf dist && mkdir dist
	@for platform in $(PLATFORMS); do \
		os=$${platform%/*} arch=$${platform#*/}; suffix=; \
		if [ "$$os" = windows ]; then suffix=.exe; fi; \
		name="roomcast_$(or $(TAGGED),$(COMMIT),dev)_$${os}_$$arch$$suffix"; \
		echo "building dist/$$name"; \
		GOOS=$$os GOARCH=$$arch $(STATIC) -o "dist/$$name" ./cmd/roomcast || exit 1; \
	done
	@cd dist && if command -v sha256sum >/dev/null; then sha256sum roomcast_*; else shasum -a 256 roomcast_*; fi > SHA256SUMS
	@cat dist/SHA256SUMS

# The parts of `make test`, cheap ones first.

.PHONY: test-tree
test-tree:
	@echo '== modules and format'
	$(GO) mod tidy -diff
	@unformatted=$$($(GO_FILES) | xargs gofmt -l) && \
	if [ -n "$$unformatted" ]; then echo "not gofmt'ed, run make fmt:" >&2; echo "$$unformatted" >&2; exit 1; fi

.PHONY: test-proto
test-proto: bin/buf
	@echo '== proto'
	bin/buf lint
	bin/buf format --diff --exit-code
	@tag=$$(git -c versionsort.suffix=- tag --list 'v[0-9]*' --sort=-version:refname | head -n 1); \
	if [ -z "$$tag" ]; then echo 'buf breaking: no release tag yet, nothing to compare'; \
	else echo "buf breaking: against $$tag"; \
		bin/buf breaking --against "$$(git rev-parse --git-common-dir)#format=git,tag=$$tag"; fi

# The program is built first: else two packages of tests compile it on an empty machine, each for itself.
.PHONY: test-go
test-go: bin/staticcheck bin/grpcurl build
	@cc=$$($(GO) env CC); command -v $${cc%% *} >/dev/null || { \
		echo "the race detector needs a C compiler and there is no $$cc; type one of:" >&2; \
		echo '  sudo apt-get install -y gcc libc6-dev    # Debian, Ubuntu' >&2; \
		echo '  sudo dnf install -y gcc                  # Fedora' >&2; \
		echo '  xcode-select --install                   # macOS' >&2; \
		exit 1; }
	@echo '== vet and staticcheck'
	$(GO) vet ./...
	bin/staticcheck ./...
	@echo '== tests'
# A program with the race detector sleeps for a second before it exits, unless told. One race fails
# every test that runs beside it, so its report is printed last, where it is found.
	@races=$$(mktemp -d) && trap 'rm -rf "$$races"' EXIT && \
	CGO_ENABLED=1 GORACE="atexit_sleep_ms=50 log_path=$$races/race" $(GO) test -race -shuffle=on ./...; status=$$?; \
	if [ -n "$$(ls -A "$$races")" ]; then echo '== data races'; cat "$$races"/*; exit 1; fi; exit $$status

# The tools. The first one compiles most of what the others share.

TOOL_PACKAGES = $(shell sed -n '/^tool (/,/^)/s/^[[:space:]]\(.*\/$(@F)\)$$/\1/p' internal/tools/go.mod)

$(TOOLS): internal/tools/go.mod internal/tools/go.sum
	@echo 'building $@ from internal/tools; all four take about 4 minutes on two cores the first time'
	@cd internal/tools && GOOS= GOARCH= GOFLAGS=-mod=readonly $(GO) build -o ../../$@ $(TOOL_PACKAGES)
	@touch $@

$(GOLANGCI):
	@echo 'building $@; about 4 minutes on two cores the first time'
	@GOBIN=$(CURDIR)/bin GOFLAGS= $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)
	@mv bin/golangci-lint $@
