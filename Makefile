# sinter: build, demo, test. Every target works in a fresh clone.

GO        ?= go
OUT       := .build
BIN       := $(OUT)/sinter
SOURCES   := $(shell find cmd builder parser layers cache -name '*.go' 2>/dev/null) go.mod go.sum
FUZZTIME  ?= 20s
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
SHARED    ?= ../shared

# What the tests use beside Go. The names are Debian's.
TEST_PACKAGES := busybox-static docker-registry apache2-utils skopeo umoci buildah crun \
	uidmap mmdebstrap zstd xz-utils bzip2 libcap2-bin attr gcc libc6-dev ca-certificates python3 \
	zip unzip strace
DEMO_PACKAGES := busybox-static uidmap

.PHONY: build demo test check suite bench conformance fuzz real clean demo-packages test-packages

build: $(BIN)

$(BIN): $(SOURCES)
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags='-s -w' -o $@ ./cmd/sinter

# Builds sinter, then a real multi-stage image with it, twice, and runs the result.
demo: demo-packages $(BIN)
	testdata/demo/run.sh $(abspath $(BIN))

# All tests.
test: test-packages check suite conformance

# Formatting, vet, staticcheck, import directions, race tests.
check:
	@unformatted=$$(gofmt -l cmd builder parser layers cache); \
	if [ -n "$$unformatted" ]; then echo "not formatted: $$unformatted" >&2; exit 1; fi
	$(GO) vet ./...
	GOARCH=arm64 $(GO) vet ./builder/sandbox/...
	$(GO) run $(STATICCHECK) ./...
	CGO_ENABLED=1 $(GO) test -race -timeout 20m ./...

# Our own conformance cases, as root and as plain users, and injected faults.
suite:
	CGO_ENABLED=0 $(GO) test -timeout 15m -run '^(TestConformance|TestScriptAsPlainUser|TestFaults)$$' ./cmd/sinter

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
