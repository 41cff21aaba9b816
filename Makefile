# Two commands do everything: `make run` starts the product, `make test` proves it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
SOURCES := setup.py pyproject.toml $(wildcard ingest/codec/*.pyx ingest/codec/*.pxd)
FUZZ_SECONDS ?= 15
SEEDS ?= 100
ITEMS ?= 100000
SCALE ?= 1
# A file at a time for each; the long ones come first (tests/conftest.py).
WORKERS := -n 2 --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help run migrate new-module proto test format lint bench bench-queries capacity fuzz asan attacks chaos crash-matrix \
	contract-table contract-mutants wheel lock clean doctor

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

run: $(VENV)/.built ## everything on this machine: OTLP on 4317 and 4318, API on 3000, ClickHouse on 8123
	@$(BIN)/telemetryflow up

migrate: $(VENV)/.built ## bring the tables of both stores up to date
	@$(BIN)/telemetryflow migrate

new-module: $(VENV)/.built ## scaffold a context: make new-module NUMBER=1600 NAME=new_feature
	@$(BIN)/telemetryflow new-module $(NUMBER) $(NAME)

test: $(VENV)/.dev $(VENV)/.built $(VENV)/.s3 ## all tests, linters and type checks among them
	$(BIN)/python -m pytest tests --ignore=tests/e2e --ignore=tests/chaos $(WORKERS)
	$(BIN)/python -m pytest tests/e2e tests/chaos $(WORKERS)

format: $(VENV)/.dev ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: $(VENV)/.dev $(VENV)/.built ## only the linters, type checks and rules of the source
	$(BIN)/python -m pytest tests/test_source.py

bench: $(VENV)/.dev $(VENV)/.built ## micro benchmarks: CPU seconds per million items
	$(BIN)/python -m pytest benchmarks/micro --benchmark-only --benchmark-columns=min,median,rounds

bench-queries: $(VENV)/.dev $(VENV)/.built ## how fast telemetry is read from 200 M rows (6 GB in build/dataset); SCALE=0.01 for a try
	$(BIN)/python -m benchmarks.reading --scale $(SCALE) --folder build/dataset-$(SCALE)

capacity: $(VENV)/.dev $(VENV)/.built ## how much a core carries, beside other tools: build/capacity/capacity.html
	$(PIP) install --quiet --require-hashes -r requirements/capacity.txt
	$(BIN)/python -m benchmarks.capacity $(CAPACITY)

fuzz: $(VENV)/.dev $(VENV)/.built ## fuzz the codec under AddressSanitizer (needs clang and Python 3.11)
	$(PIP) install --quiet --require-hashes -r requirements/fuzz.txt
	$(BIN)/python tests/fuzz/run.py --seconds $(FUZZ_SECONDS)

asan: $(VENV)/.dev $(VENV)/.built ## the codec's unit tests under AddressSanitizer (needs clang and Python 3.11)
	$(PIP) install --quiet --require-hashes -r requirements/fuzz.txt
	$(BIN)/python tests/fuzz/run.py --unit-tests

attacks: $(VENV)/.dev $(VENV)/.built ## attack a gateway at full size, on both gRPC engines; prints tables
	$(BIN)/python -m tests.attacks
	$(BIN)/python -m tests.attacks --engine grpcio

chaos: $(VENV)/.dev $(VENV)/.built ## the long chaos campaign on Kafka, SEEDS x ITEMS; writes docs/chaos/kafka.md
	$(BIN)/python -m tests.chaos.campaign --seeds $(SEEDS) --items $(ITEMS) --log kafka \
		--folder $$(mktemp -d) --report docs/chaos/kafka.md

crash-matrix: $(VENV)/.dev $(VENV)/.built ## let each process die at each point; writes docs/chaos/crash-matrix.md
	$(BIN)/python -m tests.chaos.crash_matrix --folder $$(mktemp -d) --report docs/chaos/crash-matrix.md

contract-table: $(VENV)/.dev ## write docs/otlp-contract.md anew
	$(BIN)/python -m tests.contract.table

contract-mutants: $(VENV)/.dev $(VENV)/.built ## break the OTLP contract in every way we know; the suite must notice
	$(BIN)/python -m tests.mutants.contract

wheel: $(VENV)/.dev ## a wheel with the compiled codec in dist/
	$(BIN)/python -m build --wheel --no-isolation --outdir dist

lock: $(VENV)/.dev ## compile requirements/*.txt anew (needs uv)
	sh requirements/compile.sh

clean: ## remove the environment and everything built
	rm -rf $(VENV) build dist *.egg-info ingest/codec/*.so

doctor:
	@sh requirements/doctor.sh "$(PYTHON)"

$(BIN)/python:
	@$(MAKE) --no-print-directory doctor
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: requirements/runtime.txt requirements/build.txt | $(BIN)/python
	$(PIP) install --quiet --require-hashes -r requirements/runtime.txt -r requirements/build.txt
	@touch $@

$(VENV)/.dev: requirements/dev.txt | $(VENV)/.runtime
	$(PIP) install --quiet --require-hashes -r requirements/dev.txt
	@touch $@

$(VENV)/.s3: requirements/s3.txt | $(VENV)/.dev
	$(BIN)/python -m venv $(VENV)/s3
	$(VENV)/s3/bin/python -m pip --disable-pip-version-check install --quiet --require-hashes -r requirements/s3.txt
	@touch $@

$(VENV)/.built: $(SOURCES) | $(VENV)/.runtime
	$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

proto: $(VENV)/.dev ## generate code from proto/
	$(BIN)/python -m grpc_tools.protoc -I proto/telemetryflow/directory/v1 --python_out shared/directory --pyi_out shared/directory directory.proto
