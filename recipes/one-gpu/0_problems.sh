#!/usr/bin/env bash
# Stage 0: GSM8K as files. Needs the network and no GPU.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$HERE/../common.sh"
source "$HERE/settings.sh"

STAGE1_PROBLEMS=${STAGE1_PROBLEMS:-1000}
RL_PROBLEMS=${RL_PROBLEMS:-4000}
PROBE_PROBLEMS=${PROBE_PROBLEMS:-200}
TEST_PROBLEMS=${TEST_PROBLEMS:-500}

problems() {
    run python "$HERE/../problems.py" "$@"
}

rl=(--skip "$STAGE1_PROBLEMS" --count "$RL_PROBLEMS")
probe=(--skip $((STAGE1_PROBLEMS + RL_PROBLEMS)) --count "$PROBE_PROBLEMS")

# Stage I's answers are for the report on its labels, which comes after it.
problems gsm8k "$OUT/problems/stage1.jsonl" --count "$STAGE1_PROBLEMS" --references "$@"
problems gsm8k "$OUT/problems/rl.parquet" "${rl[@]}" "$@"
problems gsm8k "$OUT/problems/rl_with_references.parquet" "${rl[@]}" --references "$@"    # for the arm rlvr alone
problems gsm8k "$OUT/problems/probe.parquet" "${probe[@]}" --references "$@"
problems gsm8k_test "$OUT/problems/test.parquet" --count "$TEST_PROBLEMS" --references "$@"
