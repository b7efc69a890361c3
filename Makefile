# make train [ARGS="..."]: install what training needs, then train.
# make test, slow, lint:   install the tools too, then run them.
# Installing happens once, and again when pyproject.toml or constraints.txt changed.
export PIP_CONSTRAINT := constraints.txt
export PIP_BUILD_CONSTRAINT := constraints.txt
export UV_CONSTRAINT := constraints.txt
export UV_BUILD_CONSTRAINT := constraints.txt
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3 python; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
ARGS ?=
VENV := .venv
PIP := $(VENV)/bin/python -m pip
TRAIN := $(VENV)/.ready-train
DEV := $(VENV)/.ready-dev

.PHONY: train test slow lint setup

train: $(TRAIN)
	$(VENV)/bin/python src/train.py $(ARGS)

test: $(DEV)
	$(VENV)/bin/python -m pytest -n 2 --dist worksteal $(ARGS)

slow: $(DEV)
	$(VENV)/bin/python -m pytest -m slow -n 2 --dist worksteal $(ARGS)

lint: $(DEV)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy src tests scripts

setup: $(DEV)

# uv is faster than pip and doesn't read pip's settings: it is told which indexes pip uses. If uv fails, pip installs.
pip_uses = $(shell $(PIP) config list 2>/dev/null | sed -n "s/^[^=]*\.$(1)='\(.*\)'$$/\1/p" | sed 's/\\n/ /g' | head -n 1)
UV = UV_DEFAULT_INDEX="$(or $(UV_DEFAULT_INDEX),$(call pip_uses,index-url))" \
	UV_INDEX="$(or $(UV_INDEX),$(call pip_uses,extra-index-url))" \
	UV_FIND_LINKS="$(or $(UV_FIND_LINKS),$(call pip_uses,find-links))" \
	UV_INDEX_STRATEGY=unsafe-best-match $(VENV)/bin/uv
define install
@echo "installing $(1) into $(VENV): minutes for the first time"
@{ $(PIP) install -q uv && $(UV) pip install -q --python $(VENV)/bin/python -e "$(1)"; } 2>/dev/null \
	|| $(PIP) install -q -e "$(1)"
endef

$(TRAIN): pyproject.toml constraints.txt | $(VENV)/bin/pip
	$(call install,.)
	@touch $(TRAIN)

$(DEV): pyproject.toml constraints.txt | $(VENV)/bin/pip
	$(call install,.[dev])
	@touch $(TRAIN) $(DEV)

$(VENV)/bin/pip:
	@test -n "$(PYTHON)" || { echo "fovea needs Python 3.11 or newer with venv and pip; make PYTHON=<path> says where it is"; exit 2; }
	$(PYTHON) -m venv $(VENV)
