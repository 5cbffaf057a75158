#!/usr/bin/env bash
# Detection in long recordings: ./script_detection.sh [TEST_NAME] [--finetune-dataset DATA_SET] [flags of tools.detect]
#
# Trains a detector on top of the encoder in the last checkpoint of checkpoints/TEST_NAME (default: ntu120_xsub),
# evaluates it, and writes it and its scores beside the checkpoint. --finetune trains the encoder, too.
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/tools/common.sh"
find_python
take_test_name "$@"

exec "$PYTHON" -m tools.detect --pretrained "$RUN" ${FLAGS[@]+"${FLAGS[@]}"}
