# What people type. The work is in .ci/; `make help` lists the targets.

SHELL := /bin/bash
# rustup's tool chain before Debian's older one, also where its folder is not on the PATH yet.
export PATH := $(HOME)/.cargo/bin:$(PATH)

LISTEN ?= 127.0.0.1:8080
DATA ?= ./data

.DEFAULT_GOAL := help
.PHONY: help run test check bench ui openapi clients fmt clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## install what is missing, build, and serve on 127.0.0.1:8080 (LISTEN=) with the data in ./data (DATA=)
	@.ci/install run
	@.ci/ui
	@cargo run --locked -- serve --listen $(LISTEN) --data-dir $(DATA) --backend local

test: ## install the tool chains of all languages, and run every test
	@.ci/install test
	@.ci/test

check: ## what CI checks beside the tests: format, lints, docs, dependencies, OpenAPI
	@.ci/install check
	@.ci/check

bench: ## measure sandbox, engine and backends against bare programs, in one table (ROWS=, JSON=file)
	@.ci/install bench
	@cargo bench --locked --bench overhead -- $(ROWS) $(if $(JSON),--json $(JSON))

ui: ## build the pages, which the next build of the binary embeds
	@.ci/ui --must

openapi: ## write openapi/openapi.json anew from the code
	@cargo run --locked --quiet -- openapi > openapi/openapi.json.new
	@mv openapi/openapi.json.new openapi/openapi.json

clients: ## generate clients in five languages from the OpenAPI description, and build them, into target/clients/
	@.ci/clients

fmt: ## format the code
	@cargo fmt

clean: ## remove what was built; the data stays
	@cargo clean
