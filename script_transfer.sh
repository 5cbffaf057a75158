#!/usr/bin/env bash
# Transfer: ./script_transfer.sh [TEST_NAME] --finetune-dataset DATA_SET [--protocol P] [other flags]
#
# Like script_finetune.sh, but on another data set than that of the pre-training.
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/tools/common.sh"
find_python
take_test_name "$@"

case " ${FLAGS[*]-} " in
    *" --finetune-dataset"[\ =]*) ;;
    *)
        echo "error: give the data set to transfer to: ./script_transfer.sh ${RUN#checkpoints/} --finetune-dataset DATA_SET" >&2
        exit 1
        ;;
esac
run_in_processes action_recognition.py --finetune --pretrained "$RUN" ${FLAGS[@]+"${FLAGS[@]}"}
