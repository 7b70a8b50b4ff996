#!/usr/bin/env bash
# Stage 0: the public data sets as files. Needs the network and no GPU.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$HERE/../common.sh"
source "$HERE/settings.sh"

STAGE1_PROBLEMS=${STAGE1_PROBLEMS:-8000}   # [P] of Skywork-OR1; which ones is unknown, here the first by a hash
RL_PROBLEMS=${RL_PROBLEMS:-17000}          # [P] the next ones, so that no problem of the reward model is trained on [D]
PROBE_PROBLEMS=${PROBE_PROBLEMS:-200}      # [D] with references, never trained on: they show what the reward is worth
REFERENCES=${REFERENCES:-0}                # [D] 1: Stage I also gets the answers, for its method `reference` alone

problems() {
    run python "$HERE/../problems.py" "$@"
}

stage1=(skywork "$OUT/problems/stage1.jsonl" --count "$STAGE1_PROBLEMS")
if [[ $REFERENCES == 1 ]]; then
    stage1+=(--references)
fi
rl=(--skip "$STAGE1_PROBLEMS" --count "$RL_PROBLEMS")
probe=(--skip $((STAGE1_PROBLEMS + RL_PROBLEMS)) --count "$PROBE_PROBLEMS")

problems "${stage1[@]}" "$@"
problems skywork "$OUT/problems/rl.parquet" "${rl[@]}" "$@"
problems skywork "$OUT/problems/rl_with_references.parquet" "${rl[@]}" --references "$@"   # for the arms rlvr alone
problems skywork "$OUT/problems/probe.parquet" "${probe[@]}" --references "$@"
problems eurus "$OUT/problems/format.jsonl" "$@"    # [P] 113K mathematics problems
for name in math500 aime24 aime25; do               # [C] what is validated on during training
    problems "$name" "$OUT/problems/$name.parquet" --references "$@"
done
