# The commands of the README. Needs Python 3.11, make and a C compiler.
PYTHON   ?= python3.11
VENV     ?= .venv
# Options for pip, such as an index with CPU builds of torch.
PIP_ARGS ?=
# Folder of shared test vectors; the tests that read them are skipped when empty.
GOLDEN   ?=
# Folder of benchmark data, for the tests that read it.
DATA     ?=
# Options for pytest, such as -k or -x.
ARGS     ?=

bin    := $(VENV)/bin
# Named after what was installed: a checkout gives files any age.
stamp  := $(VENV)/.installed-$(firstword $(shell cat requirements/cpu.lock pyproject.toml | cksum))
# Status 5: no test was chosen, as by ARGS="-k name".
chosen := || test $$? -eq 5
pytest := $(bin)/python -m pytest $(if $(GOLDEN),--golden="$(GOLDEN)") $(if $(DATA),--data="$(DATA)") $(ARGS)

.PHONY: env demo docs test test-full lint clean

env: $(stamp)

$(stamp):
	test -x $(bin)/python || $(PYTHON) -m venv $(VENV)
	$(bin)/python -m pip install --disable-pip-version-check --quiet $(PIP_ARGS) --no-deps -r requirements/cpu.lock
	$(bin)/python -m pip install --disable-pip-version-check --quiet $(PIP_ARGS) --no-deps --editable .
	rm -f $(VENV)/.installed*
	touch $@

demo: env
	$(bin)/python -m examples.demo

docs: env
	$(bin)/python -m mkdocs build --strict

lint: env
	$(bin)/ruff check .
	$(bin)/ruff format --check .
	$(bin)/mypy

# The plain tests in two processes; the end-to-end tests one after the other, since two would not fit into the memory.
test: lint
	$(pytest) -n 2 --dist loadfile -m "not e2e and not full" $(chosen)
	$(pytest) -m "e2e and not full" $(chosen)

test-full: lint
	$(pytest) -n 2 --dist loadfile -m "not e2e" $(chosen)
	$(pytest) -m e2e $(chosen)

clean:
	rm -rf $(VENV) .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist outputs
