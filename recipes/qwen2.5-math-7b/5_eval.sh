#!/usr/bin/env bash
# How well the reward model of ARM finds first errors, and how well the policy of ARM solves the six benchmarks.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$HERE/../common.sh"
source "$HERE/settings.sh"

PARTS=${PARTS:-verifier,policy}            # [D] either, or both

read_arm "$HERE/arms.txt"

# engine PREFIX MODEL: ENGINE, a replica of the model on each GPU.
engine() {
    ENGINE=("$1.kind=ray" "$1.model=$2" "$1.replicas=$((NODES * GPUS))" "$1.vllm.dtype=bfloat16")
    ENGINE+=("$1.max_concurrency=1024" window=1024)
}

if [[ $PARTS == *verifier* && $KIND != - ]]; then
    prm=$OUT/prm/$KIND-$METHOD-$SEED/export
    declare -A kinds=([orm]=orm [prm]=prm [prmcot]=prm_cot [thinkprm]=think_prm)
    engine verifier.engine "$prm"
    # [C] ProcessBench, greedy, one reply
    run verl-spark eval processbench output="$OUT/processbench/$KIND-$METHOD-$SEED" \
        verifier.kind="${kinds[$KIND]}" "${ENGINE[@]}" "$@"
fi
if [[ $PARTS == *policy* ]]; then
    policy=$(last_checkpoint "$OUT/rl/$ARM-$SEED")/actor/huggingface
    engine policy.engine "$policy"
    # [D] the last checkpoint of the budget, never the best one; six benchmarks, greedy and sampled
    run verl-spark eval math output="$OUT/math/$ARM-$SEED" "${ENGINE[@]}" "$@"
fi
