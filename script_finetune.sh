#!/usr/bin/env bash
# Fine-tuning on all labels: ./script_finetune.sh [TEST_NAME] [flags of action_recognition.py]
#
# Trains the encoder of the last checkpoint of checkpoints/TEST_NAME (default: ntu120_xsub) and a classifier on the data
# set and protocol that it was pre-trained on; --from-scratch begins with a fresh encoder, for comparison. The scores go
# beside the checkpoint. One process a GPU of this machine; NPROC=n sets their number.
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/tools/common.sh"
find_python
take_test_name "$@"

run_in_processes action_recognition.py --finetune --pretrained "$RUN" ${FLAGS[@]+"${FLAGS[@]}"}
