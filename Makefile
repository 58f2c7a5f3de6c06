.DEFAULT_GOAL := help
.PHONY: help run test soak fuzz bench instructions instructions-baseline check language audit openapi openapi-lint client page page-test page-check

# npm writes a hidden lockfile when it is done. It is newer than package-lock.json exactly when the
# modules are up to date. Modules of Stripe's SDK, which a test uses against the double:
sdk_lock := $(wildcard sandbox/honesty/package-lock.json)
sdk_done := $(if $(sdk_lock),sandbox/honesty/node_modules/.package-lock.json)

# Modules of the OpenAPI linter:
linter := openapi/node_modules/.package-lock.json

# Programs from PyPI that the tests run against the service:
peers := target/peers

# Modules, sources and output of the billing page:
page_modules := frontend/node_modules/.package-lock.json
page_sources := $(shell find frontend/src frontend/public -type f) $(wildcard frontend/*.json frontend/*.html frontend/vite*.ts)
page_built := frontend/dist/demo/index.html

programs := $(or $(CARGO_TARGET_DIR),target)/debug

# Most tests wait most of the time, so more of them run in parallel than there are cores.
test_threads := $(or $(RUST_TEST_THREADS),$(shell expr 3 \* $$(getconf _NPROCESSORS_ONLN)))
run_soak := BILLHOOK_SOAK=1 scripts/with-postgres cargo test --no-fail-fast --package billhook

help: ## Lists the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-22s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

run: $(page_built) ## Starts a complete billing system: service, billing page, Stripe double, demo tenants
	@node scripts/demo.mjs

test: $(sdk_done) $(peers)/.done ## Runs all tests, on SQLite and on a throwaway PostgreSQL
	scripts/need sqlite3 jq curl openssl
	node --test $(wildcard scripts/*.test.mjs)
	RUST_TEST_THREADS=$(test_threads) scripts/with-postgres cargo test --workspace --no-fail-fast
	node scripts/walk-docs.mjs
	$(MAKE) page-test

$(peers)/.done: tests/requirements.txt
	python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore \
		--target $(peers) --upgrade --requirement $<
	@touch $@

soak: $(peers)/.done ## Runs the long tests at full length: kills, outages, random lifecycles, fuzzing (half an hour)
	$(run_soak) --test endurance -- --nocapture
	$(run_soak) --test service -- random_lifecycles:: isolation:: schemathesis:: --nocapture

fuzz: ## Fuzzes the parsers with cargo-fuzz: ten million inputs each, or FUZZ_RUNS
	scripts/fuzz

# Modules of the handler that the benchmark compares the service with:
hand_written := benches/webhooks/hand_written/node_modules/.package-lock.json

bench: $(peers)/.done $(hand_written) ## Measures a renewal burst against a hand-written handler and the machine's limits (half an hour)
	scripts/with-postgres --durable cargo bench --bench webhooks

instructions: ## Counts a webhook's instructions with valgrind and compares them with the baseline
	node scripts/instructions.mjs

instructions-baseline: ## Writes the counts to the baseline
	node scripts/instructions.mjs --renew

check: language page-check openapi-lint ## Checks format, lints and language; warnings are errors
	cargo fmt --all --check
	cargo fmt --manifest-path fuzz/Cargo.toml --check
	cargo fmt --manifest-path benches/instructions/Cargo.toml --check
	cargo clippy --workspace --all-targets -- -D warnings

language: ## Checks the texts for words to avoid, and the length of test names
	scripts/check-language

audit: ## Checks the dependencies with cargo-deny and cargo-machete, if installed
	scripts/audit

openapi: ## Writes the OpenAPI document to openapi/billhook.json
	@mkdir -p openapi
	cargo run --quiet --bin billhook -- openapi > openapi/billhook.json.new || { rm -f openapi/billhook.json.new; exit 1; }
	mv openapi/billhook.json.new openapi/billhook.json

openapi-lint: $(linter) ## Lints openapi/billhook.json
	cd openapi && npm run --silent lint

client: $(page_modules) ## Generates the page's client from openapi/billhook.json
	cd frontend && npm run generate

page: $(page_built) ## Builds the billing page, for the demo and as a package

page-test: $(page_built) ## Runs the page's tests, and tests it in a browser with the service and the double
	cd frontend && npm test
	test -x $(programs)/billhook -a -x $(programs)/sandbox || cargo build --workspace --bins
	cd frontend && ../scripts/with-chromium npm run e2e

page-check: $(page_modules) ## Checks the page's types and lints, and that its client is up to date
	cd frontend && npm run check
	scripts/client-drift

$(page_built): $(page_modules) $(page_sources)
	cd frontend && npm run build

%/node_modules/.package-lock.json: %/package-lock.json
	cd $* && npm ci --no-audit --no-fund
	@touch $@
