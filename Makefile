# make demo   set up and run the main job on the built-in corpus and task; prints where the page is
# make test   set up and run the linters and the default tests; SLOW=1 runs the slow tests too; COVERAGE=1 counts the lines
#             that tests reach and refuses too few, which takes twice the time
# make lint   set up and run the linters alone

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: demo test lint format setup clean

demo: setup
	$(BIN)/potstill demo

test: lint
	$(BIN)/python -m pytest -n auto --maxprocesses 4 \
		$(if $(SLOW),-m "slow or not slow",) $(if $(COVERAGE),--cov=potstill --cov-report=term:skip-covered,)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[demo,dev]"
	# An oracle of the tests; its own requirements (torchvision, cython) are for what the tests do not touch.
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps torchdistill
	touch $(READY)

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .coverage
