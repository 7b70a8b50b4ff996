#!/usr/bin/env bash
# The policy learns the tag format, by verl's SFT trainer.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$HERE/../common.sh"
source "$HERE/settings.sh"

attention model
args=(
    model.path="$MODEL"
    "${ATTENTION[@]}"
    data.train_files="$OUT/stage1/format_sft/train.parquet"
    data.val_files="$OUT/stage1/format_sft/validation.parquet"
    data.train_batch_size=32
    data.max_length=2048
    data.truncation=right
    data.enable_thinking_default=null      # verl's default is a text, which counts as true
    optim.lr=1e-5
    trainer.total_epochs=1
    trainer.seed="$SEED"
    trainer.n_gpus_per_node=1
    trainer.test_freq=after_each_epoch
    trainer.logger='[console]'
    trainer.project_name=spark_one_gpu
    trainer.experiment_name=format
    trainer.default_local_dir="$OUT/format_sft"
    'checkpoint.save_contents=[model,optimizer,extra,hf_model]'    # the RL stage starts from the last
)
run torchrun --standalone --nproc-per-node=1 -m verl.trainer.sft_trainer "${args[@]}" "$@"
