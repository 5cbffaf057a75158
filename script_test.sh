#!/usr/bin/env bash
# The checks: ruff, mypy, then the tests, on up to four cores, with the coverage of the code. All of them run; the script
# fails where any of them does. With arguments of pytest, the tests alone: ./script_test.sh -m slow, -k resume
#
# Needs nothing but Python 3.10 or newer: where the active environment lacks the requirements, .venv is made.
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/tools/common.sh"
find_python install
if [ $# -gt 0 ]; then
    exec "$PYTHON" -m pytest "$@"
fi
failed=()
"$PYTHON" -m ruff check . || failed+=("ruff check")
"$PYTHON" -m ruff format --check . || failed+=("ruff format")
"$PYTHON" -m mypy || failed+=(mypy)
"$PYTHON" -m pytest -n auto --maxprocesses 4 --dist worksteal --cov || failed+=(pytest)
if [ ${#failed[@]} -gt 0 ]; then
    printf 'error: failed: %s\n' "${failed[@]}" >&2
    exit 1
fi
