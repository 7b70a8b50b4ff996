#!/usr/bin/env bash
# Stage III: GRPO with the reward of ARM. On several nodes RAY_ADDRESS names the cluster and one node runs this.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$HERE/../common.sh"
source "$HERE/settings.sh"

SERVING=${SERVING:-colocate}               # [D] colocate, pool (REWARD_NODES of the NODES) or external
REWARD_NODES=${REWARD_NODES:-1}            # [D] nodes that only serve the verifier, with SERVING=pool
VERIFIER_URLS=${VERIFIER_URLS:-}           # [C] servers of SERVING=external, as in http://a:8000/v1,http://b:8000/v1
STEPS=${STEPS:-null}                       # [C] null: 25 epochs; 300 is where the paper compares its arms
POLICY=${POLICY:-}                         # [D] start from this model instead of that of 3_format_sft.sh
WATCH=${WATCH:-1}                          # [D] 0: no probe set, no suspects

read_arm "$HERE/arms.txt"
PRM=$OUT/prm/$KIND-$METHOD-$SEED/export
RUN=$OUT/rl/$ARM-$SEED
POLICY=${POLICY:-$(last_checkpoint "$OUT/format_sft")/huggingface}
attention actor_rollout_ref.model
trainer_nodes=$NODES
serving=()
if [[ $KIND != - ]]; then
    serving=(
        reward.spark.serving="$SERVING"
        reward.spark.verifier.temperature=0.0          # [C] greedy
        reward.spark.verifier.max_prompt_tokens=4096   # [D] problem and solution
        reward.spark.verifier.max_concurrency=512      # [C] up to 500
    )
    if [[ $SERVING == external ]]; then
        serving+=(
            reward.spark.verifier.base_urls="[$VERIFIER_URLS]"
            reward.spark.verifier.model="$PRM"         # what `vllm serve` calls a model unless it is told otherwise
        )
    else
        serving+=(
            reward.reward_model.model_path="$PRM"
            reward.reward_model.rollout.tensor_model_parallel_size=2   # [D]
            reward.reward_model.rollout.max_model_len=8192             # [C] 4096 of them for the reply
        )
    fi
    case $SERVING in
        colocate)
            serving+=(reward.reward_model.rollout.gpu_memory_utilization=0.6)    # [D]
            ;;
        pool)
            trainer_nodes=$((NODES - REWARD_NODES))
            if ((REWARD_NODES < 1 || trainer_nodes < 1)); then
                echo "SERVING=pool: REWARD_NODES=$REWARD_NODES of NODES=$NODES serve the verifier, the others train;" \
                    "each needs one or more: raise NODES or change REWARD_NODES, or set SERVING=colocate" >&2
                exit 2
            fi
            serving+=(
                reward.reward_model.nnodes="$REWARD_NODES"
                reward.reward_model.n_gpus_per_node="$GPUS"
                reward.reward_model.rollout.gpu_memory_utilization=0.85          # [D]
            )
            ;;
    esac
fi
watching=()
if [[ $WATCH == 1 && $KIND != - ]]; then
    watching=(
        reward.spark.probe_files="[$OUT/problems/probe.parquet]"
        reward.spark.suspects.folder="$RUN/suspects"
    )
fi
args=(
    # Data
    data.train_files="$OUT/problems/$PROMPTS.parquet"                               # [P] 17K problems
    "data.val_files=[$OUT/problems/math500.parquet,$OUT/problems/aime24.parquet,$OUT/problems/aime25.parquet]"  # [C]
    data.train_batch_size=256              # [P, C] prompts a step
    data.max_prompt_length=2048            # [C]
    data.max_response_length=2048          # [C]
    data.filter_overlong_prompts=True      # [C]
    data.filter_overlong_prompts_workers=8
    data.seed="$SEED"

    # Algorithm
    algorithm.adv_estimator=grpo           # [P, C]
    algorithm.norm_adv_by_std_in_grpo=True # [P, C]
    algorithm.use_kl_in_reward=False       # [P, C]
    actor_rollout_ref.actor.use_kl_loss=True
    actor_rollout_ref.actor.kl_loss_coef=0.001         # [P, C]
    actor_rollout_ref.actor.kl_loss_type=low_var_kl    # [P, C]
    actor_rollout_ref.actor.entropy_coeff=0            # [C]
    actor_rollout_ref.actor.clip_ratio_low=0.2         # [P, C]
    actor_rollout_ref.actor.clip_ratio_high=0.2
    actor_rollout_ref.actor.loss_agg_mode=token-mean   # [C] verl's default; the paper's formula is seq-mean-token-mean

    # Policy and its update
    actor_rollout_ref.model.path="$POLICY"
    "${ATTENTION[@]}"
    actor_rollout_ref.model.enable_gradient_checkpointing=True   # [P, C]
    actor_rollout_ref.actor.strategy=fsdp              # [P, C]
    actor_rollout_ref.actor.optim.lr=1e-6              # [P, C] constant
    actor_rollout_ref.actor.optim.weight_decay=0.01    # [C] verl's default
    actor_rollout_ref.actor.grad_clip=1.0              # [C] verl's default
    actor_rollout_ref.actor.ppo_mini_batch_size=256    # [P, C] one update a step
    actor_rollout_ref.actor.use_dynamic_bsz=True       # [D]
    actor_rollout_ref.actor.ppo_max_token_len_per_gpu=16384      # [D]
    actor_rollout_ref.actor.data_loader_seed="$SEED"
    actor_rollout_ref.ref.fsdp_config.param_offload=True         # [D]
    'actor_rollout_ref.actor.checkpoint.save_contents=[model,optimizer,extra,hf_model]'    # 5_eval.sh reads the last

    # Rollouts
    actor_rollout_ref.rollout.name=vllm                # [P]
    actor_rollout_ref.rollout.n=16                     # [P, C] rollouts a prompt
    actor_rollout_ref.rollout.temperature=1.0          # [C]
    actor_rollout_ref.rollout.top_p=1.0                # [C]
    actor_rollout_ref.rollout.tensor_model_parallel_size=2       # [P, C]
    actor_rollout_ref.rollout.gpu_memory_utilization=0.6         # [C]
    actor_rollout_ref.rollout.max_model_len=4096       # [D] all that Qwen2.5-Math-7B has
    actor_rollout_ref.rollout.seed="$SEED"
    actor_rollout_ref.rollout.val_kwargs.temperature=0 # [C] greedy, one sample
    actor_rollout_ref.rollout.val_kwargs.n=1

    # Schedule and records
    trainer.total_epochs=25                # [C] at most; about 66 steps each
    trainer.total_training_steps="$STEPS"
    trainer.save_freq=50                   # [C]
    trainer.test_freq=10                   # [C]
    trainer.nnodes="$trainer_nodes"
    trainer.n_gpus_per_node="$GPUS"
    trainer.logger='[console]'             # [D]
    trainer.project_name=spark
    trainer.experiment_name="$ARM-$SEED"
    trainer.default_local_dir="$RUN"
    trainer.rollout_data_dir="$RUN/rollouts"           # [D] `verl-spark score` reads them

    # Reward
    reward.spark.seed="$SEED"
    "${serving[@]}"
    "${watching[@]}"
)
run python -m verl.trainer.main_ppo "${args[@]}" "${OVERRIDES[@]}" "$@"
