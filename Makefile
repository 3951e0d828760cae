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
	@$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

e2e: setup ## test the edge with Postfix, Exim, Haraka, OpenSMTPD, Sendmail and rspamd (downloads missing ones)
	@$(BIN)/python -m pytest -m mta tests/system/mta $(ARGS)

nightly: setup ## run thousands of simulations with faults from a new seed each day, then the long tests (ARGS="--seeds 20000")
	@$(BIN)/python -m pytest -q tests/simulation --first-seed $$(($$(date +%s) / 86400 * 100000)) --seeds 5000 $(ARGS)
	@$(BIN)/python -m pytest -q -m nightly tests

evaluate: setup ## score the decisions on labelled traces of real mail (ARGS="--full": all settings, and the ablation)
	@$(BIN)/python -m benchmarks.detection.evaluate $(ARGS)

closed-loop: setup ## simulate senders that retry: the cost of a deferral in minutes, and whether the loop oscillates
	@$(BIN)/python -m benchmarks.detection.closed_loop $(ARGS)

bench: setup ## compare with Kafka Streams, Flink, Faust, Quix, Bytewax, a plain loop (40 min; ARGS="--small": 4 min)
	@$(BIN)/python -m benchmarks.contest.bench $(ARGS)

bench-carryover: setup ## measure detection on sites left out, from cold starts, and on busy relays (about 10 min)
	@$(BIN)/python -m benchmarks.detection.carryover $(ARGS)

bench-model: setup ## measure the cost per event of each part of the model (2 min; ARGS=--keep: update engine/detector/README.md)
	@$(BIN)/python -m benchmarks.detection.model_cost $(ARGS)

bench-edge: setup ## compare the edge's look-ups with redis-server (about 3 min; downloads redis and postfwd)
	@$(BIN)/python -m benchmarks.edge.lookups $(ARGS)

bench-wire: setup ## measure the time from an event in Kafka to a real Postfix's 451 (1 min; root; downloads Postfix)
	@$(BIN)/python -m benchmarks.edge.wire_latency $(ARGS)

bench-operator: setup ## measure the time until a release or an exemption applies at three edges (3 min)
	@$(BIN)/python -m benchmarks.edge.override_latency $(ARGS)

bench-watching: setup ## measure the cost of metrics and page, and whether an open page grows (15 min, a browser; ARGS="--small")
	@$(BIN)/python -m benchmarks.edge.page_cost $(ARGS)

soak: setup ## load an edge with idle, busy, slow and hostile clients (10 min; ARGS="--seconds 60": shorter)
	@$(BIN)/python -m benchmarks.edge.soak $(ARGS)

flood: setup ## send fifty million random addresses, four times, to a full table (3 min; ARGS="--small")
	@$(BIN)/python -m benchmarks.detection.flood $(ARGS)

faults: setup ## break everything around a worker, and compare with a replay (about 20 min; ARGS="--short")
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
