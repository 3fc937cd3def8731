# `make evolve` and `make test` work from a bare clone: they need python3 (3.11+), make and git.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# The packages laid out as they are imported, for the type checker, which does not follow package-dir.
TYPED := $(VENV)/typed

# What `make evolve` runs. For example: make evolve POPULATION=100 SEED=1
GENERATIONS ?= 200
POPULATION ?= 30
SEED ?= 0

.PHONY: install evolve test test-all bench lint clean

install: $(STAMP)

# Editable, so a second call reuses it and code changes need no reinstall.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("autoprox needs Python 3.11 or newer, this is %d.%d" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

# On the embedded benchmark: nothing is downloaded.
evolve: $(STAMP)
	$(BIN)/autoprox evolve --generations $(GENERATIONS) --population $(POPULATION) --seed $(SEED)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@rm -rf $(TYPED) && mkdir -p $(TYPED) && cp -R autoprox $(TYPED) && cp -R primitives evolve bench_cache $(TYPED)/autoprox
	MYPYPATH=$(TYPED) $(BIN)/mypy -p autoprox

test: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-all: lint
	$(BIN)/python -m pytest -n 2 -m 'slow or not slow' --timeout=3600 --hypothesis-profile=thorough

# One table a script, each in a process of its own; docs/performance.md says how to read them. Short: make bench QUICK=1
QUICK ?=
# A Python that has gplearn and pyoperon, and other options of benchmarks/builds.py, such as BUILDS="--repeats 1".
PEERS ?=
BUILDS ?=
# A GPU to compare with two cores, such as DEVICE=cuda, and other options of benchmarks/growth.py, such as GROWTH=--dask.
DEVICE ?=
GROWTH ?=
# The build that is measured beside this one, from the repository's history.
EARLIER := a560aa6

bench: $(STAMP)
	@rm -rf $(VENV)/earlier
	@if git cat-file -e $(EARLIER) 2>/dev/null; then \
		mkdir $(VENV)/earlier && git archive $(EARLIER) | tar -x -C $(VENV)/earlier; \
	else \
		echo "No earlier build: this clone's history has no $(EARLIER); git fetch --unshallow"; \
	fi
	@for script in builds tables throughput scaling bandwidth footprint latency growth device; do \
		more=; case $$script in builds|tables) [ -d $(VENV)/earlier ] && more="--earlier $(VENV)/earlier";; esac; \
		case $$script in builds) more="$$more $(BUILDS)";; tables) more="$$more $(if $(PEERS),--peers $(PEERS))";; \
			growth) more="$(GROWTH)";; device) more="--device $(DEVICE)";; esac; \
		if [ $$script = device ] && [ -z "$(DEVICE)" ]; then \
			echo "No GPU was compared with two cores: DEVICE=cuda names one"; continue; \
		fi; \
		$(BIN)/python benchmarks/$$script.py $$more $(if $(QUICK),--quick) || exit 1; echo; \
	done

clean:
	rm -rf $(VENV) build dist *.egg-info runs
