# make demo   sets up, then trains a small student five ways on few of the embedded images, and compares them
# make smoke  sets up if needed, then makes every table and figure but ImageNet's on embedded data, and tunes
# make test   sets up if needed, then runs the tests
# make test-lowest  a part of the tests with the oldest versions that are allowed (constraints-lowest.txt)
# make docs   sets up if needed, then builds the site of the documentation: site/index.html
# RESULTS=FOLDER  with demo and smoke: where their results go, instead of results/
# LOCKED=1    with any target: sets up with the versions that were tested (constraints.txt)
PYTHON ?= python3
BIN := .venv/bin
LOWEST := tests/data/test_decoding.py tests/data/test_imagenet.py tests/data/test_number_files.py tests/networks \
  tests/methods/test_pairs.py tests/export/test_export.py tests/test_config.py

RESULTS ?= results

.PHONY: demo smoke test test-lowest test-all lint types docs perf clean

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
	$(BIN)/python run_all.py tune none,kd,sskd --budget 3 --studies 2 --profile smoke --results "$(RESULTS)"

# one test process for each core, one thread each: two threads in one process wait for each other where cores are few
test: .venv/ready
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto -m "not slow and not slurm and not browser"

test-all: .venv/ready
	$(BIN)/python -m pytest

# the oldest versions that pyproject.toml allows, in an environment that is made for this and deleted: a small part of
# the fast tests, and the demo
test-lowest:
	@set -e; lowest=$$(mktemp -d); trap 'rm -rf "$$lowest"' EXIT; \
	$(PYTHON) -m venv "$$lowest"; \
	"$$lowest/bin/pip" install --quiet --no-cache-dir --disable-pip-version-check --constraint constraints-lowest.txt \
	  --editable '.[onnx,timm]' pytest pytest-xdist hypothesis; \
	OMP_NUM_THREADS=1 "$$lowest/bin/python" -m pytest -n auto -p no:cacheprovider -m "not slow" $(LOWEST); \
	"$$lowest/bin/python" run_all.py --profile demo --seeds 0 --results "$$lowest/results"

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
