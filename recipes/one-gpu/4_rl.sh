#!/usr/bin/env bash
# Stage III: GRPO with the reward of ARM; policy, rollouts and verifier take turns on the GPU.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$HERE/../common.sh"
source "$HERE/settings.sh"

STEPS=${STEPS:-60}

read_arm "$HERE/arms.txt"
attention actor_rollout_ref.model
RUN=$OUT/rl/$ARM-$SEED
POLICY=$(last_checkpoint "$OUT/format_sft")/huggingface
verifier=()
if [[ $KIND != - ]]; then
    verifier=(
        reward.spark.serving=colocate
        reward.spark.verifier.max_tokens=1536
        reward.spark.probe_files="[$OUT/problems/probe.parquet]"
        reward.spark.suspects.folder="$RUN/suspects"
        reward.reward_model.model_path="$OUT/prm/$KIND-$METHOD-$SEED/export"
        reward.reward_model.rollout.tensor_model_parallel_size=1
        reward.reward_model.rollout.gpu_memory_utilization=0.35
        reward.reward_model.rollout.max_model_len=4096
        +reward.reward_model.rollout.engine_kwargs.vllm.distributed_executor_backend=uni
    )
fi
args=(
    data.train_files="$OUT/problems/$PROMPTS.parquet"
    data.val_files="$OUT/problems/test.parquet"
    data.train_batch_size=64
    data.max_prompt_length=512
    data.max_response_length=768
    data.filter_overlong_prompts=True
    data.seed="$SEED"
    algorithm.adv_estimator=grpo
    actor_rollout_ref.model.path="$POLICY"
    "${ATTENTION[@]}"
    actor_rollout_ref.actor.optim.lr=1e-6
    actor_rollout_ref.actor.ppo_mini_batch_size=64
    actor_rollout_ref.actor.use_dynamic_bsz=True
    actor_rollout_ref.actor.ppo_max_token_len_per_gpu=8192
    actor_rollout_ref.actor.use_kl_loss=True
    actor_rollout_ref.actor.kl_loss_coef=0.001
    actor_rollout_ref.actor.data_loader_seed="$SEED"
    actor_rollout_ref.ref.fsdp_config.param_offload=True
    'actor_rollout_ref.actor.checkpoint.save_contents=[model,optimizer,extra,hf_model]'    # 5_eval.sh reads the last
    actor_rollout_ref.rollout.name=vllm
    actor_rollout_ref.rollout.n=8
    actor_rollout_ref.rollout.tensor_model_parallel_size=1
    actor_rollout_ref.rollout.gpu_memory_utilization=0.35
    actor_rollout_ref.rollout.max_model_len=2048
    actor_rollout_ref.rollout.seed="$SEED"
    +actor_rollout_ref.rollout.engine_kwargs.vllm.distributed_executor_backend=uni    # one GPU: a process less
    trainer.total_training_steps="$STEPS"
    trainer.save_freq="$STEPS"
    trainer.test_freq=10
    trainer.nnodes=1
    trainer.n_gpus_per_node=1
    trainer.logger='[console]'
    trainer.project_name=spark_one_gpu
    trainer.experiment_name="$ARM-$SEED"
    trainer.default_local_dir="$RUN"
    trainer.rollout_data_dir="$RUN/rollouts"
    reward.spark.seed="$SEED"
    "${verifier[@]}"
)
run python -m verl.trainer.main_ppo "${args[@]}" "${OVERRIDES[@]}" "$@"
