"""Which room may know which: the contract knows nobody, stages never know each other, verl stays at the edge."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "verl_spark"

KNOWS = {
    "verification": set(),
    "evaluation": {
        *("verification", "verifier", "settings", "runs", "files", "versions"),
        *("rewards.rule", "rewards.majority"),
    },
    "rewards": {"verification"},
    "verifier": {"verification", "settings", "platforms", "files", "versions"},
    "runs": {"verification", "verifier", "settings", "files"},
    "data": {
        *("verification", "verifier", "settings", "runs", "files", "versions", "markdown"),
        *("rewards.rule", "evaluation.statistics", "evaluation.leakage"),
    },
    "prm": {"verification", "verifier", "settings", "configs", "files", "versions", "platforms"},
    "rl": {"verification", "verifier", "settings", "rewards", "files"},
    "rescoring": {
        *("verification", "verifier", "settings", "rewards", "runs", "files"),
        *("rl.dump", "rl.rollout_key", "rl.row", "rl.scoring", "rl.votes"),
    },
    "report": {
        *("verification", "evaluation", "files", "versions", "data.card", "data.quality", "runs.rows"),
        *("rl.dump", "rl.flags", "rl.metrics", "rl.rollout_key", "rl.row", "rl.suspects", "verifier.outcome"),
    },
    "planning": {
        *("verifier", "settings", "configs", "launch", "runs", "versions"),
        *("data.calls", "data.config", "data.cost", "data.plan", "prm.launch"),
    },
    "platforms": set(),
}
"""Room to what it may import of the package, beside itself."""

EDGE = {"verl": {"rl", "prm", "platforms"}, "torch": {"rl", "prm", "platforms", "evaluation", "planning"}}
"""Library to the rooms that may import it."""


def imports(room: str) -> Iterator[tuple[Path, str]]:
    """Every module that a file of a room imports, anywhere in it."""
    for file in (PACKAGE / room).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                yield from ((file, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                yield from ((file, f"{node.module}.{alias.name}") for alias in node.names)


@pytest.mark.parametrize("room", KNOWS)
def test_a_room_knows_only_what_it_may(room):
    allowed = tuple(f"verl_spark.{name}." for name in (KNOWS[room] | {room}))
    for file, module in imports(room):
        if module.startswith("verl_spark."):
            assert f"{module}.".startswith(allowed), f"{file.relative_to(PACKAGE)} imports {module}"


@pytest.mark.parametrize("library", EDGE)
def test_the_host_is_touched_at_the_edge_only(library):
    for room in KNOWS.keys() - EDGE[library]:
        for file, module in imports(room):
            assert module.split(".")[0] != library, f"{file.relative_to(PACKAGE)} imports {module}"


def test_every_room_is_on_the_plan():
    rooms = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert rooms - {"cli", "conf"} == KNOWS.keys()
