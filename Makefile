# `make demo` and `make test` are all a newcomer needs; each makes .venv by itself.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints/constraints.txt
DEMO_ARGS ?=
TEST_ARGS ?=
DATA ?= $(MATINEE_TEST_DATA)
MINUTES ?= 10
SOAK_ARGS ?=

.PHONY: help demo test check bench soak kafka docs clean
help:  ## What there is to make
	@grep -E '^[a-z.]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 10

$(VENV)/.made:
	$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) else "matinee needs Python 3.11 to 3.13; name one: make PYTHON=python3.12 …")'
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.installed: $(VENV)/.made pyproject.toml constraints/constraints.txt
	@echo "Installing matinee into $(VENV) …"
	$(PIP) --editable .
	touch $@

$(VENV)/.developer: $(VENV)/.installed
	@echo "Installing what tests and checks need …"
	$(PIP) --editable '.[dev]'
	touch $@

.venv: $(VENV)/.developer  ## The virtual environment, with everything for development

demo: $(VENV)/.installed  ## From a stream to recommendations with titles you know (DEMO_ARGS="--seconds 5")
	$(BIN)/matinee demo $(DEMO_ARGS)

test: $(VENV)/.developer  ## All tests (TEST_ARGS="tests/lake -k compact")
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal $(TEST_ARGS)

check: $(VENV)/.developer  ## Format, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.developer  ## The benchmarks (DATA=folder with the real data sets)
	@test -n "$(DATA)" || { echo "Name the folder of real data: make bench DATA=…"; exit 2; }
	$(BIN)/python benchmarks/read.py --path $(DATA)/movielog/movielog.csv.gz
	$(BIN)/python benchmarks/ingest.py --path $(DATA)/movielog/movielog.csv.gz --log sqlite broker
	$(BIN)/python benchmarks/freshness.py --log sqlite broker
	$(BIN)/python benchmarks/surprise_table.py --path $(DATA)/ml-100k
	$(BIN)/python benchmarks/surprise_table.py --dataset movielens-1m --path $(DATA)/ml-1m --models svd
	$(BIN)/python benchmarks/serving.py
	$(BIN)/python benchmarks/scale.py --largest 1
	$(BIN)/python benchmarks/bundle.py --users 10000
	$(BIN)/python benchmarks/reranking.py --data movielens-100k=$(DATA)/ml-100k
	$(BIN)/python benchmarks/world.py

soak: $(VENV)/.developer  ## Everything at once at 10,000 lines/s (MINUTES=10 SOAK_ARGS="--viewers 1000000 --items 27000")
	@mkdir -p benchmarks/results
	$(BIN)/python benchmarks/soak.py --minutes $(MINUTES) --picture benchmarks/results/soak.png --report benchmarks/results/soak.json $(SOAK_ARGS)

kafka:  ## Apache Kafka on 127.0.0.1:9092, one node, fetched with Maven; its data in .matinee/kafka; Ctrl-C ends it
	deploy/kafka/kafka fetch
	@echo 'It runs until Ctrl-C. Elsewhere: MATINEE_LOG__URL="kafka://127.0.0.1:9092/matinee?partitions=4" matinee ingest'
	deploy/kafka/kafka run .matinee/kafka

docs: $(VENV)/.developer  ## Check that the commands and figures in the documentation are true
	$(BIN)/python -m pytest tests/cli

clean:  ## Remove the virtual environment and caches (never .matinee)
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
