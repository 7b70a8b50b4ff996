"""The typed node `reward.spark`: every setting of a run, its default, and how settings depend on each other.

Unknown keys are refused and the object is frozen. What a setting means stands under its field, once; the presets in
`conf/reward_model` repeat the defaults only to show them in `--cfg job`, and a test compares the two. Checks that
need the rest of verl's config are in `launch.py`."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal, get_args

from omegaconf import DictConfig, OmegaConf
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic.fields import FieldInfo

from verl_spark.rewards.credit import Credit
from verl_spark.rewards.designs import (
    FORMAT_WEIGHT,
    OUTCOME_WEIGHT,
    PROCESS_WEIGHT,
    Baseline,
    Basis,
    Design,
    composed,
    get_design,
)
from verl_spark.verification.kinds import Kind
from verl_spark.verification.policy_format import get_policy_format

NODE = "reward.spark"

COMPOSED = "composed"
"""The design that `weights` are for."""

_REPLY_TOKENS, _THINKING_REPLY_TOKENS = 4096, 8192  # SPARK: room for a verification, and with a thinking part


class SettingsError(ValueError):
    """The config cannot work. Its text lists every problem found, each with the option and the cure."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("verl-spark refuses this config:\n" + "\n".join(f"  - {problem}" for problem in self.problems))


def _named(lookup: Callable[[str], object]) -> AfterValidator:
    """A name that `lookup` knows; its ValueError, which lists the names, becomes the message."""

    def check(name: str) -> str:
        lookup(name)
        return name

    return AfterValidator(check)


Share = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]  # finite: a hung verifier must not hang training
Bound = Annotated[float, Field(allow_inf_nan=False)]
Temperature = Annotated[float, Field(ge=0, allow_inf_nan=False)]
BaseUrl = Annotated[str, StringConstraints(pattern=r"^https?://")]
VariableName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


class Node(BaseModel):
    """A group of settings: frozen, unknown keys refused, each key described by the text under it."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


def reply_tokens(kind: Kind) -> int:
    """Longest reply of a verifier of this kind in tokens, where no other limit is set."""
    return _THINKING_REPLY_TOKENS if kind is Kind.THINK_PRM else _REPLY_TOKENS


class VerifierSettings(Node):
    """How the generative reward model is asked."""

    kind: Kind = Kind.PRM_COT
    """What the model was trained to write: `orm`, `prm`, `prm_cot` or `think_prm`. It decides prompt and reader."""
    max_tokens: PositiveInt | None = None
    """Longest reply; null is 4096, and 8192 for `think_prm`. A reply cut there counts as missing, never as wrong."""
    max_prompt_tokens: PositiveInt | None = None
    """Longest prompt that is sent, in the verifier's tokens; a longer one counts as missing without a call. Null: no
    limit of ours; what the server refuses as too long counts as missing all the same."""
    temperature: Temperature = 0.0
    """0 is greedy. Only a greedy verifier's answers are used again for the same prompt and text."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Nucleus of the verifier's sampling; of no effect at temperature 0."""
    timeout_s: Seconds = 300.0
    """Seconds for one attempt, queueing in the server included."""
    deadline_s: Seconds = 600.0
    """Seconds for one judgement with all its attempts and pauses. After that the reward is missing."""
    attempts: PositiveInt = 4
    """Requests for one judgement at most; only faults that can pass (no connection, time-out, 429, 5xx) are retried."""
    max_concurrency: PositiveInt = 256
    """Calls in flight of the whole run, over all reward workers and servers."""
    base_urls: tuple[BaseUrl, ...] = ()
    """OpenAI-compatible servers of `serving: external`, such as `[http://host:8000/v1]`; they share the calls."""
    model: str | None = None
    """Name under which the external servers offer the model."""
    api_key_env: VariableName | None = None
    """Name of the environment variable with the external servers' key; the key itself never stands in a config."""
    seed: int | None = None
    """Seed sent with every call; null sends none."""

    @property
    def token_limit(self) -> int:
        """Longest reply in tokens, with the default resolved."""
        return reply_tokens(self.kind) if self.max_tokens is None else self.max_tokens


class Alarm(Node):
    """When a metric of a training step is out of bounds, and what follows."""

    above: Bound | None = None
    """Out of bounds is what is more than this."""
    below: Bound | None = None
    """Out of bounds is what is less than this."""
    for_steps: PositiveInt = 1
    """How many values in a row must be out of bounds; a step without the metric does not count."""
    action: Literal["warn", "stop"] = "warn"
    """`warn` logs a line and counts in `spark/alarms`; `stop` also ends the training after the step."""

    @model_validator(mode="after")
    def _bounds(self) -> "Alarm":
        if self.above is None and self.below is None:
            raise ValueError("an alarm without a bound never goes off; give `above`, `below` or both")
        if self.above is not None and self.below is not None and self.below > self.above:
            raise ValueError(f"no value is within below={self.below:g} and above={self.above:g}; exchange the two")
        return self

    def broken(self, value: float) -> str | None:
        """The bound that the value breaks, in words; None within bounds."""
        if self.above is not None and value > self.above:
            return f"above {self.above:g}"
        if self.below is not None and value < self.below:
            return f"below {self.below:g}"
        return None


class SuspectSettings(Node):
    """Which suspicious rollouts are kept, and where."""

    folder: Annotated[str, StringConstraints(min_length=1)] | None = None
    """Folder for the most suspicious rollouts of every step, a file `<step>.jsonl` each; null keeps none."""
    per_step: PositiveInt = 16
    """Rollouts of a step that are kept at most."""


class WeightSettings(Node):
    """What the design `composed` is made of: V·(`format` + `process`·k/n + `outcome`·y)."""

    format: Share = FORMAT_WEIGHT
    """Weight of a valid format under `design: composed`; all three add up to 1."""
    process: Share = PROCESS_WEIGHT
    """Weight of the share of correct steps; above 0 it takes a verifier that marks steps."""
    outcome: Share = OUTCOME_WEIGHT
    """Weight of the verdict."""


class OverlongSettings(Node):
    """The soft penalty for long responses of verl's reward manager `dapo`, under its names."""

    enable: bool = False
    """Whether a long response is penalised, under any design; names and formula are those of verl's `dapo`. A missing
    reward stays missing."""
    len: NonNegativeInt = 0
    """Tokens before `data.max_response_length` over which the penalty grows in a straight line from 0."""
    penalty_factor: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    """What a response of the full length loses."""


class SparkSettings(Node):
    """The node `reward.spark`."""

    design: Annotated[str, _named(get_design)] = "process_aware"
    """How a reading becomes a reward, and what it means for a token. `process_aware`: the verdict, from a verifier that
    judged each step; `orm`: the verdict of an outcome model; `step_augmented`: 0.4 times the share of correct steps and
    0.6 times the verdict; `step_average`: that share alone; `selective`: the verdict, and no advantage for the tokens
    of a step whose mark contradicts it; `selective_half`: half of it for them; `global_step`: 0.8 of the verdict's
    advantage and 0.2 of the steps'; `composed`: format, steps and verdict by `weights`. Without a verifier: `format`,
    the gate alone; `rlvr`, the rule-based check against references; `random`, a coin; `majority`, the most frequent
    answer of the prompt's rollouts. `module:NAME`: a design of your own."""
    weights: WeightSettings = WeightSettings()
    """Of the design `composed`."""
    overlong_buffer: OverlongSettings = OverlongSettings()
    """The soft penalty for long responses."""
    seed: int = 0
    """Seed of the design `random`; with training step, dataset index and rollout it says how a coin falls."""
    zeroed_tokens: Literal["keep", "leave_out"] = "keep"
    """What becomes of tokens whose advantage `selective` takes away: `keep` leaves them in the loss denominator, KL and
    entropy, as in the paper; `leave_out` takes them out of the policy's update."""
    policy_format: Annotated[str, _named(get_policy_format)] = "tags"
    """Text format of the policy: `tags` (think, step and answer tags) or `plain` (a single box, steps by `Step k` or
    paragraphs)."""
    policy_prompt: Literal["inject", "as_is"] = "inject"
    """`inject` adds our format instruction to the last user turn; `as_is` leaves the recipe's prompt alone."""
    problem_field: str | None = None
    """Dataset column, or key of `extra_info`, with the problem as the verifier shall see it. Null: the last user turn,
    before our instruction."""
    format_gate: bool = True
    """Whether a response in the wrong format gets 0 without a call. False asks the verifier, or what a baseline goes
    by, about every response."""
    rendering: Literal["stage1", "raw"] = "stage1"
    """How the verifier sees a solution: `stage1` in numbered steps, as in its training data; `raw` as the policy wrote
    it."""
    serving: Literal["pool", "colocate", "external"] = "pool"
    """Where the verifier runs: on GPUs of its own while rollouts are generated, on the policy's GPUs after them, or on
    servers that are already up."""
    max_failed_share: Share = 0.05
    """Share of a step's judgements that may fail (no answer from the verifier) before the step stops with an error."""
    max_unreadable_share: Share = 0.2
    """Share of a step's judgements that may be cut or unreadable before `on_unreadable` applies."""
    on_unreadable: Literal["warn", "stop"] = "warn"
    """What happens above `max_unreadable_share`."""
    probe_files: tuple[str, ...] = ()
    """Problems with references (files as in `data.val_files`, which they are added to) that training must never see: at
    each validation the training reward is asked for on them as well, and compared with the rule-based checker."""
    alarms: Mapping[str, Alarm] | None = None
    """Metric to bounds, as in `{spark/flags/few_steps: {above: 0.5, for_steps: 3, action: stop}}`: a value that is more
    than `above` or less than `below`, `for_steps` (1) times in a row, gives a warning (`action: warn`) or ends the
    training after the step (`stop`)."""
    suspects: SuspectSettings = SuspectSettings()
    """Which suspicious rollouts are kept, and where."""
    verifier: VerifierSettings = VerifierSettings()
    """How the generative reward model is asked."""

    @property
    def reward_design(self) -> Design:
        """The design that `design` names, with its weights."""
        design = get_design(self.design)
        if self.design != COMPOSED:
            return design
        return composed(self.weights.format, self.weights.process, self.weights.outcome)

    @property
    def asks_verifier(self) -> bool:
        """Whether the design needs a verifier at all."""
        return self.reward_design.asks_verifier

    @property
    def basis(self) -> Basis | None:
        """What the verdicts of a baseline rest on; None for other designs."""
        design = self.reward_design
        return design.basis if isinstance(design, Baseline) else None

    @property
    def credit(self) -> Credit:
        """How tokens get their advantages."""
        return self.reward_design.credit

    @model_validator(mode="after")
    def _relations(self) -> "SparkSettings":
        if problems := list(self._contradictions()):
            raise ValueError("\n".join(problems))
        return self

    def _contradictions(self) -> Iterator[str]:
        verifier, design = self.verifier, self.reward_design
        if self.asks_verifier and verifier.kind not in design.kinds:
            kinds = ", ".join(kind.value for kind in Kind if kind in design.kinds)
            cure = f"Set {NODE}.design={MANAGERS[MANAGER_OF[verifier.kind]].design}"
            if self.design == COMPOSED:
                cure += f", {NODE}.weights.process=0 (the others then add up to 1)"
            yield (
                f"verifier.kind: design={self.design} cannot use the replies of kind={verifier.kind.value}; it needs "
                f"one of: {kinds}. {cure}, or the kind of your checkpoint"
            )
        yield from self._composition()
        if verifier.timeout_s > verifier.deadline_s:
            yield (
                f"verifier.timeout_s: one attempt may take {verifier.timeout_s:g} s, but a whole judgement only "
                f"deadline_s={verifier.deadline_s:g} s; lower timeout_s or raise deadline_s"
            )
        if self.serving == "external" and self.asks_verifier:
            if not verifier.base_urls:
                yield (
                    "verifier.base_urls: serving=external needs at least one server; set "
                    f"{NODE}.verifier.base_urls=[http://host:8000/v1]"
                )
            if verifier.model is None:
                yield (
                    "verifier.model: serving=external needs the name under which the servers offer the model; set "
                    f"{NODE}.verifier.model=NAME"
                )
        if self.serving != "external":
            for name in ("base_urls", "model", "api_key_env"):
                if getattr(verifier, name):
                    yield (
                        f"verifier.{name}: is read with serving=external only, and serving={self.serving}; set "
                        f"{NODE}.serving=external or leave verifier.{name} out"
                    )

    def _composition(self) -> Iterator[str]:
        """Contradictions in what a reward is made of."""
        weights, buffer = self.weights, self.overlong_buffer
        if self.design == COMPOSED:
            said = f"format={weights.format:g}, process={weights.process:g} and outcome={weights.outcome:g}"
            total = weights.format + weights.process + weights.outcome
            if not math.isclose(total, 1, abs_tol=1e-6):
                yield (
                    f"weights: {said} add up to {total:g}, and a whole reward is 1; change one of them, or divide all "
                    "by their sum"
                )
            if not weights.process and not weights.outcome:
                yield (
                    f"weights: {said} leave the verifier nothing to say; set {NODE}.design=format for the format "
                    "alone, or give one of the others a weight"
                )
        elif weights != WeightSettings():
            yield (
                f"weights: are read with design=composed only, and design={self.design}; set {NODE}.design=composed or "
                "leave them out"
            )
        if not self.format_gate and (self.design == "format" or (self.design == COMPOSED and weights.format)):
            cure = "" if self.design == "format" else f", or {NODE}.weights.format=0 (the others then add up to 1)"
            yield (
                f"format_gate: design={self.design} rewards a valid format, and format_gate=False lets everything pass "
                f"as valid; set {NODE}.format_gate=True{cure}"
            )
        if buffer.enable and not buffer.len:
            yield (
                "overlong_buffer.len: enable=True needs the number of tokens over which the penalty grows; set "
                f"{NODE}.overlong_buffer.len, for instance to a quarter of data.max_response_length, or enable=False"
            )

    @classmethod
    def from_config(cls, node: DictConfig | Mapping[str, Any] | None, manager: str | None = None) -> "SparkSettings":
        """The settings of a config node, missing keys filled in.

        `manager` is a name of `MANAGERS`: without the preset it says which verifier or which baseline is meant. Raises
        `SettingsError` with one line for each problem; no value is repeated in it that could be a secret.
        """
        plain = OmegaConf.to_container(node, resolve=True) if isinstance(node, DictConfig) else dict(node or {})
        if manager and (problem := MANAGERS[manager].contradiction(manager, plain)):
            raise SettingsError([problem])
        try:
            return cls.model_validate(MANAGERS[manager].complete(plain) if manager else plain)
        except ValidationError as error:
            raise SettingsError(messages(error, cls, NODE)) from None

    def to_node(self) -> dict[str, Any]:
        """The settings as plain values for a config, every key present; `from_config` gives them back."""
        return self.model_dump(mode="json")


def without_watching(node: Mapping[str, Any]) -> dict[str, Any]:
    """What of the settings decides what is learned: all but those that only look on."""
    return {key: value for key, value in node.items() if key not in _WATCHING}


_WATCHING = frozenset({"probe_files", "alarms", "suspects"})


class ManagerDefaults(BaseModel):
    """What a reward manager's name says about the settings."""

    model_config = ConfigDict(frozen=True)

    design: str
    kind: Kind | None = None
    """The kind of verifier it stands for; None if it asks none."""

    def contradiction(self, name: str, node: Any) -> str | None:
        """Why this manager, of that name, does not go with the design of `node`; None if it does.

        Those that ask a verifier can serve any design; one that asks none stands for its own alone."""
        design = node.get("design") if isinstance(node, dict) else None
        if self.kind or design in (None, self.design):
            return None
        others = ", ".join(other for other, manager in MANAGERS.items() if manager.kind)
        return (
            f"reward.reward_manager.name={name} stands for {NODE}.design={self.design}, and {NODE}.design={design} is "
            f"set; take one of {others} to keep that design, or set {NODE}.design={self.design} (reward_model={name} "
            "says both)"
        )

    def complete(self, node: Any) -> Any:
        """`node` with this manager's design and kind where it names none."""
        if not isinstance(node, dict):
            return node
        if self.kind is None:
            return {"design": self.design, **node}
        verifier = node.get("verifier") or {}
        if isinstance(verifier, dict):
            verifier = {"kind": self.kind.value, **verifier}
        return {"design": self.design, **node, "verifier": verifier}


MANAGERS: Mapping[str, ManagerDefaults] = MappingProxyType(
    {
        "spark_prmcot": ManagerDefaults(design="process_aware", kind=Kind.PRM_COT),
        "spark_prm": ManagerDefaults(design="process_aware", kind=Kind.PRM),
        "spark_orm": ManagerDefaults(design="orm", kind=Kind.ORM),
        "spark_thinkprm": ManagerDefaults(design="process_aware", kind=Kind.THINK_PRM),
        **{f"spark_{name}": ManagerDefaults(design=name) for name in ("format", "rlvr", "random", "majority")},
    }
)
"""The names of `reward.reward_manager.name` that are ours."""

MANAGER_OF: Mapping[Kind, str] = MappingProxyType(
    {manager.kind: name for name, manager in MANAGERS.items() if manager.kind}
)
"""Kind of verifier to the name that stands for it, as a reward manager and as a preset."""


def messages(error: ValidationError, model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """One line for each fault that validating `model` found, with the key's full name behind `prefix`; no values."""
    for fault in error.errors(include_url=False, include_context=False, include_input=False):
        where = _dotted(prefix, *fault["loc"])
        if fault["type"] == "extra_forbidden":
            parent = _node_at(model, fault["loc"][:-1])
            yield f"{where}: there is no such setting; the settings here are: {', '.join(parent.model_fields)}"
            continue
        text = fault["msg"].removeprefix("Value error, ")
        if fault["type"] == "value_error" and not fault["loc"]:  # relations name their own key
            yield from (_dotted(prefix, line) for line in text.split("\n"))
        else:
            yield f"{where}: {text}"


def differences(stored: Mapping[str, Any], current: Mapping[str, Any], prefix: str = "") -> list[str]:
    """`key: stored value, now current value` for every setting in which two setting dictionaries differ."""
    found = []
    for key in sorted(stored.keys() | current.keys()):
        name, old, new = _dotted(prefix, key), stored.get(key), current.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            found += differences(old, new, name)
        elif old != new:
            found.append(f"{name}: {old!r}, now {new!r}")
    return found


def node_of(field: FieldInfo) -> type[BaseModel] | None:
    """The group of settings that a field holds, also where it may be null; None for a single setting."""
    kinds = (field.annotation, *get_args(field.annotation))
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)


def _dotted(*parts: str | int) -> str:
    return ".".join(str(part) for part in parts if part != "")


def _node_at(model: type[BaseModel], path: Iterable[str | int]) -> type[BaseModel]:
    """The nested model to which a fault's path leads; union members, list positions and names of a table skipped."""
    for part in path:
        field = model.model_fields.get(str(part))
        model = next(_nodes_in(field.annotation), model) if field else model
    return model


def _nodes_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _nodes_in(part)
