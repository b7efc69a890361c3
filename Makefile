# make train [ARGS="..."]: set up, then train.   make test: set up, then run the tests.
# Both set up once and again only when pyproject.toml or constraints.txt changed.
# pip also builds with these versions (PIP_CONSTRAINT up to pip 25.2, PIP_BUILD_CONSTRAINT after).
export PIP_CONSTRAINT := constraints.txt
export PIP_BUILD_CONSTRAINT := constraints.txt
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3 python; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
ARGS ?=
VENV := .venv
READY := $(VENV)/.ready

.PHONY: train test slow lint setup

train: $(READY)
	$(VENV)/bin/python src/train.py $(ARGS)

test: $(READY)
	$(VENV)/bin/python -m pytest -n 2 --dist worksteal $(ARGS)

slow: $(READY)
	$(VENV)/bin/python -m pytest -m slow $(ARGS)

lint: $(READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy src

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "fovea needs Python 3.11 or newer with venv and pip; make PYTHON=<path> says where it is"; exit 2; }
	test -x $(VENV)/bin/pip || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install -q -e ".[dev]"
	@touch $(READY)
