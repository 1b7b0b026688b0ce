# make demo   sets up, then trains a small student five ways on embedded data, and compares them
# make smoke  sets up if needed, then makes every table and figure but ImageNet's on embedded data
# make test   sets up if needed, then runs the tests
# make docs   sets up if needed, then builds the site of the documentation: site/index.html
# RESULTS=FOLDER  with demo and smoke: where their results go, instead of results/
# LOCKED=1    with any target: sets up with the versions that were tested (constraints.txt)
PYTHON ?= python3
BIN := .venv/bin

RESULTS ?= results

.PHONY: demo smoke test test-all lint types docs perf clean

# newer than what was set up without it, so that LOCKED=1 also mends an environment that is there
.venv/locked: constraints.txt
	@mkdir -p .venv && touch $@

.venv/ready: pyproject.toml $(if $(LOCKED),.venv/locked)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "Python 3.10 or newer is needed; name one: make PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check $(if $(LOCKED),--constraint constraints.txt) --editable '.[dev,docs]'
	@touch $@

demo: .venv/ready
	$(BIN)/python run_all.py --profile demo --results "$(RESULTS)"

smoke: .venv/ready
	$(BIN)/python run_all.py --profile smoke --results "$(RESULTS)"

# one test process for each core, one thread each: two threads in one process wait for each other where cores are few
test: .venv/ready
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto -m "not slow and not slurm and not browser"

test-all: .venv/ready
	$(BIN)/python -m pytest

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/ready
	$(BIN)/mypy

# the variable silences an advertisement of the theme's makers
docs: .venv/ready
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

perf: .venv/ready
	$(BIN)/python -m perf.training_speed

clean:
	rm -rf .venv
