#!/usr/bin/env bash
# The whole pipeline on simulated recordings, in some minutes on two CPU cores: ./script_demo.sh
#
# Needs only Python 3.10 or newer: if the active environment lacks the requirements, it makes .venv.
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/tools/common.sh"
find_python install
export PATH="$(dirname "$(command -v "$PYTHON")"):$PATH"

step() { printf '\n== %s\n' "$*"; }

step "1/5  simulate recordings: data/demo_raw"
"$PYTHON" data_gen/demo_gendata.py
step "2/5  convert them: data/demo"
"$PYTHON" data_gen/ntu_gendata.py --dataset demo
step "3/5  an untrained encoder, for comparison: checkpoints/demo_untrained"
./script_pretrain.sh demo_untrained --epochs 0 --resume none
./script_action_recognition.sh demo_untrained
./script_action_retrieval.sh demo_untrained
step "4/5  pre-train without labels: checkpoints/demo"
./script_pretrain.sh demo --resume none
step "5/5  linear probe and retrieval"
./script_action_recognition.sh demo
./script_action_retrieval.sh demo
step "done"
"$PYTHON" -m tools.results demo_untrained demo
cat <<'TEXT'

Where to look next:
  tensorboard --logdir checkpoints     losses, spread of the projections, accuracies
  checkpoints/demo/                    checkpoints, log.jsonl, pretrain.log, scores in results.jsonl
  README.md                            the same on NTU RGB+D: prepare the data, then run the same three scripts
TEXT
