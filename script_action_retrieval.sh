#!/usr/bin/env bash
# Nearest-neighbour retrieval: ./script_action_retrieval.sh [TEST_NAME] [flags of action_retrieval.py]
#
# Evaluates the last checkpoint of checkpoints/TEST_NAME (default: ntu120_xsub) on the data set and protocol of its
# pre-training, and writes the scores beside it.
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/tools/common.sh"
find_python
take_test_name "$@"

exec "$PYTHON" action_retrieval.py --pretrained "$RUN" ${FLAGS[@]+"${FLAGS[@]}"}
