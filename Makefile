# make help lists the targets.

GO      ?= go
# Without cgo, which only the race detector needs: one build cache serves the
# commands, their tests and vet.
export CGO_ENABLED = 0
# Without paths of this machine, as the packages are built: tests, packages and emulated tests share what is compiled.
export GOFLAGS := $(strip $(shell $(GO) env GOFLAGS) -trimpath)
BIN     := bin
BUILD   := build
MODEL   := examples/model
TESTBED := examples/testbed

# Arm without hardware: cortex-a76 has dot product like BlueField-3's cores,
# cortex-a72 has not and is BlueField-2's core.
QEMU    := qemu-aarch64
ARM     := GOARCH=arm64
TIMEOUT := -timeout 20m

# Several goroutines at work at once: these run under the race detector, too.
CONCURRENT := ./runtime/engine ./runtime/classify ./runtime/flow ./runtime/capture/afpacket ./runtime/agent ./compiler/calibrate ./fleet
# With kernels per CPU feature: these run on both kinds of core.
KERNELS    := ./runtime/internal/kernels/... ./runtime/cpu ./runtime/engine

# The linter, at one version; staticcheck.conf says what it checks.
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

.DEFAULT_GOAL := build
.PHONY: help build dist demo fleet-demo test check fmt vet lint stale purego race soak deb arm64 arm64-nodot golden generate fuzz bench bench-peer bench-c bench-c-arm bench-c-flows bench-c-peer bench-latency bench-plan bench-fleet bench-verdicts cycles evasion card card-shell card-parts card-test clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## the commands, into bin/
	$(GO) build -o $(BIN)/ ./cmd/...

dist: ## the agent for the card, static, into dist/
	GOOS=linux GOARCH=arm64 $(GO) build -trimpath -o dist/arm64/ ./cmd/nepcod
	GOOS=linux GOARCH=amd64 $(GO) build -trimpath -o dist/amd64/ ./cmd/nepcod

# Builds the compiler only: from an empty cache the agent's HTTP server would
# take a third of the minute.
demo: ## compile the example model, verify it, classify a capture
	@mkdir -p $(BUILD)
	$(GO) build -o $(BIN)/ ./cmd/nepcoc
	@echo; echo '== nepcoc compile: a PyTorch export and 210 flows become a bundle'
	$(BIN)/nepcoc compile $(MODEL)/demo.onnx --calib $(TESTBED)/calib.pcap -o $(BUILD)/demo.nepco
	@echo; echo '== nepcoc verify: float = integer, reference = engine, on flows it has not seen'
	$(BIN)/nepcoc verify $(BUILD)/demo.nepco --model $(MODEL)/demo.onnx --pcap $(TESTBED)/test.pcap --labels $(TESTBED)/test.csv
	@echo; echo '== nepcoc run: one verdict per flow (all in $(BUILD)/verdicts.txt)'
	$(BIN)/nepcoc run $(BUILD)/demo.nepco $(TESTBED)/test.pcap > $(BUILD)/verdicts.txt
	@tail -n 12 $(BUILD)/verdicts.txt
	@echo "$$(wc -l < $(BUILD)/verdicts.txt) flows"

# FLEET_PORT and the three after it must be free.
fleet-demo: build ## a hub and three cards on this machine: a rollout that succeeds, one that halts, verdicts in one file
	test/fleet/demo.sh $(BIN)

test: ## all tests on this machine
	$(GO) test $(TIMEOUT) ./...

# Fuzzing is short here, since all tests run the seeds and what was found; `make fuzz` alone takes a minute for each target.
check: FUZZTIME := 20s
check: fmt vet lint stale test purego race soak arm64 arm64-nodot fuzz demo fleet-demo card-test ## what CI runs
	@echo 'check: all held'

fmt: ## fail on files that gofmt would change
	@files=$$(gofmt -l $$($(GO) list -f '{{.Dir}}' ./...)); [ -z "$$files" ] || { echo "gofmt -w these:"; echo "$$files"; exit 1; }

vet: ## for both architectures and without assembly
	$(GO) vet ./...
	$(ARM) $(GO) vet ./...
	$(GO) vet -tags purego ./runtime/...

lint: ## staticcheck, by the rules of staticcheck.conf
	$(GO) run $(STATICCHECK) ./...

# Goldens are compared by the tests themselves; this is for generated files.
stale: ## fail where go generate changes a file
	@before=$$(git diff | sha256sum); $(GO) generate ./... && after=$$(git diff | sha256sum); \
	[ "$$before" = "$$after" ] || { echo 'generated files were out of date; they are written now, commit them:'; git diff --stat; exit 1; }

purego: ## the pure-Go twins in place of assembly
	$(GO) test $(TIMEOUT) -short -tags purego $(KERNELS)

race: ## under the race detector (needs cgo)
	CGO_ENABLED=1 $(GO) test $(TIMEOUT) -short -race $(CONCURRENT)

# Not emitted C, whose tests run this machine's compilers, those for Arm among them; nor the compiler, of which internal/exact's tests show that it computes alike
# on all CPUs, and nepcoc's TestArm64 that its bundles are the same. It is made of ir and passes, which are run.
arm64: ## tests of the arm64 build on a core with dot product
	$(ARM) $(GO) test $(TIMEOUT) -short -exec '$(QEMU) -cpu cortex-a76' ./runtime/... ./ir/... ./passes/... ./internal/exact $$($(GO) list ./backends/... | grep -v /backends/c$$)

arm64-nodot: ## kernels and engine on a core without
	$(ARM) $(GO) test $(TIMEOUT) -short -exec '$(QEMU) -cpu cortex-a72' $(KERNELS)

soak: ## the agent under load for SOAK (default 60s; 10m at night): memory, 1,000 hot changes, 200 kills
	NEPCOC_SOAK=$${SOAK:-60s} $(GO) test -count=1 -timeout 2h -run 'Soak|Overload|Swaps|Killed' ./runtime/agent ./cmd/nepcod

# Where it can't be built, a laptop goes on without one; CI doesn't.
CARD := $(abspath $(BUILD))/card
card: ## the emulated card, into build/card: some minutes, once (root, Debian's mmdebstrap qemu-system-arm qemu-utils e2fsprogs kmod cpio)
	@test/card/build.sh $(CARD) || { rc=$$?; [ $$rc = 77 ] && echo 'card: none; tests that need it skip'; }

card-shell: card ## boot the card and log in; it goes off with the shell, and forgets all
	$(GO) run ./test/card/shell $(CARD)

# CUTS is how often its power is cut; 50 takes a quarter of an hour. Two cards are on at once: one for the cuts, one that the other tests share in turn.
CUTS ?= 8
card-test: ## boot the card, install the agent there, ship, replay, cut its power CUTS times (default 8)
	@$(MAKE) --no-print-directory -j2 card card-parts
	NEPCOC_CARD=$(CARD) NEPCOC_CUTS=$(CUTS) $(GO) test -count=1 -parallel 8 -timeout 2h -v ./test/card

# What the card's tests build, while the card is built.
card-parts:
	@$(GO) build -o /dev/null ./cmd/nepcoc && $(ARM) $(GO) build -trimpath -buildvcs=false -o /dev/null ./cmd/nepcod ./cmd/nepcof && \
	$(ARM) $(GO) test -c -trimpath -o /dev/null ./runtime/act && $(GO) test -c -o /dev/null ./test/card

deb: ## Debian packages of the agent, for the card and for its host, into dist/
	packaging/build-deb.sh arm64 amd64

generate: ## write generated files anew
	$(GO) generate ./...

# Only packages whose tests have the flag can be given it.
golden: ## write golden files anew; read the difference before committing it
	$(GO) test $$(grep -rlE '"nepcoc/(internal/golden|passes/internal/passtest)"' --include='*_test.go' . | xargs -n1 dirname | sort -u) -update

FUZZTIME ?= 60s
fuzz: ## every fuzz target for FUZZTIME (default 60s) each
	GO='$(GO)' test/fuzz.sh $(FUZZTIME)

bench: ## all benchmarks
	$(GO) test -run '^$$' -bench . -benchmem ./...

# Needs node and npm, and the network the first time. CORE is the one core that everything runs on.
CORE ?= 0
bench-peer: ## ONNX Runtime against nepcoc on one core; MODELS="a.onnx ..." chooses models
	@mkdir -p $(BUILD)
	$(GO) build -o $(BUILD)/bench-peer ./bench/peer
	$$(command -v taskset >/dev/null && echo taskset -c $(CORE)) $(BUILD)/bench-peer -dir $(BUILD)/peer $(MODELS)

# CBUNDLE is the bundle; without one, the example model is compiled.
bench-c: ## emitted C against the engine on the same kernel path, taking turns on one core; CBUNDLE=x.nepco chooses a model
	@mkdir -p $(BUILD)
	$(GO) build -o $(BIN)/ ./cmd/nepcoc
	$(GO) build -o $(BUILD)/bench-c ./bench/c
	$(if $(CBUNDLE),,$(BIN)/nepcoc compile $(MODEL)/demo.onnx --calib $(TESTBED)/calib.pcap -o $(BUILD)/demo.nepco >/dev/null)
	$$(command -v taskset >/dev/null && echo taskset -c $(CORE)) $(BUILD)/bench-c $(or $(CBUNDLE),$(BUILD)/demo.nepco)

# CAPTURE is what both tables are given.
bench-c-flows: ## the flow table of emitted C against the agent's, in ns per packet, taking turns on one core; CBUNDLE=x.nepco and CAPTURE=x.pcap choose
	@mkdir -p $(BUILD)
	$(GO) build -o $(BIN)/ ./cmd/nepcoc
	$(GO) build -o $(BUILD)/bench-c ./bench/c
	$(if $(CBUNDLE),,$(BIN)/nepcoc compile $(MODEL)/demo.onnx --calib $(TESTBED)/calib.pcap -o $(BUILD)/demo.nepco >/dev/null)
	$$(command -v taskset >/dev/null && echo taskset -c $(CORE)) $(BUILD)/bench-c -flows $(or $(CAPTURE),$(TESTBED)/test.pcap) -pairs 50 $(or $(CBUNDLE),$(BUILD)/demo.nepco)

# BENCH_CC="clang -O2" chooses another compiler, CPATH another kernel path.
bench-c-peer: ## ONNX Runtime against emitted C, portable, on one core; MODELS="a.onnx ..." chooses models
	@mkdir -p $(BUILD)
	$(GO) build -o $(BUILD)/bench-peer ./bench/peer
	$$(command -v taskset >/dev/null && echo taskset -c $(CORE)) $(BUILD)/bench-peer -dir $(BUILD)/peer -c $(or $(CPATH),portable) -cc "$(or $(BENCH_CC),gcc -O3)" $(MODELS)

# Counts are the same on any machine, under any load. Wants qemu-user and gcc-aarch64-linux-gnu; CC_ARM chooses another compiler.
bench-c-arm: ## instructions of an inference of emitted C on arm64, path by path, under qemu; CBUNDLE=x.nepco chooses a model
	@mkdir -p $(BUILD)
	$(GO) build -o $(BIN)/ ./cmd/nepcoc
	$(GO) build -o $(BUILD)/bench-c ./bench/c
	$(if $(CBUNDLE),,$(BIN)/nepcoc compile $(MODEL)/demo.onnx --calib $(TESTBED)/calib.pcap -o $(BUILD)/demo.nepco >/dev/null)
	$(BUILD)/bench-c -arm $(if $(CC_ARM),-cc "$(CC_ARM)") $(or $(CBUNDLE),$(BUILD)/demo.nepco)

# Needs root: the cable is in a network namespace. LENGTH is each run's; the machine should have nothing else to do.
LENGTH ?= 3s
bench-latency: ## receiving: what packets cost, and p50, p99, p99.9 from the wire to the verdict's line and loss at 1, 50 and 90 % of capacity
	@mkdir -p $(BUILD)
	$(GO) build -o $(BIN)/ ./cmd/nepcoc
	$(BIN)/nepcoc compile $(MODEL)/demo.onnx --calib $(TESTBED)/calib.pcap -o $(BUILD)/demo.nepco >/dev/null
	$(GO) test -run '^$$' -bench Drain -benchtime 1x ./runtime/capture/afpacket
	NEPCOC_LATENCY=$(LENGTH) NEPCOC_BUNDLE=$(abspath $(BUILD))/demo.nepco $(GO) test -count=1 -run '^TestLatency$$' -v ./runtime/agent

# Needs root and two cores: sender and agent have one each.
ROUNDS ?= 3
bench-fleet: ## rollouts to many simulated cards over a cluster of three servers on the loopback; CARDS=1000 BYTES=1048576
	NEPCO_BENCH_CARDS=$(or $(CARDS),1000) NEPCO_BENCH_BYTES=$(or $(BYTES),1048576) $(GO) test -run TestScale -v -count=1 -timeout 60m ./fleet

bench-verdicts: ## lines of many simulated cards through an outage of all servers and the hub; CARDS=1000 RATE=5000 SECONDS=300 AWAY=120
	NEPCO_BENCH_CARDS=$(or $(CARDS),1000) NEPCO_BENCH_RATE=$(or $(RATE),5000) NEPCO_BENCH_SECONDS=$(or $(SECONDS),300) NEPCO_BENCH_AWAY=$(or $(AWAY),120) \
		$(GO) test -run TestVerdicts -v -count=1 -timeout 60m ./fleet

bench-plan: build ## nepcoc plan against nepcod under nepcod load, on one core over a virtual cable, in turns
	@mkdir -p $(BUILD)
	$(GO) build -o $(BUILD)/bench-plan ./bench/plan
	$(BUILD)/bench-plan -bin $(BIN) -rounds $(ROUNDS) -length $(LENGTH) $(MODEL)/demo.onnx $(MODEL)/demo.contract.yaml $(TESTBED)/calib.pcap $(TESTBED)/test.pcap

cycles: ## count and estimate the Arm kernels anew (docs/arm-cycles.md; qemu-user, llvm-mca 16 or later)
	$(GO) run ./runtime/internal/kernels/internal/cycles -o docs/arm-cycles.md

# The tables of docs/evasion.md: the example's flows, changed in all ways, in four contracts.
evasion: build ## what senders and networks can do to verdicts (docs/evasion.md)
	@mkdir -p $(BUILD)
	@for m in stream stream-drop demo-hosts demo; do \
		$(BIN)/nepcoc compile $(MODEL)/$${m%%-*}.onnx --contract $(MODEL)/$$m.contract.yaml --calib $(TESTBED)/calib.pcap --name $$m -o $(BUILD)/$$m.nepco > /dev/null && \
		$(BIN)/nepcoc bench $(BUILD)/$$m.nepco --evasion --pcap $(TESTBED)/test.pcap --labels $(TESTBED)/test.csv && echo; done

clean: ## remove what was built
	rm -rf $(BIN) $(BUILD) dist
