# Variables of all stages; each can be set in the environment. [P] is said in the paper, [C] stands in the authors'
# released code, [I] follows from both, [D] is decided here.

GENERATOR=${GENERATOR:-Qwen/Qwen2.5-14B-Instruct}                         # [P] writes the solutions of Stage I
VERIFIER=${VERIFIER:-Qwen/Qwen3-32B}                                      # [P] verifies them, in thinking mode
PRM_BASE=${PRM_BASE:-Qwen/Qwen2.5-14B-Instruct}                           # [P] becomes the reward model
POLICY_BASE=${POLICY_BASE:-Qwen/Qwen2.5-Math-7B}                          # [P] becomes the policy
FORMAT_GENERATOR=${FORMAT_GENERATOR:-meta-llama/Llama-3.1-70B-Instruct}   # [I] writes the solutions of the format SFT

OUT=${OUT:-outputs/qwen2.5-math-7b}                                       # [D] everything is written below it
ARM=${ARM:-process_aware}                                                 # [D] a line of arms.txt
SEED=${SEED:-1}                                                           # [D] three an arm or more
NODES=${NODES:-1}                                                         # [D] all of them, a verifier's included
GPUS=${GPUS:-8}                                                           # [P, C] GPUs of a node
FLASH_ATTN=${FLASH_ATTN:-0}                                               # [D] 1 with flash-attn: README, Run it
