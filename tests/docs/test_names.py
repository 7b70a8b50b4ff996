"""The documents name every setting and metric, and none that there is not."""

import re
from functools import cache

import pytest
from omegaconf import DictConfig

from tests.docs.pages import PAGES, ROOT, Page
from tests.docs.tables import MODELS, found, tables
from tests.recipes.scripts import composed
from verl_spark import reference
from verl_spark.cli.main import app
from verl_spark.prm import launch as sft
from verl_spark.rl.metrics import METRICS
from verl_spark.settings import MANAGERS
from verl_spark.verifier.engine import EngineSettings

TEXT = "\n".join(page.text for page in PAGES)
NOT_MANAGERS = {"spark_missing", "spark_verdict", "spark_padding", "spark_verification", "spark_sync"}
"""Fields of dumped rollouts, and a trainer."""


def test_the_tables_are_those_of_the_code():
    assert found() == tables(), "write them anew: python -m tests.docs.tables"


@pytest.mark.parametrize("name", tables())
def test_every_row_of_a_table_is_a_line_with_all_its_cells(name):
    rows = [re.findall(r"(?<!\\)\|", line) for line in tables()[name].splitlines()]
    assert {len(row) for row in rows} == {len(rows[0])}


@pytest.mark.parametrize("name", MODELS)
def test_every_setting_says_what_it_means(name):
    assert [one.name for one in reference.settings(MODELS[name][0]) if not one.meaning] == []


SECTIONS = {
    "reward.spark": "Stage III",
    "alarm": "Alarms",
    "data": "Stage I",
    "engine": "Engines",
    "sft": "Stage II",
    "processbench": "ProcessBench",
    "math": "The six benchmarks",
    "score": "Re-scoring",
    "rate": "Measured rates",
}
"""Heading in the paper index under which a table's settings stand."""


@pytest.mark.parametrize("name", MODELS)
def test_the_paper_index_has_a_source_for_every_setting_and_for_no_other(name):
    prefix = "spark." if name == "sft" else ""
    names = [prefix + one.name for one in reference.settings(MODELS[name][0], closed=(EngineSettings,))]
    heads = re.findall(r"`([^`]+)`", MODELS[name][1])
    listed = [one for one in Page(ROOT / "docs" / "paper-index.md").listed[SECTIONS[name]] if one not in heads]
    if name == "sft":  # the preset sets some of verl's own keys as well
        listed = [one for one in listed if one not in _keys(sft.composed(["+sft=spark_prmcot"])) - set(names)]
    assert sorted(listed) == sorted(names)


def test_a_key_in_the_wrong_section_would_be_seen(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# Title\n\n`no` | `no`\n\n## A\n\n| `k` | |\n| --- | --- |\n| `a`, `b.c` | `no` |\n\n### B\n\n| `d` | x |\n"
    )
    assert Page(page).listed == {"Title": [], "A": ["k", "a", "b.c"], "B": ["d"]}


@cache
def known() -> set[str]:
    """Every dotted key, ours and verl's, and every group of keys."""
    ours = {one.name for model, _ in MODELS.values() for one in reference.settings(model)}
    ours |= {f"reward.spark.{one.name}" for one in reference.settings()}
    ours |= {f"spark.{one.name}" for one in reference.settings(MODELS["sft"][0])}
    kinds = [composed(["reward_model=spark_prmcot"]), composed(["reward_model=spark_prmcot"], "ppo_megatron_trainer")]
    verls = {key for config in [*kinds, sft.composed(["+sft=spark_prmcot"])] for key in _keys(config)}
    return {".".join(key.split(".")[:depth]) for key in ours | verls for depth in range(1, key.count(".") + 2)}


def _keys(node: DictConfig, prefix: str = "") -> set[str]:
    keys = {f"{prefix}{key}" for key in node}
    inner = {f"{prefix}{key}.": node._get_node(key) for key in node}
    return keys.union(*(_keys(value, name) for name, value in inner.items() if isinstance(value, DictConfig) and value))


OUTSIDE = ("async_training.", "reward.reward_kwargs.", "model.override_config.", "reward_model.ground_truth", "vllm.")
"""What a `+` adds to verl's config, a column of its data, and vLLM's own arguments."""


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_keys_exist(page):
    groups = {key.partition(".")[0] for key in known()}
    for span in page.spans:
        for word in span.split():
            key = word.lstrip("+'").partition("=")[0].rstrip(".…")
            if "." not in key or key.partition(".")[0] not in groups or not re.fullmatch(r"[a-z_.0-9]+", key):
                continue
            if key.endswith((".json", ".jsonl", ".yaml", ".md", ".parquet", ".py")):
                continue
            assert key in known() or key.startswith(OUTSIDE), key


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_metrics_exist(page):
    for name in re.findall(r"\bspark/[\w/]+", page.text):
        assert name.rstrip("/") in METRICS or any(metric.startswith(name) for metric in METRICS), name


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_files_and_make_targets_exist(page):
    for path in re.findall(
        r"`((?:verl_spark|examples|benchmarks|requirements|recipes|docs|tests)/[\w/.-]+)`", page.text
    ):
        assert (ROOT / path).exists(), path
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:^|`)make ([a-z-]+)", page.text, re.MULTILINE)) <= targets


def test_managers_and_presets_exist():
    presets = {path.stem for path in (ROOT / "verl_spark" / "conf").rglob("spark_*.yaml")}
    named = set(re.findall(r"`(?:reward_model=|reward\.reward_manager\.name=|\+sft=)?(spark_[a-z_]+)`", TEXT))
    fields = {name for name in named if name.startswith("spark_step_marks")}
    assert named - fields - NOT_MANAGERS <= presets | set(MANAGERS)


PRINTED = {
    "reward.spark": "settings",
    "alarm": "settings alarm",
    "data": "data settings",
    "engine": "settings engine",
    "sft": "train settings",
    "processbench": "eval settings",
    "math": "eval settings math",
    "score": "settings score",
    "rate": "settings rate",
    "metrics": "metrics",
}
"""Command that prints a table."""


@pytest.mark.parametrize("name", [*MODELS, "metrics"])
def test_the_command_line_prints_the_tables_and_the_page_says_with_which_command(name):
    from typer.testing import CliRunner

    result = CliRunner(env={"COLUMNS": "2000"}).invoke(app, PRINTED[name].split())
    assert result.exit_code == 0
    entries = reference.metrics() if name == "metrics" else reference.settings(MODELS[name][0])
    lines = [" ".join(line.split()) for line in result.output.splitlines()]
    assert [one.name for one in entries if not any(line.startswith(f"{one.name} ") for line in lines)] == []
    assert f"`verl-spark {PRINTED[name]}`" in TEXT
