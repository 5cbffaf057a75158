#!/usr/bin/env bash
# Fine-tuning on few labels: ./script_semi_supervised.sh [TEST_NAME] [--label-fraction F...] [other flags]
#
# Like script_finetune.sh, on five subsets each of 1, 2, 5, 10 and 20 % of each class's recordings, or of other fractions.
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/tools/common.sh"
find_python
take_test_name "$@"

run_in_processes action_recognition.py --finetune --pretrained "$RUN" \
    --label-fraction 0.01 0.02 0.05 0.1 0.2 ${FLAGS[@]+"${FLAGS[@]}"}
