#!/usr/bin/env bash
# The checks: ruff, mypy, then the tests with the coverage of the code. It fails where any of them does, and runs all.
# With arguments of pytest, the tests alone: ./script_test.sh -m slow, -k resume
#
# Needs nothing but Python 3.10 or newer: where the active environment lacks the requirements, .venv is made.
set -euo pipefail
. "$(dirname "$0")/tools/common.sh"
find_python install
if [ $# -gt 0 ]; then
    exec "$PYTHON" -m pytest "$@"
fi
failed=()
"$PYTHON" -m ruff check . || failed+=("ruff check")
"$PYTHON" -m ruff format --check . || failed+=("ruff format")
"$PYTHON" -m mypy || failed+=(mypy)
"$PYTHON" -m pytest --cov || failed+=(pytest)
if [ ${#failed[@]} -gt 0 ]; then
    printf 'error: failed: %s\n' "${failed[@]}" >&2
    exit 1
fi
