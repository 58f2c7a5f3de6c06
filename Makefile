.DEFAULT_GOAL := help
.PHONY: help run test soak bench check openapi

# Stripe's SDK from npm, which a test drives the double with. npm writes the hidden lockfile when it is done, so it is
# newer than the lockfile exactly when the modules are up to date.
sdk_lock := $(wildcard sandbox/honesty/package-lock.json)
sdk_done := $(if $(sdk_lock),sandbox/honesty/node_modules/.package-lock.json)

# Programs from PyPI that tests hold the service against.
peers := target/peers
export BILLHOOK_TEST_PEERS := $(CURDIR)/$(peers)

# Compiling nextest only to run the tests once is too dear; cargo's own runner asks the same of the same tests.
nextest := $(shell command -v cargo-nextest)
run_tests := $(if $(nextest),cargo nextest run,cargo test) --workspace
run_soak := $(if $(nextest),cargo nextest run --profile soak --success-output final,cargo test) --package billhook

help: ## Lists what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

run: ## A whole billing system on this machine: service, Stripe double, demo tenants
	@node scripts/demo.mjs

test: $(sdk_done) $(peers)/.done ## Everything that must hold, on SQLite and on a throwaway PostgreSQL
	node --test $(wildcard scripts/*.test.mjs)
	scripts/with-postgres $(run_tests)

$(peers)/.done: tests/requirements.txt
	python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore \
		--target $(peers) --upgrade --requirement $<
	@touch $@

soak: ## Kills and outages under load, and random lives, at their full length: a quarter of an hour
	BILLHOOK_SOAK=1 scripts/with-postgres $(run_soak) --test endurance
	BILLHOOK_SOAK=1 scripts/with-postgres $(run_soak) --test service lives

bench: $(peers)/.done ## What telemetry costs, measured: ten minutes, on SQLite and PostgreSQL
	scripts/with-postgres cargo bench --bench telemetry

check: ## Format and lints; warnings are errors
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

openapi: ## Writes the contract to openapi/billhook.json
	@mkdir -p openapi
	cargo run --quiet --bin billhook -- openapi > openapi/billhook.json.new || { rm -f openapi/billhook.json.new; exit 1; }
	mv openapi/billhook.json.new openapi/billhook.json

sandbox/honesty/node_modules/.package-lock.json: sandbox/honesty/package-lock.json
	cd sandbox/honesty && npm ci --no-audit --no-fund
	@touch $@
