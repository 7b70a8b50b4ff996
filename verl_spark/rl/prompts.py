"""What happens to a prompt between verl's dataset and its rollout.

An existing recipe does not ask for our text format, so the instruction is added to its last user turn. Beside the
prompt travels a note in `extra_info`, the one field that verl carries to every reward path: the problem as it
stood before, and whether the row is validation (a property of the call, which verl does not pass on).

The probe set of `reward.spark.probe_files` is a part of verl's validation, so that it costs no loop, no schedule and no
data format of its own; a validation row belongs to it by its problem, not by the name of a data source."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from verl_spark.rewards.chance import Place
from verl_spark.rewards.designs import Basis
from verl_spark.settings import SparkSettings
from verl_spark.verification.policy_format import get_policy_format
from verl_spark.verification.prompts import policy_message

_PROBLEM, _VALIDATION, _PROBE = "spark_problem", "spark_validation", "spark_probe"


@dataclass(frozen=True)
class Note:
    """What a reward needs to know of a prompt and cannot see in it."""

    problem: str
    validation: bool
    probe: bool = False
    """Whether a validation row is judged by the training reward as well."""


def note_of(fields: Mapping[str, Any]) -> Note:
    """The note of a row that `PromptPreparer` made. Raises `KeyError` with the cure when there is none."""
    extra = fields.get("extra_info")
    if not isinstance(extra, Mapping) or _PROBLEM not in extra:
        raise KeyError(
            "extra_info holds no SPARK note: the row did not come through the trainer hook's data loader. "
            "An agent loop or a custom sampler that rebuilds rows must keep `extra_info`."
        )
    return Note(str(extra[_PROBLEM]), bool(extra[_VALIDATION]), bool(extra.get(_PROBE, False)))


def place_of(fields: Mapping[str, Any]) -> Place:
    """Where a training rollout stands in the run, from the fields of verl's streaming reward path.

    `PromptPreparer` has seen to the index. Raises `KeyError` with the cure when an agent loop lost the others."""
    try:
        return Place(int(fields["global_steps"]), str(fields["extra_info"]["index"]), rollout=int(fields["session_id"]))
    except KeyError as error:
        raise KeyError(
            f"{error.args[0]}: a random reward goes by global_steps, session_id and extra_info.index, which verl 0.9.1 "
            "hands to every reward while rollouts are generated; an agent loop manager of your own must keep them"
        ) from None


def reference_of(fields: Mapping[str, Any]) -> str:
    """The reference answer of a row, where verl keeps it. Raises `ValueError` when there is none.

    Only validation asks for it, and the design `rlvr`, for which `PromptPreparer` has looked; any other training row
    needs none and none is looked at.
    """
    reference = _ground_truth(fields)
    if reference is None:
        raise ValueError(
            "a validation row has no reward_model.ground_truth, which the rule-based checker needs: add it to "
            "data.val_files, or validate not at all with trainer.test_freq=-1 and trainer.val_before_train=False"
        )
    return str(reference)


def _ground_truth(fields: Mapping[str, Any]) -> Any:
    try:
        return fields["reward_model"]["ground_truth"]
    except (KeyError, TypeError):
        return None


class PromptPreparer:
    """A collate function around verl's own: adds the instruction and the note to every row of a batch.

    A class, not a closure: data loader workers pickle it.
    """

    def __init__(
        self,
        inner: Callable[[list[dict[str, Any]]], dict[str, Any]],
        settings: SparkSettings,
        validation: bool,
        probe: frozenset[str] = frozenset(),
    ) -> None:
        self.inner = inner
        self.settings = settings
        self.validation = validation
        self.probe = probe
        self.instruction = instruction_of(settings)

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """verl's batch dictionary of `rows`. Raises `ValueError` naming the row's index and the missing thing."""
        return self.inner([self.prepare(row) for row in rows])

    def prepare(self, row: dict[str, Any]) -> dict[str, Any]:
        """One row as a batch is made of. Raises as the call does."""
        where = f"{'validation' if self.validation else 'training'} row with index {row.get('index', '?')}"
        if "raw_prompt" not in row:
            raise ValueError(f"{where}: no `raw_prompt`; a custom dataset class must give the chat messages under it")
        messages = [dict(message) for message in row["raw_prompt"]]
        last = next((m for m in reversed(messages) if m.get("role") == "user"), None)
        if last is None or not isinstance(last.get("content"), str):
            raise ValueError(f"{where}: the prompt has no user turn in plain text, which SPARK needs")
        extra = dict(row.get("extra_info") or {})
        problem = self._problem(row, extra, last["content"], where)
        probe = same_problem(problem) in self.probe
        if not self.validation:
            if probe:
                raise ValueError(
                    f"{where}: its problem is also in reward.spark.probe_files, which training must never see; take it "
                    f"out of one of the two: {problem[:80]!r}"
                )
            self._check_basis(row, extra, problem)
        last["content"] = policy_message(last["content"], self.instruction)
        note = {_PROBLEM: problem, _VALIDATION: self.validation, _PROBE: probe}
        return {**row, "raw_prompt": messages, "extra_info": {**extra, **note}}

    def _check_basis(self, row: Mapping[str, Any], extra: Mapping[str, Any], problem: str) -> None:
        """Refuses a training row without what the design's verdicts rest on; named by its problem, the one name that
        every row has."""
        where, design = f"training row {problem[:60]!r}", f"reward.spark.design={self.settings.design}"
        if self.settings.basis is Basis.CHANCE and extra.get("index") is None:
            raise ValueError(
                f"{where}: no extra_info.index, by which {design} tells rows apart so that their coins fall the same "
                "in every run (verl puts 0 for all of them): give each row of data.train_files a number of its own in "
                "extra_info.index"
            )
        if self.settings.basis is Basis.REFERENCE and not str(_ground_truth(row) or "").strip():
            raise ValueError(
                f"{where}: no reward_model.ground_truth, with which {design} compares answers: add it to "
                "data.train_files, or choose a design that needs no reference"
            )

    def _problem(self, row: Mapping[str, Any], extra: Mapping[str, Any], user_turn: str, where: str) -> str:
        name = self.settings.problem_field
        if name is None:
            return user_turn
        value = row.get(name, extra.get(name))
        if not isinstance(value, str) or not value.strip():
            raise ValueError(
                f"{where}: reward.spark.problem_field={name} is neither a text column nor a text key of extra_info"
            )
        return value


def same_problem(problem: str) -> str:
    """What two problems have in common that are the same but for blanks."""
    return " ".join(problem.split())


def instruction_of(settings: SparkSettings) -> str:
    """The instruction that is added to the policy's prompt; empty with `policy_prompt: as_is`."""
    return get_policy_format(settings.policy_format).instruction() if settings.policy_prompt == "inject" else ""
