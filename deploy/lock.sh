#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Resolves pyproject.toml into requirements.lock and requirements-e2e.lock, for Python 3.11 and up.
# It must not let the address of an index or a path of this machine into a lock.
set -euo pipefail
cd "$(dirname "$0")/.."

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
/usr/bin/python3 -m venv "$scratch/venv"
"$scratch/venv/bin/pip" install -q --disable-pip-version-check uv

resolve() {
    local lock=$1
    shift
    "$scratch/venv/bin/uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes \
        --no-emit-index-url --no-emit-find-links --no-header --no-annotate --upgrade "$@" --output-file "$lock"
    if grep -nE '://|^ *(-i|-f|--(extra-)?index-url|--find-links)\b|^/|file:' "$lock"; then
        echo "estop: $lock names a place of this machine (above): not fit to publish" >&2
        exit 1
    fi
}

resolve requirements.lock pyproject.toml --extra dev --extra verify
resolve requirements-e2e.lock requirements-e2e.in
