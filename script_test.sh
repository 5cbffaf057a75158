#!/usr/bin/env bash
# The tests: ./script_test.sh [arguments of pytest], e.g. -m slow, -k resume
#
# Needs nothing but Python 3.10 or newer: where the active environment lacks the requirements, .venv is made.
set -euo pipefail
. "$(dirname "$0")/tools/common.sh"
find_python install
exec "$PYTHON" -m pytest "$@"
