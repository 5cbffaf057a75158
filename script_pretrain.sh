#!/usr/bin/env bash
# Pre-train: ./script_pretrain.sh [TEST_NAME] [flags of pretrain.py]
#
# TEST_NAME is the folder under checkpoints/; its beginning chooses the protocol and its recipe:
#   ntu60_xsub  ntu60_xview  ntu120_xsub (default)  ntu120_xsetup  pku1_xsub  pku1_xview  pku2_xsub  pku2_xview  demo
#   or NAME_PROTOCOL of another data set in data/
# Run again, it goes on from the last checkpoint. Starts one process per GPU of this machine; NPROC=n sets another
# number.
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/tools/common.sh"
find_python
take_test_name "$@"

run_in_processes pretrain.py --checkpoint-path "$RUN" ${FLAGS[@]+"${FLAGS[@]}"}
