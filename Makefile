.DEFAULT_GOAL := help
.PHONY: help run test soak fuzz bench instructions instructions-baseline check audit openapi openapi-lint client page page-test page-check

# npm writes the hidden lockfile when it is done, so it is newer than the lockfile exactly when the modules are up to date.
# Of Stripe's SDK, which a test drives the double with:
sdk_lock := $(wildcard sandbox/honesty/package-lock.json)
sdk_done := $(if $(sdk_lock),sandbox/honesty/node_modules/.package-lock.json)

# Of the linter of the contract:
linter := openapi/node_modules/.package-lock.json

# Programs from PyPI that tests hold the service against.
peers := target/peers

# And of what the billing page is made with:
page_modules := frontend/node_modules/.package-lock.json
page_sources := $(shell find frontend/src frontend/public -type f) $(wildcard frontend/*.json frontend/*.html frontend/vite*.ts)
page_built := frontend/dist/demo/index.html

programs := $(or $(CARGO_TARGET_DIR),target)/debug

# Most tests wait most of the time, so more of them run at once than there are cores.
test_threads := $(or $(RUST_TEST_THREADS),$(shell expr 3 \* $$(getconf _NPROCESSORS_ONLN)))
run_soak := BILLHOOK_SOAK=1 scripts/with-postgres cargo test --no-fail-fast --package billhook

help: ## Lists what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-22s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

run: $(page_built) ## A whole billing system on this machine: service, billing page, Stripe double, demo tenants
	@node scripts/demo.mjs

test: $(sdk_done) $(peers)/.done ## Everything that must hold, on SQLite and on a throwaway PostgreSQL
	scripts/need sqlite3 jq curl openssl
	node --test $(wildcard scripts/*.test.mjs)
	RUST_TEST_THREADS=$(test_threads) scripts/with-postgres cargo test --workspace --no-fail-fast
	node scripts/walk-docs.mjs
	$(MAKE) page-test

$(peers)/.done: tests/requirements.txt
	python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore \
		--target $(peers) --upgrade --requirement $<
	@touch $@

soak: $(peers)/.done ## Kills and outages under load, random lives and tenants, and a fuzzer, at their full length: half an hour
	$(run_soak) --test endurance -- --nocapture
	$(run_soak) --test service -- random_lifecycles:: isolation:: schemathesis:: --nocapture

fuzz: ## Looks for input that breaks a parser: ten million of each, or FUZZ_RUNS, with cargo-fuzz
	scripts/fuzz

# The handler that the benchmark compares the service with:
hand_written := benches/webhooks/hand_written/node_modules/.package-lock.json

bench: $(peers)/.done $(hand_written) ## A renewal burst against a handler written by hand and what this machine can do at most, on SQLite and PostgreSQL: half an hour
	scripts/with-postgres --durable cargo bench --bench webhooks

instructions: ## The instructions that a webhook costs, against the baseline that is committed, where valgrind is installed
	node scripts/instructions.mjs

instructions-baseline: ## Makes them the baseline
	node scripts/instructions.mjs --renew

check: page-check openapi-lint ## Format and lints; warnings are errors
	cargo fmt --all --check
	cargo fmt --manifest-path fuzz/Cargo.toml --check
	cargo fmt --manifest-path benches/instructions/Cargo.toml --check
	cargo clippy --workspace --all-targets -- -D warnings

audit: ## What comes into the program from others, with cargo-deny and cargo-machete where they are installed
	scripts/audit

openapi: ## Writes the contract to openapi/billhook.json
	@mkdir -p openapi
	cargo run --quiet --bin billhook -- openapi > openapi/billhook.json.new || { rm -f openapi/billhook.json.new; exit 1; }
	mv openapi/billhook.json.new openapi/billhook.json

openapi-lint: $(linter) ## Holds openapi/billhook.json to the rules of a linter
	cd openapi && npm run --silent lint

client: $(page_modules) ## Generates the page's client from openapi/billhook.json
	cd frontend && npm run generate

page: $(page_built) ## Builds the billing page, for the demo and as a package

page-test: $(page_built) ## The page's tests, and the page in a browser against the service and the double
	cd frontend && npm test
	test -x $(programs)/billhook -a -x $(programs)/sandbox || cargo build --workspace --bins
	cd frontend && ../scripts/with-chromium npm run e2e

page-check: $(page_modules) ## The page's types and lints, and whether its client is what the contract generates
	cd frontend && npm run check
	scripts/client-drift

$(page_built): $(page_modules) $(page_sources)
	cd frontend && npm run build

%/node_modules/.package-lock.json: %/package-lock.json
	cd $* && npm ci --no-audit --no-fund
	@touch $@
