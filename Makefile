# `make run` and `make test` are all that a newcomer needs; each installs what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Tests that run beside each other. Many wait for a server, so they can be more than the CPUs.
JOBS ?= 4

# A variable that is set and empty is as one that is not set.
ifeq ($(strip $(PORT)),)
override PORT := 8000
endif
export PORT
ifeq ($(strip $(WEB_CONCURRENCY)),)
unexport WEB_CONCURRENCY
endif

.DEFAULT_GOAL := help
.PHONY: help run train test lint lock bench image sbom clean

help:  ## Show these targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

run: $(VENV)/.serve $(if $(IRIS_MODEL_DIR),,model/manifest.json)  ## Serve on 127.0.0.1:$PORT (8000); trains first if there is no model
	@exec $(BIN)/gunicorn wsgi:app

train: $(VENV)/.serve  ## Train again and replace the bundle in model/
	@$(BIN)/python train.py

test: $(VENV)/.dev  ## Run all tests with coverage, or some: ARGS="-k keys"
ifneq ($(strip $(ARGS)),)
	@$(BIN)/python -m pytest --no-cov $(ARGS)
else
	@$(BIN)/python -m pytest --cov -m "not load" -n $(JOBS) --dist loadfile --no-loadscope-reorder
	@$(BIN)/python -m pytest --no-cov -m load
endif

lint: $(VENV)/.dev $(VENV)/.bench  ## Check style, types and who imports whom
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports

lock: $(VENV)/.dev  ## Resolve the locks anew from pyproject.toml
	@for lock in "serve:" "train:--extra train -c requirements-serve.txt" \
	             "dev:--extra train --group dev -c requirements.txt" \
	             "bench:--extra train --group bench -c requirements.txt"; do \
	    name=$${lock%%:*}; file=requirements-$$name.txt; \
	    [ $$name = train ] && file=requirements.txt; \
	    $(BIN)/uv pip compile pyproject.toml $${lock#*:} --upgrade --universal --python-version 3.11 \
	        --generate-hashes --no-emit-index-url --quiet \
	        --custom-compile-command 'make lock' -o $$file || exit 1; \
	done

bench: $(VENV)/.bench model/manifest.json  ## Measure against the floor, tutorials and a rival (with Debian's wrk and nginx)
	@for each in wrk nginx; do command -v $$each >/dev/null || apt-get install -qqy $$each \
	    || { echo "make bench needs $$each: install it as root, then again"; exit 1; }; done
	@$(BIN)/python -m benchmarks.bench $(ARGS)

image:  ## Build the image iris-api, labelled with its commit
	@docker build --build-arg REVISION=$$(git rev-parse HEAD) \
	    --build-arg CREATED=$$(git log -1 --format=%cI) -t iris-api .

sbom: $(VENV)/.dev  ## Write sbom.cdx.json: what the image serves with, as CycloneDX
	@$(BIN)/uv venv --quiet --clear $(VENV)/sbom
	@$(BIN)/uv --no-config pip install --quiet --python $(VENV)/sbom --require-hashes \
	    --only-binary :all: --python-platform linux -r requirements-serve.txt \
	    --python-version $$(sed -n 's/^FROM python:\([0-9.]*\)-slim$$/\1/p' Dockerfile)
	@$(BIN)/cyclonedx-py environment --output-reproducible --validate --pyproject pyproject.toml \
	    -o sbom.cdx.json $(VENV)/sbom
	@rm -r $(VENV)/sbom

clean:  ## Remove the environment, the bundle and the caches
	@find model -mindepth 1 ! -path model/README.md -delete
	@rm -rf $(VENV) .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -prune -exec rm -rf {} +

model/manifest.json: | $(VENV)/.serve
	@$(BIN)/python train.py

$(VENV)/.serve: requirements.txt | $(VENV)/.made
	@echo "Installing what the service needs into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $<
	@touch $@

$(VENV)/.dev: requirements-dev.txt | $(VENV)/.made
	@echo "Installing what the tests need into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $<
	@touch $@ $(VENV)/.serve

$(VENV)/.bench: requirements-bench.txt | $(VENV)/.made
	@echo "Installing what the benchmarks need into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $<
	@touch $@ $(VENV)/.serve

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@
