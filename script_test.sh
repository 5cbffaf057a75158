#!/usr/bin/env bash
# Runs ruff, mypy and the tests, on up to four cores; fails if any of them fails.
#
#   ./script_test.sh            all but the slow tests
#   ./script_test.sh --fast     the core alone: feeder, models, probe, neighbours
#   ./script_test.sh -m slow    the slow tests, or other arguments of pytest
#
# Needs only Python 3.10 or newer: if the active environment lacks the requirements, it makes .venv.
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/tools/common.sh"
find_python install
PYTEST=("$PYTHON" -m pytest -n auto --maxprocesses 4 --dist worksteal)
if [ "${1:-}" = --fast ]; then
    shift
    exec "${PYTEST[@]}" tests/feeder tests/models tests/tools/evaluation/test_probe.py \
        tests/tools/evaluation/test_knn.py tests/test_house.py "$@"
fi
if [ $# -gt 0 ]; then
    exec "$PYTHON" -m pytest "$@"
fi
failed=()
"$PYTHON" -m ruff check . || failed+=("ruff check")
"$PYTHON" -m ruff format --check . || failed+=("ruff format")
"$PYTHON" -m mypy || failed+=(mypy)
"${PYTEST[@]}" || failed+=(pytest)
if [ ${#failed[@]} -gt 0 ]; then
    printf 'error: failed: %s\n' "${failed[@]}" >&2
    exit 1
fi
