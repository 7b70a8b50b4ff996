#!/usr/bin/env bash
# The policy learns the tag format, by verl's SFT trainer. On several nodes every node runs this, with RENDEZVOUS set.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$HERE/../common.sh"
source "$HERE/settings.sh"

RENDEZVOUS=${RENDEZVOUS:-}                 # [D] HOST:PORT of one of several nodes
# [I] No chat template: problem, blank line, response, end of text. The blank before the line breaks keeps Qwen's
# tokenizer from joining them with a full stop, so that the prompt is the same whether its parts are tokenised apart or
# together.
CHAT_TEMPLATE=$(<"$HERE/plain.jinja")
export CHAT_TEMPLATE

attention model
args=(
    model.path="$POLICY_BASE"
    "${ATTENTION[@]}"
    'model.custom_chat_template=${oc.env:CHAT_TEMPLATE}'
    data.train_files="$OUT/format/format_sft/train.parquet"
    data.val_files="$OUT/format/format_sft/validation.parquet"
    data.train_batch_size=64               # [I]
    data.max_length=4096                   # [I]
    data.truncation=right                  # [D] for the few rows that are longer; verl would stop at the first
    data.max_token_len_per_gpu=16384       # [D]
    data.enable_thinking_default=null      # [D] verl's default is a text, which counts as true
    optim.lr=5e-6                          # [I]
    optim.lr_scheduler_type=cosine         # [D]
    optim.lr_warmup_steps_ratio=0.03       # [D]
    trainer.total_epochs=2                 # [I]
    trainer.seed="$SEED"
    trainer.nnodes="$NODES"
    trainer.n_gpus_per_node="$GPUS"
    trainer.save_freq=after_each_epoch     # [D]
    trainer.test_freq=after_each_epoch     # [D]
    trainer.logger='[console]'             # [D]
    trainer.project_name=spark
    trainer.experiment_name=format
    trainer.default_local_dir="$OUT/format_sft"
    'checkpoint.save_contents=[model,optimizer,extra,hf_model]'    # the RL stage starts from the last
)
if [[ $NODES == 1 ]]; then
    place=(--standalone)
else
    place=(--nnodes="$NODES" --rdzv-backend=c10d --rdzv-endpoint="${RENDEZVOUS:?HOST:PORT of one of the nodes}")
fi
run torchrun "${place[@]}" --nproc-per-node="$GPUS" -m verl.trainer.sft_trainer "${args[@]}" "$@"
