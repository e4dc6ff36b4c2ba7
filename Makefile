# "make demo" and "make test" are all that a fresh machine needs, with Go and make and nothing else.
# Everything is pure Go; only the race detector needs a C compiler.

export CGO_ENABLED := 0

FUZZTIME  ?= 30s
# Hostile capture files that make test reads, about half a minute: a number, so that no deadline cuts one short.
HOSTILE   ?= 150000x
BENCH     ?= .
BENCHTIME ?= 1s
PACKAGES  ?= ./...
# A test that hangs ends after this time, each package for itself.
TIMEOUT   ?= 10m

# Without a version control system that works here, Go is told not to ask it for the revision.
ifneq ($(shell git status --porcelain >/dev/null 2>&1; echo $$?),0)
export GOFLAGS := $(GOFLAGS) -buildvcs=false
endif

report = go -C internal/tools run ./testreport
ratio  = go -C internal/tools run ./benchratio

.DEFAULT_GOAL := help
.PHONY: help build test race fuzz soak bench bench-live captures oracle-ipvs oracle-proxies lint demo lab clean FORCE

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: bin/naru ## build ./bin/naru, one static binary

bin/naru: FORCE
	go build -trimpath -o bin/naru ./cmd/naru

demo: bin/naru ## show full NAT and direct server return side by side, packet by packet (as root)
	@./bin/naru lab demo

test: ## vet and test everything; as root also with real traffic in network namespaces
	go vet ./...
	go -C internal/tools test ./...
	go test -json -count=1 -timeout $(TIMEOUT) $(PACKAGES) | $(report)
	go test -run '^$$' -fuzz '^FuzzReader$$' -fuzztime $(HOSTILE) -fuzzminimizetime 10x ./internal/link/pcapfile
	@[ "$$(id -u)" = 0 ] || echo "Not run as root: what needs network namespaces was left out, see above."

race: export CGO_ENABLED := 1
race: ## test under the race detector (needs gcc)
	@command -v $${CC:-gcc} >/dev/null || { \
		echo "make race: the race detector needs a C compiler: apt-get install gcc libc6-dev" >&2; exit 1; }
	go test -race -count=1 -timeout $(TIMEOUT) $(PACKAGES)

fuzz: ## run every fuzz target for FUZZTIME (30s)
	@grep -rHo --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' . | while IFS=: read -r file name; do \
		name=$${name#func }; dir=$${file%/*}; \
		echo "go test -run '^$$' -fuzz ^$$name\$$ -fuzztime $(FUZZTIME) $$dir"; \
		go test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1s "$$dir" || exit 1; \
	done

soak: ## test the connection table for long: ten million connections, fifty million random steps (2 GiB of memory)
	NARU_SOAK=1 go test -count=1 -timeout 30m -v -run 'BooksOfTheTable|MemoryOfManyConnections' ./internal/conntrack

captures: ## check every capture of NARU_PCAPS, and thousands made from them, against what must hold and what tshark finds; minutes
	NARU_FULL=1 NARU_REQUIRE=pcaps,tshark go test -count=1 -timeout 60m -v \
		-run 'MustHold|Container|Tshark' ./internal/replay

bench: ## run the benchmarks (BENCH, BENCHTIME); of every mode, the ratio to a baseline of the same run
	go test -run '^$$' -bench '$(BENCH)' -benchtime $(BENCHTIME) -benchmem -timeout 30m \
		./forwarder ./dsr ./nat ./sched ./internal/conntrack ./internal/frag ./internal/wire | $(ratio)

bench-live: bin/naru ## measure naru beside the kernel's NAT and proxies, with BENCHFLAGS (as root, half an hour)
	nice -n -15 ./bin/naru bench --metric all --mode all --against all --chart bin/bench.svg $(BENCHFLAGS)

oracle-ipvs: ## compare the schedulers with IPVS in a virtual machine (Debian's qemu and kernel package; minutes)
	@go build -o bin/oracle-ipvs ./internal/oracle/ipvs
	@./bin/oracle-ipvs $(ORACLEFLAGS)

oracle-proxies: ## compare the schedulers with HAProxy and nginx, and show their choices (as root)
	NARU_REQUIRE=root,proxies go test -count=1 -v ./internal/oracle/proxies

lint: ## gofmt, vet and staticcheck (downloaded for the first time); builds where replay and explain run too
	@bad=$$(gofmt -l .); [ -z "$$bad" ] || { echo "run gofmt -w on: $$bad" >&2; exit 1; }
	go vet ./...
	for os in darwin freebsd windows; do GOOS=$$os go build -o /dev/null ./cmd/naru || exit 1; done
	go tool -modfile=internal/tools/go.mod staticcheck ./...

lab: bin/naru ## run the lab's tests: every variant of every scenario with real traffic (as root)
	./bin/naru lab test

clean: ## remove all labs (as root) and what was built
	@[ "$$(id -u)" != 0 ] || [ ! -x bin/naru ] || ./bin/naru lab clean --yes
	rm -rf bin
