# Everything that a user or CI runs. `make demo` and `make test` need Python 3.11 or 3.12 with venv, and nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
TASK ?= lift
RUN := runs/demo-$(TASK)-$(shell date +%Y%m%d-%H%M%S)

.PHONY: install demo test test-slow lint clean

install: $(INSTALLED)

# torch first, by its exact version and with its own dependencies; then the lock, which is complete, without resolving.
$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' || \
		{ echo "error: $$($(PYTHON) --version) found, robopolicy needs 3.11 or 3.12: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $$(grep '^torch==' requirements.lock)
	$(BIN)/python -m pip install --quiet --no-deps -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $(INSTALLED)

# The main job from end to end: demonstrations, training, evaluation, one report.
demo: install
	$(BIN)/python scripts/collect.py task=$(TASK) out=data/$(TASK) run_folder=$(RUN)/collection
	$(BIN)/python scripts/train.py policy=diffusion task=$(TASK) data=data/$(TASK) run_folder=$(RUN)
	$(BIN)/python scripts/eval.py run=$(RUN) run_folder=$(RUN)/evaluation
	@echo "the policy: $(RUN); for example: $(BIN)/python scripts/eval.py run=$(RUN) sampler=rti execution=1"

test: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m "not slow"

test-slow: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV)
