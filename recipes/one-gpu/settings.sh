# Variables of all stages; each can be set in the environment. All of it is ours: the paper has no run of this size.

MODEL=${MODEL:-Qwen/Qwen2.5-1.5B-Instruct}    # every role; Qwen/Qwen2.5-0.5B-Instruct for a GPU of 24 GB
OUT=${OUT:-outputs/one-gpu}                   # everything is written below it
ARM=${ARM:-process_aware}                     # a line of arms.txt
SEED=${SEED:-1}                               # of training
FLASH_ATTN=${FLASH_ATTN:-0}                   # 1 where flash-attn is installed: the extra gpu has none
