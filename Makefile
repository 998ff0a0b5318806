# Set-up, checks and the demo. PYTHON names the interpreter that makes the environment.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --disable-pip-version-check --quiet --constraint constraints.txt

.PHONY: run test check long slow clusters chaos chaos-short bench bench-gpu clean

run: $(VENV)/.installed
	$(BIN)/gansweep run sweeps/wgan_clip.yaml

# In two processes, each of which takes a file at a time.
test: $(VENV)/.installed-dev
	$(BIN)/pytest --numprocesses=2 --dist=loadfile $(ARGS)

# What would make `make test` longer than ten minutes on two cores.
long: $(VENV)/.installed-dev
	$(BIN)/pytest -m "long and not slow" --ignore=tests/launch $(ARGS)

slow: $(VENV)/.installed-dev
	$(BIN)/pytest -m slow

# Raylets, Ray Jobs, a Slurm of two nodes and a PostgreSQL, which the tests start: for it they need root, and
# Debian's slurm-wlm, munge, postgresql and chromium. ARGS=--no-skips: a test that skips fails the run.
clusters: $(VENV)/.installed-dev
	$(BIN)/pytest tests/launch tests/e2e/test_shared_server.py -m "slurm or long or tracking" $(ARGS)

# A hundred random faults in real sweeps; CHAOS_FAULTS=10 CHAOS_SEED=1 for fewer, and the same again.
chaos: $(VENV)/.installed-dev
	$(BIN)/pytest -m soak -s --timeout=0

# A few kinds of kill in about three minutes.
chaos-short: $(VENV)/.installed-dev
	$(BIN)/pytest -m chaos_short -s

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The figures of docs/PERFORMANCE.md on this machine; ARGS="--quick", ARGS="--only single".
bench: $(VENV)/.installed
	$(BIN)/python -m benchmarks $(ARGS)

# For a bare GPU machine: where there is no .venv, PYTHON with torch, lightning and omegaconf does.
bench-gpu:
	$(or $(wildcard $(BIN)/python),$(PYTHON)) -m benchmarks.gpu $(ARGS)

$(VENV)/bin/pip:
	$(PYTHON) -m venv $(VENV)

# torch first and by itself: its pinned version then keeps other packages from taking another build.
$(VENV)/.torch: constraints.txt | $(VENV)/bin/pip
	$(PIP) torch
	touch $@

$(VENV)/.installed: pyproject.toml constraints.txt $(VENV)/.torch
	$(PIP) --editable '.[tpe,hub]'
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV)
