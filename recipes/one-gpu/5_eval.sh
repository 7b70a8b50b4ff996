#!/usr/bin/env bash
# How well the reward model of ARM finds first errors of GSM8K solutions, and how well the policy solves MATH-500. Its
# accuracy on GSM8K stands in the log of 4_rl.sh, at the steps 0, 10, 20, ….
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$HERE/../common.sh"
source "$HERE/settings.sh"

read_arm "$HERE/arms.txt"
if [[ $KIND != - ]]; then
    declare -A kinds=([prm]=prm [prmcot]=prm_cot)
    run verl-spark eval processbench output="$OUT/processbench/$KIND-$METHOD-$SEED" 'data.subsets=[gsm8k]' \
        verifier.kind="${kinds[$KIND]}" verifier.engine.kind=vllm \
        verifier.engine.model="$OUT/prm/$KIND-$METHOD-$SEED/export" "$@"
fi
policy=$(last_checkpoint "$OUT/rl/$ARM-$SEED")/actor/huggingface
run verl-spark eval math output="$OUT/math/$ARM-$SEED" 'data.benchmarks=[math500]' \
    policy.engine.kind=vllm policy.engine.model="$policy" policy.max_tokens=768 "$@"
