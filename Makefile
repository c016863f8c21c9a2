# sinter: build, install, demo, test. Every target works in a fresh clone.

GO        ?= go
OUT       := .build
BIN       := $(OUT)/sinter
SBOM      := $(OUT)/sinter-sbom
SOURCES   := $(shell find cmd builder parser layers cache -name '*.go' 2>/dev/null) go.mod go.sum
FUZZTIME  ?= 20s
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
SHARED    ?= ../shared
PREFIX    ?= /usr/local

# What the binary says of its commit; without a repository that git reads, nothing.
VCS       := $(if $(shell git rev-parse --verify -q HEAD 2>/dev/null),true,false)

# Older versions of Go say that go.mod is wrong, not what is needed.
GO_NEEDED := $(shell sed -n 's/^go //p' go.mod)
CHECK_GO   = have=$$($(GO) version 2>/dev/null | sed 's/^go version \(devel \)*go\([0-9.]*\).*/\2/'); \
	if [ "$$(printf '%s\n' $(GO_NEEDED) "$$have" | sort -V | head -n 1)" != $(GO_NEEDED) ]; then \
	echo "error: sinter is built with Go $(GO_NEEDED) or later, but $(GO) is $${have:-not there}" >&2; \
	echo "hint: get it from https://go.dev/dl, or name another with make GO=PATH" >&2; exit 1; fi

# What the tests use beside Go. The names are Debian's.
TEST_PACKAGES := busybox-static docker-registry apache2-utils skopeo umoci buildah crun \
	uidmap mmdebstrap zstd xz-utils bzip2 libcap2-bin attr gcc libc6-dev ca-certificates python3 \
	zip unzip strace
DEMO_PACKAGES := busybox-static uidmap

.PHONY: build install demo test check race-sbom suite bench conformance fuzz real clean demo-packages test-packages

build: $(BIN) $(SBOM)

$(BIN) $(SBOM): $(SOURCES)
	@$(CHECK_GO)
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=$(VCS) -ldflags='-s -w' -o $@ ./cmd/$(@F)

# Installs what was built; packages are made with DESTDIR.
install: $(BIN) $(SBOM)
	install -d '$(DESTDIR)$(PREFIX)/bin'
	install -m 755 $(BIN) $(SBOM) '$(DESTDIR)$(PREFIX)/bin'

# Builds sinter, then a real multi-stage image with it, twice, and runs the result.
demo: demo-packages $(BIN)
	testdata/demo/run.sh $(abspath $(BIN))

# All tests.
test: test-packages check suite conformance

# Tests that take minutes under the race detector and are not about goroutines: once,
# without it.
SLOW = ^(TestScriptAsPlainUser|TestFaults|TestKilled|TestKilledAsPlainUser|TestPruneKilled|TestHostileImages|TestRootless|TestReasons|TestBillionLaughs)$$

# Formatting, vet, staticcheck, import directions, race tests.
check:
	@$(CHECK_GO)
	@unformatted=$$(gofmt -l cmd builder parser layers cache); \
	if [ -n "$$unformatted" ]; then echo "not formatted: $$unformatted" >&2; exit 1; fi
	$(GO) vet ./...
	GOARCH=arm64 $(GO) vet ./builder/sandbox/...
	$(GO) run $(STATICCHECK) ./...
	CGO_ENABLED=1 $(GO) test -race -timeout 20m -skip '$(SLOW)' $$($(GO) list ./... | grep -v '/cmd/sinter-sbom')
	$(GO) test -timeout 10m ./cmd/sinter-sbom/...

# sinter-sbom links syft, which takes minutes to compile for the race detector: make race-sbom.
race-sbom:
	CGO_ENABLED=1 $(GO) test -race -timeout 20m ./cmd/sinter-sbom/...

# Conformance cases as root and as plain users, injected faults, kills, hostile images
# and Dockerfiles, and the sandbox as plain users.
suite:
	CGO_ENABLED=0 $(GO) test -timeout 15m -run '^TestConformance$$|$(SLOW)' ./cmd/sinter ./builder/sandbox ./parser

# The reference builder's cases, when they are there.
conformance: $(BIN)
	testdata/conformance.sh $(abspath $(BIN)) $(SHARED)/conformance

# Real projects: a Django site, a Go service, a web bundle; needs root.
real: test-packages $(BIN)
	testdata/real/run.sh $(abspath $(BIN))

# Speed beside every peer on PATH. Prints medians and ratios.
bench: $(BIN)
	testdata/bench.sh $(abspath $(BIN))

# Every fuzz target for FUZZTIME.
fuzz:
	@set -e; for pkg in $$($(GO) list ./...); do \
	  for target in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
	    echo "$$pkg $$target"; $(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$pkg; \
	  done; done

clean:
	rm -rf $(OUT)

demo-packages:
	@testdata/packages.sh $(DEMO_PACKAGES)

test-packages:
	@testdata/packages.sh $(TEST_PACKAGES)
