# One command for each thing a person wants. Needs: Rust (rustup or a distribution's, 1.90 or newer),
# Go 1.26 or newer (the control plane of tests, demo and bench), a C compiler, git. The tests also install a Prometheus, an
# HAProxy and an MLflow below target/, with apt-get and python3, unless they are on the PATH (tests/monitoring/install.sh).
.PHONY: help build demo test check bench conformance faults fuzz manifests clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 16

build: ## the program, optimised: target/release/driftless
	cargo build --release --locked

demo: ## the main job on a real control plane; KEEP=1 leaves it running
	cargo run --locked --example demo

test: ## all tests, against a real API server and real Git servers
	cargo test --locked

check: ## formatting, lints, documentation, licences and advisories
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items
	@if command -v cargo-deny >/dev/null 2>&1; then cargo deny --locked check bans licenses sources; \
	else echo "cargo-deny is not installed; licences and sources are checked by make test (tests/tidy.rs), advisories are not"; fi

bench: ## what the README claims, measured; the table and target/bench.json
	cargo bench --locked --bench fleet
	cargo bench --locked --bench sync
	cargo bench --locked --bench render
	cargo bench --locked --bench rollouts
	cargo bench --locked --bench statistics

conformance: ## renders beside those of kustomize and Helm, over own cases and public repositories; RECORD=1 records
	cargo run --locked --profile bench --example conformance

faults: ## what is held when API server, watches and Git servers fail: runs the tests and writes docs/faults.md
	tests/faults/run.sh

fuzz: ## each fuzz target for a minute (FUZZ_SECONDS); TARGETS="yaml render" names some
	fuzz/run.sh $(TARGETS)

manifests: ## CRDs and references, written from the code
	UPDATE=1 cargo test --locked --test behaviour tidy

clean: ## everything that was built, the control plane too
	cargo clean
