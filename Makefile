# `make run` is the way in, `make test` is what has to pass. The rest is for those who work on Chancery.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
ENV := . .ci/env;
PORT ?= 8008
DATA ?= data

.PHONY: help run test check complement crash fuzz bench release audit example clean

help: ## Show what there is
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 18

run: ## Build, and serve a development agency on http://127.0.0.1:8008 (PORT=, DATA=)
	@$(ENV) .ci/install "$${build_packages[@]}"
	@$(ENV) command -v cargo >/dev/null || { echo "Rust is missing: see https://rustup.rs" >&2; exit 1; }
	@$(ENV) [ -e "$$CARGO_TARGET_DIR/debug/chancery" ] || echo "The first build compiles RocksDB: 15 to 30 minutes on two cores."
	@$(ENV) cargo build --locked -p chancery
	@$(ENV) exec "$$CARGO_TARGET_DIR/debug/chancery" dev --port $(PORT) --data-dir $(DATA)

test: ## Everything that CI runs, installing what it needs
	@bash .ci/run

check: ## The quick part: format, lints and the tests that need no RocksDB
	@$(ENV) cargo fmt --all --check
	@$(ENV) cargo clippy --locked --workspace --all-targets -- -D warnings
	@$(ENV) cargo test --locked --workspace --exclude store-rocksdb --exclude chancery

PKG ?= csapi
RUN ?=
complement: ## Run Complement's tests, without containers (PKG=csapi, fed or an MSC, RUN=a regular expression)
	@$(ENV) cargo build --locked -p chancery
	@$(ENV) cd complement && go build -o "$$CARGO_TARGET_DIR/complement" . && "$$CARGO_TARGET_DIR/complement" \
		-bin "$$CARGO_TARGET_DIR/debug/chancery" -pkg '$(PKG)' -run '$(RUN)'

crash: ## Kill the store 1,000 times under load and look for what is lost
	@$(ENV) CHANCERY_CRASH_KILLS=1000 cargo test --locked --release -p store-rocksdb --test crash -- --nocapture

FUZZ_SECONDS ?= 300
fuzz: ## Fuzz what reads from the network, for FUZZ_SECONDS=300 in all
	@$(ENV) rustup toolchain install nightly --profile minimal >/dev/null 2>&1 || true
	@$(ENV) cargo fuzz --version >/dev/null 2>&1 || cargo install --locked cargo-fuzz
	@$(ENV) bash fuzz/run $(FUZZ_SECONDS)

bench: ## The benchmarks of the crates
	@$(ENV) cargo bench --locked --workspace

release: ## Build the binary to deploy
	@$(ENV) .ci/install "$${build_packages[@]}"
	@$(ENV) cargo build --locked --release -p chancery
	@$(ENV) ls -l "$$CARGO_TARGET_DIR/release/chancery"

audit: ## Check licences and known vulnerabilities of dependencies (needs the network)
	@$(ENV) command -v cargo-deny >/dev/null || cargo install --locked cargo-deny
	@$(ENV) cargo deny check

example: ## Write config.example.toml anew
	@$(ENV) cargo run --locked -q -p chancery -- config example > config.example.toml.new
	@mv config.example.toml.new config.example.toml

clean: ## Remove what was built (shared by all checkouts)
	@$(ENV) cargo clean
