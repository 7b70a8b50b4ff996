#!/usr/bin/env bash
# Stage I: verification data, the policy's format data from the solutions called right, and how right the labels are.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$HERE/../common.sh"
source "$HERE/settings.sh"

keys=(
    --config "$HERE/data.yaml"
    output="$OUT/stage1"
    problems.path="$OUT/problems/stage1.jsonl"
    generator.engine.model="$MODEL"
    verifier.engine.model="$MODEL"
    "$@"
)
run verl-spark data run "${keys[@]}" --dry-run
run verl-spark data run "${keys[@]}"
run verl-spark data format-sft "${keys[@]}"
run verl-spark data quality "${keys[@]}" references.field=answer
