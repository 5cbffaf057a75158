#!/usr/bin/env bash
# Pre-train: ./script_pretrain.sh [TEST_NAME] [flags of pretrain.py]
#
# TEST_NAME is the folder under checkpoints/ and chooses the protocol and its recipe by how it begins:
#   ntu60_xsub  ntu60_xview  ntu120_xsub (default)  ntu120_xsetup  pku1_xsub  pku1_xview  pku2_xsub  pku2_xview  demo
# Run again, it goes on from the last checkpoint. One process a GPU of this machine; NPROC=n sets their number.
set -euo pipefail
. "$(dirname "$0")/tools/common.sh"
find_python
take_test_name "$@"

# Under srun, SLURM starts the processes; pretrain.py reads its variables.
if [ "${SLURM_STEP_NUM_TASKS:-1}" -gt 1 ]; then
    NPROC=1
fi
NPROC=${NPROC:-$("$PYTHON" -c 'import torch; print(max(1, torch.cuda.device_count()))')}

if [ "$NPROC" -gt 1 ]; then
    exec "$PYTHON" -m torch.distributed.run --standalone --nproc_per_node="$NPROC" \
        pretrain.py --checkpoint-path "checkpoints/$TEST_NAME" ${FLAGS[@]+"${FLAGS[@]}"}
fi
exec "$PYTHON" pretrain.py --checkpoint-path "checkpoints/$TEST_NAME" ${FLAGS[@]+"${FLAGS[@]}"}
