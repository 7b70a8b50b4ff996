"""Command-line overrides and process environment with which verl 0.9.1 runs on the CPU: RL (`verl.trainer.main_ppo`)
and SFT (`verl.trainer.sft_trainer`)."""

_ATTENTION = "override_config.attn_implementation=sdpa"

CPU_OVERRIDES: tuple[str, ...] = (
    # verl's automatic choice of the device leaves "cpu" out, so that the default "cuda" would stay.
    "trainer.device=cpu",
    # The resource check counts GPUs; these are logical ones, two leave room for a reward model in its own pool. Every
    # worker also reserves CPUs that Ray only counts.
    "+ray_kwargs.ray_init.num_gpus=2",
    "ray_kwargs.ray_init.num_cpus=16",
    "+ray_kwargs.ray_init.include_dashboard=False",
    # FSDP1 refuses modules on the CPU (sync_module_states); the reference model follows the actor.
    "actor_rollout_ref.actor.strategy=fsdp2",
    "critic.strategy=fsdp2",
    # Flash attention needs CUDA, and with it the packed (unpadded) input.
    f"+actor_rollout_ref.model.{_ATTENTION}",
    f"+critic.model.{_ATTENTION}",
    "actor_rollout_ref.model.use_remove_padding=False",
    "critic.model.use_remove_padding=False",
    # Not every CPU has instructions for bfloat16; emulated, they turn the seconds of an update into minutes.
    "+actor_rollout_ref.actor.fsdp_config.mixed_precision.param_dtype=fp32",
    "+critic.fsdp.mixed_precision.param_dtype=fp32",
    "actor_rollout_ref.rollout.dtype=float32",
    "reward.reward_model.rollout.dtype=float32",
    # Small models gain nothing from compiling, nor from recomputing activations.
    "actor_rollout_ref.actor.use_torch_compile=False",
    "actor_rollout_ref.actor.fsdp_config.use_torch_compile=False",
    "critic.fsdp.use_torch_compile=False",
    "actor_rollout_ref.model.enable_gradient_checkpointing=False",
    "critic.model.enable_gradient_checkpointing=False",
    # vLLM's CPU worker has no CUDA graphs and no sleep mode (its config refuses it); one process per engine is enough,
    # see PlatformCPU.rollout_env_vars.
    *(
        override.format(rollout)
        for rollout in ("actor_rollout_ref.rollout", "reward.reward_model.rollout")
        for override in (
            "{}.enforce_eager=True",
            "{}.free_cache_engine=False",
            "+{}.enable_sleep_mode=False",
            "{}.tensor_model_parallel_size=1",
            "+{}.engine_kwargs.vllm.distributed_executor_backend=uni",
        )
    ),
    # Weights travel through a shared-memory bucket of this size in MB, which must hold the largest tensor; the default
    # is 2048.
    "actor_rollout_ref.rollout.checkpoint_engine.update_weights_bucket_megabytes=64",
    # One helper process of each kind: the defaults are 8, made for a node with many cores. Each costs seconds of
    # start-up and about 0.4 GB.
    "actor_rollout_ref.rollout.agent.num_workers=1",
    "reward.num_workers=1",
    "transfer_queue.backend.SimpleStorage.num_data_storage_units=1",
    "data.dataloader_num_workers=0",
)

SFT_CPU_OVERRIDES: tuple[str, ...] = (
    # One model and no Ray; each line has the reason that the same setting of the policy has above.
    "trainer.device=cpu",
    "engine.strategy=fsdp2",
    f"+model.{_ATTENTION}",
    "model.use_remove_padding=False",
    "+engine.mixed_precision.param_dtype=fp32",
    "engine.use_torch_compile=False",
    "model.enable_gradient_checkpointing=False",
    # Tokenising a row takes no time beside a step; the default of 8 worker processes does.
    "data.num_workers=0",
)


def environment(threads: int = 2) -> dict[str, str]:
    """Variables for the driver's environment, which a Ray started by it hands to every worker.

    `threads` is the number of cores each of trainer and engine may use; they take turns.
    """
    return {
        "VERL_PLATFORM": "cpu",
        "OMP_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "PASSIVE",  # threads that spin while they wait take the cores from the other processes
        "RAY_prestart_worker_first_driver": "0",  # Ray would start an idle worker for each CPU that it only counts
        "HF_HUB_OFFLINE": "1",  # models and tokenizers are local folders
    }
