# What a developer types. Each target sets the machine up first; when that is done, it costs a moment.
#   PYTHON=/path/to/python3.13   the Python to make .venv with (otherwise one is found)
#   ARGS="..."                   passed on: make test ARGS="-k jail -x"

BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help setup demo test check format bench docs compat

help: ## show this list
	@grep -E '^[a-z]+:.*## ' Makefile | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 16

setup: ## make .venv with Frys, its tools and the system packages that are missing
	@scripts/setup

demo: setup ## run a plugin of each format and eight hostile ones
	@$(BIN)/frys demo $(ARGS)

test: setup ## run every test
	@$(BIN)/python -m pytest -n auto $(ARGS)

check: setup ## format, lint, types, import layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --strict frys_runtime launchers
	$(BIN)/lint-imports --no-logo

format: setup ## rewrite the files as `check` wants them
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup ## measure everything, next to its references
	@$(BIN)/frys bench $(ARGS)

docs: setup ## check the links and code blocks of every document
	@$(BIN)/python -m pytest tests/house/test_docs.py $(ARGS)

compat: setup ## install what others made, try it, and write docs/compatibility.md
	@$(BIN)/python scripts/compat $(ARGS)
