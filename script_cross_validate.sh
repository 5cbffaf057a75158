#!/usr/bin/env bash
# Cross-validation: ./script_cross_validate.sh TEST_NAME [flags of pretrain.py]
#
# TEST_NAME is a data set and its kfold rule, mine_fold or mine_fold_anything. Each fold is a run (mine_fold1,
# mine_fold2...): pre-training, linear probe, retrieval. At the end it prints mean and deviation over the folds. Run again,
# it goes on where it was stopped. --data-root and --device also apply to the evaluations.
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/tools/common.sh"
find_python
if [ $# -eq 0 ] || [ "${1#-}" != "$1" ]; then
    echo "error: give the data set and its kfold rule: ./script_cross_validate.sh NAME_RULE" >&2
    exit 1
fi
take_test_name "$@"
ROOT=() DEVICE=()
for ((i = 0; i < ${#FLAGS[@]}; i++)); do
    case ${FLAGS[i]} in
        --data-root) ROOT=("${FLAGS[@]:i:2}") ;;
        --data-root=*) ROOT=("${FLAGS[i]}") ;;
        --device) DEVICE=("${FLAGS[@]:i:2}") ;;
        --device=*) DEVICE=("${FLAGS[i]}") ;;
    esac
done
SHARED=(${ROOT[@]+"${ROOT[@]}"} ${DEVICE[@]+"${DEVICE[@]}"})

FOLDS=$("$PYTHON" -m data_gen.folds "${RUN#checkpoints/}" ${ROOT[@]+"${ROOT[@]}"})
for fold in $FOLDS; do
    printf '\n== %s\n' "$fold"
    ./script_pretrain.sh "$fold" ${FLAGS[@]+"${FLAGS[@]}"}
    ./script_action_recognition.sh "$fold" ${SHARED[@]+"${SHARED[@]}"}
    ./script_action_retrieval.sh "$fold" ${SHARED[@]+"${SHARED[@]}"}
done
printf '\n'
# Names of folds have no spaces.
exec "$PYTHON" -m tools.results $FOLDS
