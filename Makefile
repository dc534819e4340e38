# Every task of this checkout. `make` alone lists the targets.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# The cluster to start: see tests/cluster/README.md.
PROFILE ?= simulated
# Tests in the suite wait more than they compute: many run in parallel on few cores.
E2E_THREADS ?= 16
# The tests with real pods start JVMs.
REAL_THREADS ?= 6
# Each test of the agent boots a machine of its own.
HOST_THREADS ?= 4
# Number of kills by `make chaos`.
N ?= 200

CLUSTER_COMMAND := tests/cluster/cluster
CARGO_TEST := cargo test --locked --quiet

# How long `make fuzz` runs each target, in seconds: with ten targets an hour.
FUZZ_SECONDS ?= 360

# What `make watch` runs at each change: check, unit or clippy of bacon.toml.
JOB ?= unit

.PHONY: help demo demo-down test unit watch e2e suite test-one real host chaos fuzz upgrade bench lint generate build image cluster-up cluster-down cluster-status

## Show this help
help:
	@printf 'vigie: the targets\n\n'
	@awk '/^## / { text = substr($$0, 4); next } \
	  /^[a-z0-9-]+:/ && text { split($$1, name, ":"); printf "  make %-16s %s\n", name[1], text } \
	  { text = "" }' Makefile
	@printf '\nDEMO_EXIT=1 make demo runs through and takes everything down; CLUSTER=mine make demo uses your own\n'
	@printf 'cluster; PROFILE=simulated is the cluster to start; E2E_THREADS=16, REAL_THREADS=6 and HOST_THREADS=4 are how\n'
	@printf 'many tests run at once; VIGIE_REAL=required and VIGIE_HOST=required fail where those tests cannot run.\n'

## The main job, with narration, on a cluster of its own; stays up for experiments
demo:
	@scripts/demo up

## End the demo, and the cluster if the demo started it
demo-down:
	@scripts/demo down

## Everything that must hold before a change lands: unit, e2e, real and host
test: unit e2e real host

## Tests beside the code; need no cluster
unit:
	@scripts/prerequisites rust cc
	$(CARGO_TEST) --lib --bins --examples
	$(CARGO_TEST) --doc

## Check and run the unit tests again at each change, by bacon; JOB=check and JOB=clippy do less
watch:
	@scripts/prerequisites rust cc
	@PATH="$$(scripts/rust-tools bacon):$$PATH" && bacon $(JOB)

## Black-box tests on the cluster, which stays up afterwards, and the demo from start to finish
e2e:
	@scripts/prerequisites rust cc go curl
	@scripts/e2e $(PROFILE) $(E2E_THREADS)

## One test of the black-box suite by its name: make test-one NAME=beats::silence_turns_into_offline_by_itself_and_is_dated_at_its_deadline
test-one:
	@scripts/prerequisites rust cc go curl
	@scripts/suite $(PROFILE) 1 one '$(NAME)'

## The tests of one module of the black-box suite: make suite NAME=beats
suite:
	@scripts/prerequisites rust cc go curl
	@scripts/suite $(PROFILE) $(E2E_THREADS) module '$(NAME)'

## Black-box tests with real pods, as root; a machine that cannot run them skips them with a message
real:
	@scripts/prerequisites rust cc go curl
	@scripts/e2e-real $(REAL_THREADS)

## Black-box tests of the agent on a real systemd, Docker and WireGuard, as root; a machine that cannot says so
host:
	@scripts/prerequisites rust cc go curl
	@scripts/host $(HOST_THREADS)

## Kill the operator N times, and check in the API server's audit log that every attempt restarted once; 4 s for each
chaos:
	@scripts/prerequisites rust cc go curl
	@scripts/chaos $(PROFILE) $(N)

## Fuzz what parses bytes from outside, FUZZ_SECONDS for each target: an hour; TARGET=beat fuzz one
fuzz:
	@scripts/fuzz $(FUZZ_SECONDS) $(TARGET)

## The operator of an earlier commit under today's definitions: make upgrade FROM=v0.1.0; by default the last that changed them
upgrade:
	@scripts/prerequisites rust cc go curl
	@scripts/upgrade '$(FROM)'

## Measure; takes long, and needs an otherwise idle machine
bench:
	@scripts/prerequisites rust cc
	@if [ -x scripts/bench ]; then scripts/bench; else cargo bench --locked; fi

## Formatting, clippy, documentation, generated files, scripts, snippets for GitOps, the chart as Helm renders it
lint:
	@scripts/prerequisites rust cc go
	@scripts/lint

## Write crds/, docs/reference/ and the chart's copies from the code
generate:
	@scripts/prerequisites rust cc
	@scripts/generate .

## target/release/vigie, for this machine
build:
	@scripts/prerequisites rust cc
	cargo build --locked --release --bin vigie

## The operator's image as target/vigie-image.tar, imported into a running cluster of profile real
image:
	@scripts/prerequisites rust
	@scripts/release-binary
	@scripts/image

## Start a Kubernetes cluster of our own, or repair it: KUBECONFIG=.cluster/kubeconfig
cluster-up:
	@$(CLUSTER_COMMAND) up --profile $(PROFILE)

## End it
cluster-down:
	@$(CLUSTER_COMMAND) down

## Show the cluster's processes
cluster-status:
	@$(CLUSTER_COMMAND) status
