# SPDX-License-Identifier: Apache-2.0
# Every way to work on estop. `make run` and `make test` prepare the machine by themselves.
MAKEFLAGS += --no-print-directory
SHELL := /bin/bash
BIN := .venv/bin
# BPF and cgroups need root; -E keeps the agent's settings (keys, proxies), env PATH its programs.
# A plain user's PATH on Debian lacks the directories of bpftool, mount and useradd.
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo 'sudo -E env "PATH=$$PATH:/usr/sbin:/sbin"')
AGENT ?=
EVASION ?= tests/evasion

.PHONY: help setup setup-e2e setup-vm root check format test test-vm test-matrix unit run bench bench-vm evasion evasion-vm test-agents lock docs man examples clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## install what is missing and make .venv (quick when nothing is)
	@deploy/setup.sh

setup-e2e:
	@deploy/setup.sh e2e

setup-vm:
	@deploy/setup.sh vm

root:
	@[ "$$(id -u)" = 0 ] || command -v sudo >/dev/null || \
		{ echo 'estop: root is needed to load BPF and make cgroups: run as root or install sudo' >&2; exit 1; }

run: root setup ## demo agent does four forbidden things and is stopped; or AGENT='command'
	@$(SUDO) $(BIN)/python -m agent.demo $(if $(AGENT),-- $(AGENT))

test: root setup-e2e check ## every test but those of the next lines, as root
	@$(SUDO) $(BIN)/python -m pytest -m 'not agents and not guest' --durations=30

test-vm: root setup-vm ## the kernel's tests in a guest with BPF LSM (stock Linux 6.12, emulated)
	@$(SUDO) $(BIN)/python -m pytest -m guest tests/vm
	@$(SUDO) $(BIN)/python -m tests.vm

test-matrix: test-vm ## the same on Linux 6.1, and with Debian 13's bcc (slow)
	@$(SUDO) $(BIN)/python -m tests.vm --kernel 6.1
	@$(SUDO) tests/vm/debian13.sh

unit: setup ## the tests that need no root
	@$(BIN)/python -m pytest -m 'not kernel and not e2e and not agents and not guest'

test-agents: root setup-e2e ## supervise OpenClaw from npm (slow)
	@$(SUDO) $(BIN)/python -m pytest -m agents

check: setup ## ruff, mypy, import-linter
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: setup ## let ruff format and mend what it can
	@$(BIN)/ruff format
	@$(BIN)/ruff check --fix

bench: root setup ## latencies, overhead, leaks; into build/bench.json (ONLY=latency,loop for some)
	@$(SUDO) $(BIN)/python -m tests.bench

bench-vm: root setup-vm ## what the lsm tier costs a loop of opens, in a guest that counts instructions
	@$(SUDO) $(BIN)/python -m tests.vm --counted -- env ONLY=loop TURNS=1 $(BIN)/python -m tests.bench

evasion: root setup ## try every way past the monitor, write docs/evasion.md
	@$(SUDO) $(BIN)/python -m pytest --write-table tests/evasion

evasion-vm: root setup-vm ## the same for the lsm tier, in a guest (an hour)
	@$(SUDO) $(BIN)/python -m tests.vm --timeout-s 9000 \
		--take tests/evasion/expected.toml --take docs/evasion.md -- \
		timeout 8400 $(BIN)/python -m pytest --write-table $(EVASION) --override-ini=timeout=900

lock: setup ## resolve the dependencies anew and pin them with hashes
	@deploy/lock.sh

docs: setup ## write docs/settings.md from the settings
	@$(BIN)/python deploy/settings_page.py > docs/settings.md

man: setup ## write the man pages to build/man
	@$(BIN)/python deploy/manpages.py build/man

examples: root setup ## run every call of the API anew, write docs/api.md
	@$(SUDO) $(BIN)/python -m pytest --write-examples tests/e2e/test_api_examples.py
	@$(BIN)/python deploy/apidocs.py docs/api.md

clean: ## remove what was made here
	@$(SUDO) rm -rf .venv .venv-e2e build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	@$(SUDO) find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
