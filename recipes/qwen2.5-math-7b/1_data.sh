#!/usr/bin/env bash
# Stage I: verification data for the reward models, and solutions for the format SFT. All of it only generates; on
# several nodes RAY_ADDRESS names the cluster. After a stop of any kind the same command goes on.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$HERE/../common.sh"
source "$HERE/settings.sh"

METHODS=${METHODS:-single,outcome,step}    # [P] the first two are free; meta_… and reference take calls
PARTS=${PARTS:-verifications,format}       # [D] either, or both

# stage COMMAND [OPTIONS]: of `verl-spark data`, with the config and keys of the part.
stage() {
    run verl-spark data "$1" --config "$config" "${keys[@]}" "${@:2}"
}

# begin NAME GENERATOR ITS_GPUS: config and keys of a part, whose two models take turns on all GPUs.
begin() {
    config=$HERE/$1.yaml
    keys=(
        output="$OUT/$1"
        problems.path="$OUT/problems/$1.jsonl"
        generator.engine.model="$2"
        generator.engine.replicas=$((NODES * GPUS / $3))
        verifier.engine.model="$VERIFIER"
        verifier.engine.replicas=$((NODES * GPUS / 2))
    )
}

if [[ $PARTS == *verifications* ]]; then
    begin stage1 "$GENERATOR" 1
    keys+=("methods=[$METHODS]")
    if [[ $METHODS == *reference* ]]; then
        keys+=(references.field=answer references.n=16)    # [C]
    fi
    keys+=("$@")
    stage run --dry-run
    stage generate
    stage verify
    if [[ $METHODS == *meta_* ]]; then
        stage refine
    fi
    stage select
    stage export
    stage leakage --text-field prompt --benchmark "$OUT/problems/math500.parquet" \
        --benchmark "$OUT/problems/aime24.parquet" --benchmark "$OUT/problems/aime25.parquet"
fi

if [[ $PARTS == *format* ]]; then
    begin format "$FORMAT_GENERATOR" 4
    keys+=("$@")
    stage run --dry-run
    stage generate
    stage verify
    stage select
    stage format-sft
fi
