"""Before anything starts: is the composed config one that can work, and what follows from it for verl's own keys.

`check` and `advice` look, `engage` writes. All of it runs in the driver before Ray, a GPU or a download is touched,
and needs neither verl nor torch. Reasons name verl 0.9.1, whose behaviour they describe."""

import logging
import math
import os
import sys
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Literal

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict

from verl_spark.rewards.credit import GROUPED, REPLACEABLE
from verl_spark.rewards.designs import Basis
from verl_spark.rl.metrics import METRICS
from verl_spark.settings import MANAGER_OF, MANAGERS, NODE, SettingsError, SparkSettings
from verl_spark.verifier.identity import Identity
from verl_spark.verifier.limits import Limits
from verl_spark.versions import mixture

__all__ = ["SettingsError", "SparkCallback", "advice", "check", "engage", "prepare", "spark_door"]

logger = logging.getLogger(__name__)

Door = Literal["manager", "function"]

REWARD_FUNCTION = "pkg://verl_spark.rl.reward_function"
REWARD_FUNCTION_NAME = "compute_score"
TRAINER_PREFIX = "spark_"
"""`sync` runs as `spark_sync`: verl's trainer with our hook, registered under that name."""
TRAINER_MODES = ("sync", "colocate_async")
ESTIMATORS = (*sorted(GROUPED), "reinforce_plus_plus", "reinforce_plus_plus_baseline", "gae")
"""Advantage estimators under which a missing reward leaves the other rollouts' advantages as they should be."""
FEWEST_VOTERS = 3
"""Rollouts of a prompt among which a majority can have somebody against it."""

_MANAGER_PREFIX = "spark_"
_PROBE_METRICS = "spark/probe/"
_PLUGIN = "verl_spark.plugin"
_SHOW_FAULT = f"see where with: python -c 'import {_PLUGIN}'"
_REWARD_MODEL = "reward.reward_model"
_POLICY_PATH = "actor_rollout_ref.model.path"
_VERLS_OVERLONG = "reward.reward_kwargs.overlong_buffer_cfg"
_LEGACY = {  # old node: the prefix its keys have now
    "reward_model": _REWARD_MODEL,
    "custom_reward_function": "reward.custom_reward_function",
    "sandbox_fusion": "reward.sandbox_fusion",
}
_LEGACY_RENAMED = {
    "reward_model.num_workers": "reward.num_workers",
    "reward_model.reward_manager": "reward.reward_manager.name",
    "reward_model.reward_loop_source": "reward.reward_manager.source",
    "reward_model.reward_loop_module_path": "reward.reward_manager.module.path",
    "reward_model.reward_loop_class_name": "reward.reward_manager.name",
    "reward_model.model.path": f"{_REWARD_MODEL}.model_path",
}


def spark_door(config: DictConfig) -> Door | None:
    """By which of our doors the rewards of this config come, None if by none.

    "manager": the reward manager is one of ours (the presets name it). "function": one of verl's managers, or a
    user's, calls our reward function.
    """
    name = _get(config, "reward.reward_manager.name")
    if _get(config, "reward.reward_manager.source") != "importlib" and str(name).startswith(_MANAGER_PREFIX):
        return "manager"
    path = _get(config, "reward.custom_reward_function.path")
    return "function" if _is_ours(path) else None


def check(config: DictConfig) -> SparkSettings | None:
    """The settings of a config that can work; None when it uses none of our doors.

    Changes nothing. Raises `SettingsError` with one message that lists every problem found.
    """
    if isinstance(choice := _get(config, "reward_model"), str):
        raise SettingsError(
            [
                f"reward_model={choice} was taken for a plain value, which verl ignores: Hydra did not find our config "
                "group. Install verl-spark into this environment again; `verl-spark doctor` shows what is missing"
            ]
        )
    door = spark_door(config)
    if door is None:
        if _get(config, NODE) is not None:
            manager = _get(config, "reward.reward_manager.name")
            raise SettingsError(
                [
                    f"{NODE} is set, but reward.reward_manager.name={manager} and reward.custom_reward_function.path="
                    f"{_get(config, 'reward.custom_reward_function.path')} replace both ways to it; leave one of the "
                    "two out"
                ]
            )
        return None
    settings = _settings(config, door)
    if problems := [problem for rule in _RULES for problem in rule(config, settings)]:
        raise SettingsError(problems)
    return settings


def advice(config: DictConfig) -> Iterator[str]:
    """What is allowed in a config that `check` accepts, but hardly meant; each with the remedy."""
    for old, new in _legacy_keys(config):
        yield f"{old} is accepted by verl 0.9.1 and ignored; its place is {new} now"
    estimator = _get(config, "algorithm.adv_estimator")
    if estimator in GROUPED and _get(config, "actor_rollout_ref.rollout.n") == 1:
        yield (
            f"algorithm.adv_estimator={estimator} compares the rollouts of a prompt, and actor_rollout_ref.rollout.n=1 "
            "makes one of each, so nothing is learned; raise n, for instance to 16"
        )
    door = spark_door(config)
    settings = _settings(config, door) if door else SparkSettings()
    if door and settings.asks_verifier and settings.serving != "external":
        yield from _long_prompts(config, settings)
    if settings.zeroed_tokens == "leave_out" and not settings.credit.silences:
        yield (
            f"{NODE}.zeroed_tokens=leave_out changes nothing: {NODE}.design={settings.design} takes no token's whole "
            "advantage; leave it out, or set the design to selective"
        )
    reads_verls_overlong = _get(config, "reward.reward_manager.name") == "dapo"
    if _get(config, f"{_VERLS_OVERLONG}.enable") and not settings.overlong_buffer.enable and not reads_verls_overlong:
        length, factor = (_get(config, f"{_VERLS_OVERLONG}.{key}") for key in ("len", "penalty_factor"))
        yield (
            f"{_VERLS_OVERLONG} is read by verl's reward manager dapo alone; for the same penalty set "
            f"{NODE}.overlong_buffer={{enable: true, len: {length}, penalty_factor: {factor}}}"
        )
    if settings.probe_files and settings.basis and settings.basis.of_training:
        yield (
            f"{NODE}.probe_files: with {NODE}.design={settings.design} only rollouts of a training step have a reward, "
            "so the probe gives accuracy alone, as validation does; leave the files out"
        )
    path = _get(config, "reward.custom_reward_function.path")
    if door == "manager" and path is not None and not _is_ours(path):
        yield (
            f"reward.custom_reward_function.path={path} is loaded but not called: training rewards come from the "
            "verifier, validation from the rule-based checker; leave it out"
        )


def engage(config: DictConfig) -> SparkSettings | None:
    """Checks `config` and completes it in place, so that verl does what `reward.spark` says.

    Fills in the node `reward.spark` (two of the doors come without it), the way of serving, and the trainer with our
    hook. Repeatable. Returns and raises as `check` does.
    """
    if (settings := check(config)) is None:
        return None
    for line in advice(config):
        logger.warning("verl-spark: %s", line)
    if settings.credit.reads_steps:
        estimator = config.algorithm.adv_estimator
        logger.info("verl-spark: the advantages of %s are replaced by those of %s", estimator, settings.design)
    served_here = settings.asks_verifier and settings.serving != "external"
    pooled = served_here and settings.serving == "pool"
    with open_dict(config):
        config.reward.spark = settings.to_node()
        model = config.reward.reward_model
        model.enable = served_here
        # Without `enable` verl would still set the pool's GPUs aside.
        model.enable_resource_pool = pooled
        if pooled:
            # verl puts a pooled reward model to sleep at the start and wakes it on the colocated route only.
            model.rollout.free_cache_engine = False
            model.nnodes = model.nnodes or 1
        if served_here:
            if OmegaConf.is_missing(model.rollout, "name"):
                model.rollout.name = config.actor_rollout_ref.rollout.name
            if model.rollout.response_length < settings.verifier.token_limit:
                model.rollout.response_length = settings.verifier.token_limit
            if config.reward.custom_reward_function.path is None:
                # Else verl asks the model as a classifier and never calls the reward manager.
                config.reward.custom_reward_function.path = REWARD_FUNCTION
                config.reward.custom_reward_function.name = REWARD_FUNCTION_NAME
        if settings.probe_files:
            files = _listed(config.data.val_files)
            config.data.val_files = [*files, *(file for file in settings.probe_files if file not in files)]
        config.trainer.v1.trainer_mode = TRAINER_PREFIX + _trainer_mode(config)
    return settings


def prepare(config: DictConfig) -> SparkSettings | None:
    """`engage`, ending the program with the one message instead of a traceback when the config cannot work."""
    try:
        return engage(config)
    except SettingsError as error:
        raise SystemExit(str(error)) from None


class SparkCallback(Callback):
    """Hydra callback of the presets: refuses a run that would ignore them or cannot work.

    It does not depend on verl loading the plugin, and that is what it looks at first. Hydra turns exceptions of a
    callback into warnings, hence `SystemExit`; printing a config (`--cfg job`) runs no callback.
    """

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Checks a single run, before its output folder is made."""
        self._check(config)

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Checks each job of a multirun."""
        self._check(config)

    def _check(self, config: DictConfig) -> None:
        problem = plugin_problem()
        if problems := [*([problem] if problem else []), *mixture()]:
            raise SystemExit(str(SettingsError(problems)))
        try:
            check(config)
        except SettingsError as error:
            raise SystemExit(str(error)) from None


def plugin_problem() -> str | None:
    """Why verl does not load our plugin in this environment, as "problem; cure"; None if it does.

    verl itself reports a plugin that it leaves out or that fails at debug level only.
    """
    if _PLUGIN in os.environ.get("VERL_USE_EXTERNAL_MODULES", "").split(","):
        return _import_problem()
    entry = _entry_point()
    if entry is None:
        return (
            "verl-spark is not installed in this environment, only importable, so verl cannot find its plugin; run "
            "`pip install -e .` in its folder, or set VERL_USE_EXTERNAL_MODULES=verl_spark.plugin"
        )
    policy = os.environ.get("VERL_USE_EXTERNAL_PLUGINS", "auto")
    allowed = {name.strip() for name in policy.strip().lower().split(",")}  # as verl reads it
    if allowed != {"auto"} and entry.name not in allowed:
        return (
            f"VERL_USE_EXTERNAL_PLUGINS={policy} keeps verl from loading the plugin {entry.name}; unset the variable "
            f"or add {entry.name} to it"
        )
    return _import_problem()


def _entry_point() -> EntryPoint | None:
    return next((entry for entry in entry_points(group="verl.plugins") if entry.value == _PLUGIN), None)


def _import_problem() -> str | None:
    """The fault that verl swallowed. Before verl itself is loaded there can be none yet."""
    if "verl" not in sys.modules or _PLUGIN in sys.modules:
        return None
    try:
        import_module(_PLUGIN)
    except Exception as error:
        return f"{_PLUGIN} cannot be loaded: {type(error).__name__}: {error}; {_SHOW_FAULT}"
    return f"verl was loaded without {_PLUGIN}; {_SHOW_FAULT}"


def _settings(config: DictConfig, door: Door) -> SparkSettings:
    if door == "function":
        return SparkSettings.from_config(_get(config, NODE))
    name = str(_get(config, "reward.reward_manager.name"))
    if name not in MANAGERS:
        raise SettingsError([f"reward.reward_manager.name: there is no {name}; ours are: {', '.join(MANAGERS)}"])
    settings = SparkSettings.from_config(_get(config, NODE), manager=name)
    kind, own = settings.verifier.kind, MANAGERS[name].kind
    if settings.asks_verifier and own and kind is not own:
        raise SettingsError(
            [
                f"{NODE}.verifier.kind={kind.value} does not go with reward.reward_manager.name={name}; set "
                f"reward.reward_manager.name={MANAGER_OF[kind]}, or the kind to {own.value}"
            ]
        )
    return settings


def _trainer(config: DictConfig, settings: SparkSettings) -> Iterator[str]:
    if _get(config, "async_training") is not None:
        yield "async_training: the fully asynchronous trainer is not supported yet; use verl.trainer.main_ppo"
        return
    if _get(config, "trainer.use_v1") is False:
        yield "trainer.use_v1=False: verl's old trainer has no place for our hook; leave the option out"
    mode = _trainer_mode(config)
    if mode == "separate_async":
        yield (
            "trainer.v1.trainer_mode=separate_async: verl 0.9.1 asserts a colocated reward model out there, and our "
            "hook is not proven in it, so it is refused until it holds; use sync or colocate_async"
        )
    elif mode not in TRAINER_MODES:
        yield f"trainer.v1.trainer_mode={mode}: our hook is there for {' and '.join(TRAINER_MODES)}; use one of them"


def _algorithm(config: DictConfig, settings: SparkSettings) -> Iterator[str]:
    name = _get(config, "algorithm.adv_estimator")
    if name not in ESTIMATORS and not settings.credit.reads_steps:
        yield (
            f"algorithm.adv_estimator={name}: it is not proven that a rollout with a missing reward leaves the others "
            f"alone under it; use one of: {', '.join(ESTIMATORS)}"
        )
    if _get(config, "algorithm.filter_groups.enable"):
        yield (
            "algorithm.filter_groups.enable=True: verl's filter would read a missing reward as 0 and drop or keep "
            "groups by it; set it to False"
        )


def _credit(config: DictConfig, settings: SparkSettings) -> Iterator[str]:
    """What a design that credits steps needs to reach the tokens."""
    if not settings.credit.reads_steps:
        return
    said = f"{NODE}.design={settings.design}"
    estimator = _get(config, "algorithm.adv_estimator")
    if estimator not in REPLACEABLE:
        yield (
            f"algorithm.adv_estimator={estimator} reads no step marks, and {said} puts its own advantages in place of "
            f"grpo's only; set algorithm.adv_estimator=grpo, or {NODE}.design=process_aware"
        )
    if _get(config, "algorithm.use_kl_in_reward"):
        yield (
            f"algorithm.use_kl_in_reward=True has no place in the advantages of {said}; set it to False, and "
            "actor_rollout_ref.actor.use_kl_loss=True for a KL term in the loss, as in the paper"
        )
    if _get(config, "critic.enable"):
        yield f"critic.enable=True: {said} leaves a critic nothing to learn from; leave the option out"
    if spark_door(config) == "function":
        yield (
            f"{said} needs the response's token ids, and verl hands a reward function the text alone; set "
            "reward.reward_manager.name=spark_prmcot (or spark_prm) instead of reward.custom_reward_function.path"
        )


def _probe(config: DictConfig, settings: SparkSettings) -> Iterator[str]:
    """Whether the probe set is ever asked, and never trained on."""
    if not settings.probe_files:
        return
    if (_get(config, "trainer.test_freq") or 0) <= 0:
        yield (
            f"{NODE}.probe_files is asked at verl's validations, and trainer.test_freq="
            f"{_get(config, 'trainer.test_freq')} allows none during training; set trainer.test_freq=10, or leave the "
            "files out"
        )
    if both := [file for file in settings.probe_files if file in _listed(_get(config, "data.train_files"))]:
        yield (
            f"{NODE}.probe_files: {', '.join(both)} is also in data.train_files, and training must never see the "
            "probe; take it out of one of the two"
        )


def _alarms(config: DictConfig, settings: SparkSettings) -> Iterator[str]:
    """Whether every alarm watches a metric that there is."""
    for name in settings.alarms or {}:
        if name not in METRICS:
            near = get_close_matches(name, METRICS, n=3, cutoff=0.5)
            meant = f"near it are {', '.join(near)}; all" if near else "all"
            yield f"{NODE}.alarms: there is no metric {name}; {meant} are listed by `verl-spark metrics`"
        elif name.startswith(_PROBE_METRICS) and not settings.probe_files:
            yield (
                f"{NODE}.alarms: {name} needs a probe set; name its files in {NODE}.probe_files, or leave the alarm out"
            )


def _serving(config: DictConfig, settings: SparkSettings) -> Iterator[str]:
    if not settings.asks_verifier:
        return
    serving = settings.serving
    enable = bool(_get(config, f"{_REWARD_MODEL}.enable"))
    pool = bool(_get(config, f"{_REWARD_MODEL}.enable_resource_pool"))
    said = f"{NODE}.serving={serving}"
    if serving == "pool" and enable and not pool:
        yield (
            f"{_REWARD_MODEL}.enable=True with enable_resource_pool=False asks for a colocated reward model, {said} "
            f"for one with GPUs of its own; set {NODE}.serving=colocate, or leave {_REWARD_MODEL}.enable out"
        )
    if serving != "pool" and pool:
        yield (
            f"{_REWARD_MODEL}.enable_resource_pool=True asks for GPUs of its own, {said} for none; leave it out, or "
            f"set {NODE}.serving=pool"
        )
    if serving == "external" and enable and not pool:
        yield (
            f"{_REWARD_MODEL}.enable=True starts a reward model here, {said} uses servers that are up already; leave "
            f"it out, or set {NODE}.serving=colocate"
        )
    if serving == "colocate" and spark_door(config) == "function":
        yield (
            f"{said} with reward.reward_manager.name={_get(config, 'reward.reward_manager.name')}: verl hands a "
            "colocated reward model no data source and no ground truth, which this manager reads; set "
            f"reward.reward_manager.name=spark_prmcot, or {NODE}.serving=pool"
        )


def _reward_model(config: DictConfig, settings: SparkSettings) -> Iterator[str]:
    if not settings.asks_verifier or settings.serving == "external":
        return
    rollout = f"{_REWARD_MODEL}.rollout"
    if not _get(config, f"{_REWARD_MODEL}.model_path"):
        old = _get(config, "reward_model.model.path")
        ignored = f" (reward_model.model.path={old} is ignored by verl 0.9.1)" if old else ""
        yield (
            f"{_REWARD_MODEL}.model_path: no reward model is named{ignored}; set it to the folder or hub name of a "
            f"generative {settings.verifier.kind.value} model, or use {NODE}.serving=external"
        )
    yield from _identity(config, settings)
    if _get(config, f"{rollout}.skip_tokenizer_init"):
        yield f"{rollout}.skip_tokenizer_init=True: verl's reward model server needs its tokenizer; set it to False"
    limits = Limits()
    try:
        limits = Limits.of(_folder(config))
    except ValueError as error:
        yield f"{_REWARD_MODEL}.model_path: {error}"
    yield from _lengths(config, settings, limits)
    group = _REWARD_MODEL if settings.serving == "pool" else "trainer"
    yield from _gpus(config, "the reward model", rollout, group, _folder(config), limits)
    yield from _memory(config, settings)


def _identity(config: DictConfig, settings: SparkSettings) -> Iterator[str]:
    """A local model that says what it is must be asked as that; a name on a hub is not looked up here."""
    folder, kind = _folder(config), settings.verifier.kind
    try:
        identity = Identity.of(folder)
    except ValueError as error:
        yield f"{_REWARD_MODEL}.model_path: {error}"
        return
    if identity is None or (problem := identity.misfit(kind)) is None:
        return
    cure = ""
    if identity.kind is not kind:
        cure = f"; set reward_model={MANAGER_OF[identity.kind]}, or name a {kind.value} model"
    yield f"{_REWARD_MODEL}.model_path={folder}: {problem}{cure}"


def _lengths(config: DictConfig, settings: SparkSettings, limits: Limits) -> Iterator[str]:
    rollout, verifier = f"{_REWARD_MODEL}.rollout", settings.verifier
    reply, room = _get(config, f"{rollout}.response_length"), _get(config, f"{rollout}.max_model_len")
    if verifier.max_tokens is not None and reply is not None and verifier.max_tokens > reply:
        yield (
            f"{NODE}.verifier.max_tokens={verifier.max_tokens} is more than {rollout}.response_length={reply}; lower "
            "the first or raise the second"
        )
    if room is not None and limits.positions is not None and room > limits.positions:
        yield (
            f"{rollout}.max_model_len={room} is more than the {limits.positions} positions that {_folder(config)} has; "
            f"set it to {limits.positions} or less, or take a verifier with a longer context"
        )
        return
    room, said = _room(config, limits)
    if room is not None and verifier.token_limit + (verifier.max_prompt_tokens or 1) > room:
        yield (
            f"{said} has no room for a prompt beside a reply of "
            f"{verifier.token_limit} tokens; raise it, or lower {NODE}.verifier.max_tokens and max_prompt_tokens"
        )


def _room(config: DictConfig, limits: Limits) -> tuple[int | None, str]:
    """Tokens that the verifier's engine takes, prompt and reply together, and what says so; None where nothing does."""
    key = f"{_REWARD_MODEL}.rollout.max_model_len"
    room = _get(config, key)
    if room is None and limits.positions is not None:
        return limits.positions, f"{_folder(config)}: its context of {limits.positions} tokens"
    return room, f"{key}={room}"


def _long_prompts(config: DictConfig, settings: SparkSettings) -> Iterator[str]:
    """Whether the longest problem and solution have room in front of the longest reply.

    A limit that the user has set for prompts is meant, and `check` compares it; tokens are the policy's here."""
    verifier = settings.verifier
    shown = [_get(config, f"data.max_{part}_length") for part in ("prompt", "response")]
    room, said = _room(config, Limits.of(_folder(config)))
    if room is None or verifier.max_prompt_tokens is not None or None in shown:
        return
    needed = sum(shown) + verifier.token_limit
    if needed > room:
        yield (
            f"{said} is less than the {needed} tokens that the longest prompt, response and verification take together "
            f"(data.max_prompt_length={shown[0]}, data.max_response_length={shown[1]}, {NODE}.verifier.max_tokens="
            f"{verifier.token_limit}): what has no room gets no reward (spark/missing/too_long); set "
            f"{_REWARD_MODEL}.rollout.max_model_len={needed} if the verifier has that context, or lower the others"
        )


def _policy(config: DictConfig, settings: SparkSettings) -> Iterator[str]:
    """Whether the policy's rollout engine can be spread over its GPUs; verl's workers find out after Ray is up."""
    folder, limits = _folder(config, _POLICY_PATH), Limits()
    try:
        limits = Limits.of(folder)
    except ValueError as error:
        yield f"{_POLICY_PATH}: {error}"
    yield from _gpus(config, "the policy", "actor_rollout_ref.rollout", "trainer", folder, limits)


def _gpus(config: DictConfig, who: str, rollout: str, group: str, folder: Path, limits: Limits) -> Iterator[str]:
    """Whether the engine of the node `rollout` divides its model's heads, and the GPUs of its group."""
    sizes = {name: _get(config, f"{rollout}.{name}") or 1 for name in _PARALLEL_SIZES}
    yield from limits.undivided(folder, f"{rollout}.{_TENSOR}", sizes[_TENSOR])
    per_node, nodes = _get(config, f"{group}.n_gpus_per_node"), _get(config, f"{group}.nnodes")
    if group == _REWARD_MODEL:
        nodes = nodes or 1  # 0 is verl's default and means "no pool"
    if per_node is None or nodes is None:
        return
    given, replica = per_node * nodes, math.prod(sizes.values())
    if given < 1 or given % replica:
        split = ", ".join(f"{name}={size}" for name, size in sizes.items())
        yield (
            f"{group}.n_gpus_per_node={per_node} and nnodes={nodes}: {who} gets {given} GPUs, which is no multiple of "
            f"the {replica} that one replica takes ({rollout}: {split}); change either"
        )


def _memory(config: DictConfig, settings: SparkSettings) -> Iterator[str]:
    """Whether policy and verifier, on the same GPUs, leave them to each other."""
    if settings.serving != "colocate":
        return
    engines = ("actor_rollout_ref.rollout", f"{_REWARD_MODEL}.rollout")
    awake = [engine for engine in engines if _get(config, f"{engine}.free_cache_engine") is False]
    shares = [_get(config, f"{engine}.gpu_memory_utilization") for engine in engines]
    if awake and None not in shares and sum(shares) > 1:
        yield (
            f"{awake[0]}.free_cache_engine=False keeps its memory while the other engine works, and together they ask "
            f"for more than there is (gpu_memory_utilization: {shares[0]} of the policy, {shares[1]} of the verifier); "
            "set it to True, or lower the two to less than 1 together"
        )


def _reward(config: DictConfig, settings: SparkSettings) -> Iterator[str]:
    """What a reward without a verifier, and the overlong penalty, need of the recipe."""
    n, most = _get(config, "actor_rollout_ref.rollout.n"), _get(config, "data.max_response_length")
    if settings.basis is Basis.GROUP and n is not None and n < FEWEST_VOTERS:
        yield (
            f"actor_rollout_ref.rollout.n={n}: with {NODE}.design={settings.design} the rollouts of a prompt vote, and "
            f"fewer than {FEWEST_VOTERS} agree or tie; raise n, for instance to 16"
        )
    buffer = settings.overlong_buffer
    if buffer.enable and most is not None and buffer.len > most:
        yield (
            f"{NODE}.overlong_buffer.len={buffer.len} is more than data.max_response_length={most}, so that even an "
            "empty response would lose some; lower the first or raise the second"
        )
    if spark_door(config) != "function":
        return
    reasons = [] if settings.asks_verifier else [f"{NODE}.design={settings.design}"]
    for said in [*reasons, *([f"{NODE}.overlong_buffer.enable=True"] if buffer.enable else [])]:
        yield (
            f"{said} needs more of a rollout than the text that verl hands a reward function; use a preset "
            "(reward_model=…) or one of our reward managers instead of reward.custom_reward_function.path"
        )


def _function(config: DictConfig, settings: SparkSettings) -> Iterator[str]:
    path, name = (_get(config, f"reward.custom_reward_function.{key}") for key in ("path", "name"))
    if path == REWARD_FUNCTION and name != REWARD_FUNCTION_NAME:
        yield f"reward.custom_reward_function.name={name}: {path} has {REWARD_FUNCTION_NAME}; leave the option out"


_TENSOR = "tensor_model_parallel_size"
_PARALLEL_SIZES = (_TENSOR, "data_parallel_size", "pipeline_model_parallel_size")
_RULES = (_trainer, _algorithm, _credit, _policy, _reward, _probe, _alarms, _serving, _reward_model, _function)


def _legacy_keys(config: DictConfig) -> Iterator[tuple[str, str]]:
    """Old keys that carry a value, with the key that took their place."""
    for node, new in _LEGACY.items():
        for key in _leaves(_get(config, node)):
            old = f"{node}.{key}"
            yield old, _LEGACY_RENAMED.get(old, f"{new}.{key}")


def _leaves(node: Any) -> Iterator[str]:
    """Dotted keys below `node` that hold a value."""
    if not isinstance(node, Mapping | DictConfig):
        return
    for key, value in node.items():
        if isinstance(value, DictConfig):
            yield from (f"{key}.{rest}" for rest in _leaves(value))
        elif value is not None:
            yield str(key)


def _trainer_mode(config: DictConfig) -> str:
    """verl's name of the trainer mode, also in a config that `engage` has been over."""
    return str(_get(config, "trainer.v1.trainer_mode")).removeprefix(TRAINER_PREFIX)


def _listed(files: Any) -> list[str]:
    """verl takes one file or a list of them."""
    return [files] if isinstance(files, str) else list(files or ())


def _folder(config: DictConfig, key: str = f"{_REWARD_MODEL}.model_path") -> Path:
    """Of the reward model, or of the one under another key, if it is a local one."""
    return Path(str(_get(config, key))).expanduser()


def _is_ours(path: Any) -> bool:
    return isinstance(path, str) and (path + ".").startswith("pkg://verl_spark.")


def _get(config: DictConfig, key: str) -> Any:
    """The value at a dotted key; None if any part is absent or `???`."""
    return OmegaConf.select(config, key, throw_on_missing=False)
