#!/usr/bin/env bash
# Fine-tuning on all labels: ./script_finetune.sh [TEST_NAME] [flags of action_recognition.py]
#
# Trains the encoder in the last checkpoint of checkpoints/TEST_NAME (default: ntu120_xsub) and a classifier on the data
# set and protocol of its pre-training, and writes the scores beside it. --from-scratch starts with a new encoder, for
# comparison. Starts one process per GPU of this machine; NPROC=n sets another number.
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/tools/common.sh"
find_python
take_test_name "$@"

run_in_processes action_recognition.py --finetune --pretrained "$RUN" ${FLAGS[@]+"${FLAGS[@]}"}
