#!/usr/bin/env bash
# Runs ruff, mypy, then the tests with coverage, on up to four cores; fails if any of them fails. With arguments of
# pytest it runs the tests alone: ./script_test.sh -m slow, ./script_test.sh -k resume
#
# Needs only Python 3.10 or newer: if the active environment lacks the requirements, it makes .venv.
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
