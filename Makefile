# make help lists the targets. Each one first sets up what is missing: system packages, then .venv.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

# The system's Python: libvirt's binding and the lab must not depend on what is first in somebody's PATH.
PYTHON ?= /usr/bin/python3
# More arguments for pytest or the benchmark: make test ARGS='-k lab'
ARGS ?=

BIN := .venv/bin
READY := .venv/.ready
# Published clients of the API, each in an environment of its own: their dependencies must not meet ours.
CLIENTS := .clients/gandi.cli/.ready .clients/libcloud/.ready
KEPT := CI,HYPERVISOR_CONFIG,HYPERVISOR_LISTEN,HYPERVISOR_STATE,HYPERVISOR_API_KEY,HYPERVISOR_LIBVIRT_URI
# A lab needs root.
AS_ROOT := $(if $(filter-out 0,$(shell id -u)),sudo --preserve-env=$(KEPT))

.PHONY: help setup run test long coverage bench faults fuzz lint format clean packages images tiny debian-12 clients

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## install what is missing: system packages (with sudo), then the Python environment

run: $(READY) ## serve the API; prints the endpoint, a key and a first VM to paste
	@$(AS_ROOT) $(BIN)/hypervisor serve --setup

test: lint images clients ## lint, then run every test in private labs
	$(AS_ROOT) $(BIN)/python -m tests $(ARGS)

long: images ## run the tests that take too long for make test: an hour and more
	$(AS_ROOT) $(BIN)/python -m tests -m long
	$(AS_ROOT) $(BIN)/python -m tests tests/migration/faults.py tests/migration/faults_between.py -s

coverage: $(READY) ## renew docs/coverage.md from what the last make test recorded
	@test -e .recording.json || { echo 'coverage: there is no .recording.json: run make test first' >&2; exit 1; }
	@$(BIN)/hypervisor coverage --check --recording .recording.json || echo 'coverage: no longer claimed from now on'
	cp .recording.json api/coverage/recorded.json
	$(BIN)/hypervisor coverage > docs/coverage.md

bench: tiny ## print the performance table
	$(AS_ROOT) $(BIN)/hypervisor lab -- $(BIN)/python -m tests.bench $(ARGS)

faults: tiny ## kill service and libvirtd, fill disks: ARGS='--service 500 --libvirtd 100 --full 50'
	$(AS_ROOT) $(BIN)/hypervisor lab -- $(BIN)/python -m tests.faults $(ARGS)

fuzz: $(READY) ## search for what breaks the codec and the methods: make fuzz ARGS='600 codec'
	@$(BIN)/python -c 'import atheris' 2>/dev/null || $(BIN)/python -m pip install --quiet --editable '.[fuzz]'
	$(BIN)/python -m tests.fuzz $(ARGS)

lint: $(READY) ## check style, types and the layers
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY) ## bring the code into form
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean: ## remove the environment and all caches; the service's data stays
	$(if $(AS_ROOT),sudo) rm -rf .venv .clients .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache \
		.fuzz .recording.json
	$(if $(AS_ROOT),sudo) find api hypervisor tests -name __pycache__ -prune -exec rm -rf {} +

# The images that the tests boot; nothing to do once they are there.
images: tiny debian-12

tiny debian-12: $(READY)
	@$(AS_ROOT) $(BIN)/hypervisor image build $@

# The clients that the tests drive; installed here because a lab has no network.
clients: $(CLIENTS)

packages:
	@vagrant/provision.sh --check >/dev/null || vagrant/provision.sh

$(READY): pyproject.toml | packages
	@echo 'setup: making .venv with $(PYTHON)'
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

.clients/gandi.cli/.ready: WANTED := gandi.cli click setuptools
.clients/libcloud/.ready: WANTED := apache-libcloud
.clients/%/.ready: tests/clients/pins.txt | packages
	@echo 'setup: making .clients/$*'
	@$(PYTHON) -m venv --clear .clients/$*
	@.clients/$*/bin/python -m pip install --quiet --disable-pip-version-check --constraint $< $(WANTED)
	@touch $@
