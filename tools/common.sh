# Sourced by the scripts: finds a Python that has the requirements, and the number of processes.

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

has_requirements() {
    "$1" - <<'PY' >/dev/null 2>&1
import re, sys
from importlib.metadata import PackageNotFoundError, version
def numbers(text): return [int(n) for n in re.findall(r"\d+", text)[:3]]
assert sys.version_info >= (3, 10)
for line in open("requirements.txt"):
    match = re.match(r"([\w-]+)(?:>=([\d.]+))?", line)
    if match and numbers(version(match[1])) < numbers(match[2] or ""):
        sys.exit(1)
PY
}

# find_python: the active environment where it has the requirements, else .venv. With `install`, .venv is made first.
find_python() {
    local candidate
    for candidate in python python3 .venv/bin/python; do
        if command -v "$candidate" >/dev/null && has_requirements "$candidate"; then
            PYTHON=$candidate
            return
        fi
    done
    if [ "${1:-}" != install ]; then
        echo "error: no Python with the packages of requirements.txt; run: pip install -r requirements.txt" >&2
        exit 1
    fi
    for candidate in python3 python python3.13 python3.12 python3.11 python3.10; do
        if command -v "$candidate" >/dev/null && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))'; then
            echo "making .venv and installing requirements.txt into it (some minutes, some gigabytes)"
            "$candidate" -m venv .venv && .venv/bin/python -m pip install --quiet -r requirements.txt || exit 1
            PYTHON=.venv/bin/python
            return
        fi
    done
    echo "error: Python 3.10 or newer is needed" >&2
    exit 1
}
