#!/usr/bin/env bash
# Linear probe: ./script_action_recognition.sh [TEST_NAME] [flags of action_recognition.py]
#
# Evaluates the last checkpoint of checkpoints/TEST_NAME (default: ntu120_xsub) on the data set and protocol of its
# pre-training, and writes the scores beside it.
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/tools/common.sh"
find_python
take_test_name "$@"

exec "$PYTHON" action_recognition.py --pretrained "$RUN" ${FLAGS[@]+"${FLAGS[@]}"}
