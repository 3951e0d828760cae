# `make` lists the targets. Everything runs in .venv, which setup.sh creates from requirements.lock.
# Nothing is written outside this folder: compiled kernels and Kafka's jars go to .cache, or to $TIDEGATE_CACHE_DIR.

export TIDEGATE_CACHE_DIR ?= $(CURDIR)/.cache

BIN := .venv/bin
CODE := topics engine tests $(wildcard benchmarks)
UV := uv==0.13.9
COMPILE = env -u UV_FIND_LINKS -u PIP_FIND_LINKS UV_CUSTOM_COMPILE_COMMAND='make lock' .cache/uv/bin/uv pip compile pyproject.toml \
	--universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --quiet $(ARGS)

.PHONY: help setup demo lint test e2e nightly evaluate closed-loop bench bench-carryover bench-model bench-edge bench-wire bench-operator bench-watching soak flood faults lock docs clean

help: ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' Makefile | while IFS="$$(printf '\t')" read -r name text; do printf '  make %-16s %s\n' "$$name" "$$text"; done

setup: ## create .venv (needs only Python 3.11 or newer; PYTHON=... selects the interpreter)
	@./setup.sh
	@$(BIN)/python -m engine.broker

demo: setup ## process a simulated month of mail with Kafka and the engine (ARGS="--help": options)
	@$(BIN)/tidegate demo $(ARGS)

lint: setup ## run ruff and mypy
	@$(BIN)/ruff check $(CODE)
	@$(BIN)/ruff format --check --quiet $(CODE)
	@$(BIN)/mypy $(CODE)

test: lint ## run lint, then all tests (ARGS="-k keys": some of them)
	@$(BIN)/python -m pytest $(ARGS)

e2e: setup ## test the edge with Postfix, Exim, Haraka, OpenSMTPD, Sendmail and rspamd (downloads missing ones)
	@$(BIN)/python -m pytest -m mta tests/system/mta $(ARGS)

nightly: setup ## run thousands of simulations with faults, from a new seed each day (ARGS="--seeds 20000": more)
	@$(BIN)/python -m pytest -q tests/simulation --first-seed $$(($$(date +%s) / 86400 * 100000)) --seeds 5000 $(ARGS)

evaluate: setup ## score the decisions on labelled traces of real mail (ARGS="--full": all settings, and the ablation)
	@$(BIN)/python -m benchmarks.detection.evaluate $(ARGS)

closed-loop: setup ## simulate senders who retry: what a deferral costs them in minutes, and whether anything oscillates
	@$(BIN)/python -m benchmarks.detection.closed_loop $(ARGS)

bench: setup ## Tidegate side by side with Kafka Streams, Flink, Faust, Quix, Bytewax, a plain loop (40 min; ARGS="--small": 3 min)
	@$(BIN)/python -m benchmarks.contest.bench $(ARGS)

bench-carryover: setup ## measure detection on sites left out, at other volumes, from cold, and on busy relays (about 10 min)
	@$(BIN)/python -m benchmarks.detection.carryover $(ARGS)

bench-model: setup ## measure what each part of the model costs an event (two minutes; ARGS=--keep: into the page on models)
	@$(BIN)/python -m benchmarks.detection.model_cost $(ARGS)

bench-edge: setup ## measure the edge's look-ups beside redis-server (about two minutes; downloads redis)
	@$(BIN)/python -m benchmarks.edge.lookups $(ARGS)

bench-wire: setup ## measure from an event in Kafka to the 451 that a real Postfix says (a minute; root; downloads Postfix)
	@$(BIN)/python -m benchmarks.edge.wire_latency $(ARGS)

bench-operator: setup ## measure how soon a release or an exemption holds at three edges with a million decisions, and what metrics and page cost (20 minutes)
	@$(BIN)/python -m benchmarks.edge.override_latency $(ARGS)

bench-watching: setup ## measure what a worker's metrics and page cost, and whether the page grows (15 min, a browser; ARGS="--small")
	@$(BIN)/python -m benchmarks.edge.page_cost $(ARGS)

soak: setup ## ten minutes of idle, busy, slow and mad clients at an edge (ARGS="--seconds 60": shorter)
	@$(BIN)/python -m benchmarks.edge.soak $(ARGS)

flood: setup ## fifty million random addresses, four times over, against a full table (three minutes; ARGS="--small")
	@$(BIN)/python -m benchmarks.detection.flood $(ARGS)

faults: setup ## break everything that may break around a worker, and compare with a replay (about 20 min; ARGS="--short")
	@$(BIN)/python -m benchmarks.faults.bench $(ARGS)

lock: setup ## update requirements.lock and requirements-edge.lock from pyproject.toml (ARGS=--upgrade: newest versions)
	@$(BIN)/python -m venv .cache/uv
	@.cache/uv/bin/python -m pip install --quiet --disable-pip-version-check $(UV)
	@$(COMPILE) --extra engine --extra dev --output-file requirements.lock
	@$(COMPILE) --output-file requirements-edge.lock
	@for peer in bytewax quix; do $(subst pyproject.toml,benchmarks/peers/locks/$$peer.in,$(COMPILE)) --output-file benchmarks/peers/locks/$$peer.lock; done

docs: setup ## generate the documents in deploy/ from the declarations
	@$(BIN)/python -m engine.reference.options deploy

clean: ## remove .venv, .cache and all tool caches
	rm -rf .venv .cache dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
