# Two commands: `make serve` runs the service on the demo checkpoint, `make test` runs the tests.
# Both first bring .venv to exactly what requirements.lock says.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin
LOCKS := requirements.lock deploy/build.lock

.PHONY: serve test check format readme docs lock

serve: $(VENV)/installed
	$(RUN)/python -m service serve

test: $(VENV)/installed
	$(RUN)/python -m pytest

check: $(VENV)/installed
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/mypy
	$(RUN)/lint-imports

format: $(VENV)/installed
	$(RUN)/ruff check --fix .
	$(RUN)/ruff format .

# Renews the README's tables and the output of its examples.
readme: $(VENV)/installed
	$(RUN)/python -m tests.readme.commands

# Writes the audit's pages and its schema from the checks.
docs: $(VENV)/installed
	$(RUN)/python -m tests.docs.pages

# Writes versions and hashes, no addresses.
lock: $(VENV)/installed
	$(RUN)/uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-emit-find-links --no-header --upgrade -q -o requirements.lock
	$(RUN)/uv pip compile deploy/build.in --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-emit-find-links --no-header --upgrade -q -o deploy/build.lock

# uv comes from deploy/build.lock, then `sync` removes what no lock names, so a warm folder cannot hide a change.
# Compiled, because the service imports a great deal: it is ready in half the time.
$(VENV)/installed: $(LOCKS) pyproject.toml Makefile
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)
	$(RUN)/python -m pip install -q --require-hashes --only-binary :all: -r deploy/build.lock
	VIRTUAL_ENV=$(VENV) $(RUN)/uv pip sync -q --require-hashes --compile-bytecode $(LOCKS)
	VIRTUAL_ENV=$(VENV) $(RUN)/uv pip install -q --no-deps --build-constraints deploy/build.lock -e .
	@touch $@
