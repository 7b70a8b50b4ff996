"""The data card: what a folder's records are, in numbers, and whether a reference had any part in them."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from verl_spark.data.calls import PROMPTS, stage_hash
from verl_spark.data.config import DataConfig
from verl_spark.data.cost import account, by_stage
from verl_spark.data.methods import Method
from verl_spark.data.record import Record
from verl_spark.data.records import KEPT, read_records, records_file
from verl_spark.data.selection import stages
from verl_spark.files import file_hash, replacing
from verl_spark.markdown import table
from verl_spark.runs.cost import Cost, wall_seconds
from verl_spark.runs.store import Store
from verl_spark.versions import versions

CARD_FILE, CARD_TEXT_FILE, COST_FILE = "card.json", "card.md", "cost.json"

NO_REFERENCE = "No reference answer was read for this data set."
REFERENCE = "The verifier was shown the reference answers: this data set is not reference-free."
BALANCED = "Balanced by the method's own verdict."
REFERENCE_BALANCED = "Reference used for balancing: balanced by verdicts that saw it."


@dataclass
class Tally:
    """Counts over the records of one method."""

    counts: Counter[str] = field(default_factory=Counter)
    """Solutions kept, and dropped by reason."""
    verdicts: Counter[str] = field(default_factory=Counter)
    """Of the kept."""
    steps: Counter[int] = field(default_factory=Counter)
    """Of the kept, by step count."""
    ballots: int = 0
    usable: int = 0
    majority: int = 0
    """Usable ballots that state the verdict of most, of the solutions that had a vote."""
    levels: Counter[bool] = field(default_factory=Counter)
    """Solutions where both levels decided, by whether they agree."""
    cost: Cost = field(default_factory=Cost)

    def add(self, record: Record) -> None:
        """Counts one record."""
        self.counts[record.drop or KEPT] += 1
        self.cost += Cost(record.calls, record.prompt_tokens, record.completion_tokens, record.engine_seconds)
        self.ballots += len(record.ballots)
        self.usable += len(record.usable)
        self.majority += max(record.yes_votes, record.no_votes)
        if record.levels_agree is not None:
            self.levels[record.levels_agree] += 1
        if record.drop is None:
            self.verdicts["yes" if record.verdict else "no"] += 1
            self.steps[record.n_steps or 0] += 1


def tally(records: Iterable[Record]) -> Tally:
    """The counts over records."""
    counts = Tally()
    for record in records:
        counts.add(record)
    return counts


def write_card(config: DataConfig, store: Store) -> dict[str, Any]:
    """Writes the card (`card.json`, `card.md`) and the cost account of the methods whose records are there.

    Returns the card."""
    chosen = {method: records_file(config.output, method.name) for method in config.chosen}
    present = {method: path for method, path in chosen.items() if path.exists()}
    tallies = {method.name: tally(read_records(path)) for method, path in present.items()}
    costs = account(
        by_stage(store),
        {name: (counts.cost, counts.counts[KEPT]) for name, counts in tallies.items()},
        wall_seconds(config.output),
        config.prices,
    )
    card = {
        "methods": {
            method.name: _method_card(config, method, tallies[method.name], path) for method, path in present.items()
        },
        "calls_failed_for_good": store.failed,
        "models": {
            "generator": config.generator.engine.model,
            "verifier": config.verifier.engine.model,
            "critic": config.critic_engine.model,
        },
        "seed": config.seed,
        "problems": config.problems.path,
        "versions": versions(),
        "config": config.model_dump(mode="json"),
    }
    for name, content in ((CARD_FILE, card), (COST_FILE, costs)):
        with replacing(config.output / name) as file:
            json.dump(content, file, indent=2)
    with replacing(config.output / CARD_TEXT_FILE) as file:
        file.write(_markdown(card, costs))
    return card


def _method_card(config: DataConfig, method: Method, counts: Tally, path: Path) -> dict[str, Any]:
    kept = counts.counts[KEPT]
    dropped = {reason: n for reason, n in sorted(counts.counts.items()) if reason != KEPT and n}
    statement = REFERENCE if method.reference else NO_REFERENCE
    balanced = REFERENCE_BALANCED if method.reference else BALANCED
    return {
        "references_used": method.reference,
        "statement": f"{statement} {balanced}" if config.balance else statement,
        "solutions": counts.counts.total(),
        "kept": kept,
        "dropped": dropped,
        "share_yes": _share(counts.verdicts["yes"], kept),
        "usable_share": _share(counts.usable, counts.ballots),
        "verdict_agreement": _share(counts.majority, counts.usable),
        "levels_agree_share": _share(counts.levels[True], counts.levels.total()),
        "steps": {str(n): count for n, count in sorted(counts.steps.items())},
        "prompts": {PROMPTS[stage]: stage_hash(config, stage) for stage in stages(method)},
        "records_sha256": file_hash(path),
    }


def _markdown(card: dict[str, Any], costs: dict[str, Any]) -> str:
    lines = ["# Data card", ""]
    lines += [f"* {role}: `{model}`" for role, model in card["models"].items()]
    lines += [f"* problems: `{card['problems']}`", f"* seed: {card['seed']}"]
    lines += [f"* {name}: {number}" for name, number in card["versions"].items()]
    lines += [f"* calls that failed for good: {card['calls_failed_for_good']}"]
    for name, method in card["methods"].items():
        shown = ("solutions", "kept", "share_yes", "usable_share", "verdict_agreement", "levels_agree_share")
        each = costs["methods"][name]["per_kept_example"] or {}
        rows = [
            *((key.replace("_", " "), _shown(method[key])) for key in shown),
            *((f"dropped: {reason}", str(n)) for reason, n in method["dropped"].items()),
            *((f"kept with {n} steps", str(count)) for n, count in method["steps"].items()),
            *((f"{key.replace('_', ' ')} per kept example", _shown(value)) for key, value in each.items()),
            *((f"prompt `{prompt}`", f"`{digest}`") for prompt, digest in method["prompts"].items()),
        ]
        lines += ["", f"## {name}", "", method["statement"], "", table(("", ""), rows)]
    return "\n".join(lines) + "\n"


def _shown(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None
