# Segwire. `make help` lists the targets.
PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 8000
DATA_DIR ?= data
SEED ?= 1
MINUTES ?= 15
HISTORIES ?= 5000
VENV_PYTHON := .venv/bin/python
FAST_TESTS := tests --ignore=tests/system --ignore=tests/browser
NPM := PATH="$(CURDIR)/.venv/bin:$$PATH" npm --prefix frontend_bridge/web
export PYTHONUNBUFFERED := 1

.PHONY: help setup demo scale-demo test check lint fast-tests web-tests bench bench-dispatch bench-peers bench-queue bench-crowd bench-scale bench-inference bench-reading bench-preprocess screenshots lock flow docs clean chaos faults real-cases histories fuzz

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 18

setup:  ## virtual environment, packages, browser files, tools for the tests
	@$(PYTHON) tools/setup.py

demo:  ## server, lab worker and a simulated patient, until Ctrl-C (HOST, PORT, DATA_DIR)
	@$(PYTHON) tools/setup.py --no-tools
	@exec $(VENV_PYTHON) tools/demo.py --host $(HOST) --port $(PORT) --data-dir $(DATA_DIR)

scale-demo: setup  ## two servers, PostgreSQL, Redis, three workers, nginx where it is, until Ctrl-C (PORT)
	@exec $(VENV_PYTHON) tools/scale_demo.py --port $(PORT)

test: setup web-tests  ## every test
	@$(VENV_PYTHON) -m pytest $(FAST_TESTS) -n 2 --dist loadfile
	@$(VENV_PYTHON) -m pytest tests/browser tests/system -n 2 --dist loadfile

check: setup lint web-tests fast-tests  ## format, lint, types, import rules, fast tests

lint:  ## format, lint, types and import rules
	@$(VENV_PYTHON) -m ruff format --check .
	@$(VENV_PYTHON) -m ruff check .
	@$(VENV_PYTHON) -m mypy
	@.venv/bin/lint-imports --no-logo
	@$(VENV_PYTHON) manage.py makemigrations --check --dry-run --verbosity 0

fast-tests:
	@$(VENV_PYTHON) -m pytest $(FAST_TESTS) -q -n 2 --dist loadfile

web-tests:
	@$(NPM) run --silent check
	@$(NPM) test --silent

bench: bench-dispatch bench-peers bench-queue bench-crowd bench-scale bench-inference bench-reading bench-preprocess  ## every benchmark

bench-dispatch: setup  ## click to worker, progress to browser, beside a bare WebSocket echo
	@$(VENV_PYTHON) -m benchmarks.dispatch

bench-peers: setup  ## the same wait with Celery, procrastinate and polling
	@$(VENV_PYTHON) -m benchmarks.peers

bench-queue: setup  ## one claim, one snapshot and the admin page with 1,000 to 100,000 queued jobs
	@$(VENV_PYTHON) -m benchmarks.queue

bench-crowd: setup  ## 1,000 workers and 2,000 browsers on one server
	@$(VENV_PYTHON) -m benchmarks.crowd

bench-scale: setup  ## 500 watchers of one job; two servers against one
	@$(VENV_PYTHON) -m benchmarks.scale

bench-inference: setup  ## the whole demo analysis beside the network's own time
	@$(VENV_PYTHON) -m benchmarks.analysis

bench-preprocess: setup  ## register, strip and resample a patient as scanned, stage by stage
	@$(VENV_PYTHON) -m benchmarks.preprocess

bench-reading: setup  ## upload to volumes ready, 4 x 155 slices, beside dcm2niix
	@$(VENV_PYTHON) -m benchmarks.reading

fuzz: setup  ## ask the API what its own document promises, many times (FUZZ_EXAMPLES)
	@FUZZ_EXAMPLES=$${FUZZ_EXAMPLES:-200} $(VENV_PYTHON) -m pytest tests/security/test_document.py -q

chaos: setup  ## random faults for MINUTES by SEED, SCALED=1 with Redis and PostgreSQL; the last line counts losses
	@$(VENV_PYTHON) tools/chaos.py --seed $(SEED) --minutes $(MINUTES) $(if $(SCALED),--scaled)

faults: setup  ## every row of the fault catalogue with real processes (slow)
	@$(VENV_PYTHON) -m pytest tests/system tests/server/histories -m "not campaign"

real-cases: setup  ## real studies from upload to mask, minutes each (needs ../shared/data)
	@$(VENV_PYTHON) -m pytest tests -m campaign

histories: setup  ## many random histories of the real services on a fake clock
	@HISTORIES=$(HISTORIES) $(VENV_PYTHON) -m pytest tests/server/histories

screenshots: setup  ## take the pictures of the README anew, of the simulated patient alone
	@SCREENSHOTS=docs/images $(VENV_PYTHON) -m pytest tests/browser -q -m "not real_data"

lock: setup  ## resolve requirements.lock anew
	@$(VENV_PYTHON) tools/lock.py

flow:  ## the way of a click, module by module
	@$(PYTHON) tools/flow.py

docs: setup  ## write the generated pages in docs/
	@$(VENV_PYTHON) tools/docs.py

clean:  ## remove what setup and demo made
	rm -rf .venv frontend_bridge/static frontend_bridge/web/node_modules data
