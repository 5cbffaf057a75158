# Sourced by the scripts, from the project's root: finds Python, and the run named in the arguments.

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

# has_requirements PYTHON all|base: tells whether it has the packages of requirements.txt (base: those before the comment).
has_requirements() {
    "$1" - "$2" <<'PY' >/dev/null 2>&1
import re, sys
from importlib.metadata import version

def numbers(text):
    return [int(n) for n in re.findall(r"\d+", text)[:3]]

assert sys.version_info >= (3, 10)
for line in open("requirements.txt"):
    if line.startswith("#"):
        if sys.argv[1] == "base":
            break
        continue
    name, bound = line.strip().split(">=")
    assert numbers(version(name)) >= numbers(bound)
PY
}

# find_python [install]: sets PYTHON to that of the active environment, else of .venv. With `install`, optional packages
# are required too, and if neither has them all, it makes .venv.
find_python() {
    local candidate wanted=base
    [ "${1:-}" = install ] && wanted=all
    for candidate in python python3 .venv/bin/python; do
        if command -v "$candidate" >/dev/null && has_requirements "$candidate" "$wanted"; then
            PYTHON=$candidate
            return
        fi
    done
    if [ "$wanted" = base ]; then
        echo "error: no Python with the packages of requirements.txt; run: pip install -r requirements.txt" >&2
        exit 1
    fi
    for candidate in python python3 python3.13 python3.12 python3.11 python3.10; do
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

# take_test_name [TEST_NAME] [flags]: sets RUN to the run's folder (TEST_NAME may be its path) and FLAGS to the rest.
take_test_name() {
    RUN=checkpoints/ntu120_xsub
    if [ $# -gt 0 ] && [ "${1#-}" = "$1" ]; then
        RUN=$1
        [ "${1#*/}" = "$1" ] && RUN=checkpoints/$1
        shift
    fi
    FLAGS=("$@")
}

# run_in_processes PROGRAM [flags]: becomes the program, in one process per GPU of this machine, or in NPROC processes.
run_in_processes() {
    # Counting GPUs takes PyTorch seconds to load, so it is only asked where there is a driver: NVIDIA's, WSL's, AMD's.
    if [ -z "${NPROC:-}" ]; then
        NPROC=1
        if [ -e /dev/nvidiactl ] || [ -e /dev/dxg ] || [ -e /dev/kfd ]; then
            NPROC=$("$PYTHON" -c 'import torch; print(max(1, torch.cuda.device_count()))')
        fi
    fi
    case $NPROC in
        "" | 0 | *[!0-9]* | ?????*) echo "error: NPROC=$NPROC: give a number of processes, from 1" >&2; exit 2 ;;
    esac
    if [ "$NPROC" -gt 1 ]; then
        exec "$PYTHON" -m torch.distributed.run --standalone --nproc_per_node="$NPROC" "$@"
    fi
    exec "$PYTHON" "$@"
}
