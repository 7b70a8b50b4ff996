"""The page: whole, the same each time, without anything from outside, and deaf to what its texts say."""

import base64
import hashlib
import json
import re
import sys
from html.parser import HTMLParser

import pytest
from typer.testing import CliRunner

from tests.data.runs import PROBLEMS, finish
from tests.data.runs import config as data_config
from tests.evaluation.made import config, engine, math_config, rows, write_benchmarks, write_rows
from tests.evaluation.test_math_run import guessing
from tests.report.made import HOSTILE, hostile_run, logged, result, run, shown
from tests.verifier.conftest import serve  # noqa: F401  (a fixture)
from verl_spark.cli.main import app
from verl_spark.evaluation import run as evaluation
from verl_spark.evaluation.policy import run as policy
from verl_spark.report.groups import group
from verl_spark.report.page import render, write_report
from verl_spark.report.result import ROLLOUTS
from verl_spark.report.study import Study
from verl_spark.runs.rows import SourceError

ACCURACIES = {0: {1: [0.0], 2: [0.0]}, 2: {1: [1.0], 2: [0.0]}}


class Page(HTMLParser):
    """Tags, attributes and texts of a page."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.tags, self.sources, self.texts, self._within = [], [], [], {}, []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append((tag, attributes))
        self.ids += [attributes["id"]] if "id" in attributes else []
        found = (attributes.get(name) for name in ("src", "href", "xlink:href", "action", "data"))
        self.sources += [source for source in found if source]
        self._within = [tag, attributes.get("id")]

    def handle_data(self, text):
        for name in self._within:
            self.texts[name] = self.texts.get(name, "") + text


def reported(folder, tmp_path):
    """The page that the command writes about a folder."""
    done = CliRunner().invoke(app, ["report", str(folder), "--output", str(tmp_path / "report.html")])
    assert done.exit_code == 0, done.output
    return (tmp_path / "report.html").read_text()


def rows_of(text, table):
    """The rows of a page's table, its head first, as texts without spaces."""
    rows = text.partition(f'id="{table}"')[2].partition("</table>")[0].split("<tr>")[1:]
    return [[re.sub(r"<.*?>|\s", "", cell) for cell in re.findall(r"<t[hd].*?</t[hd]>", row, re.S)] for row in rows]


async def page_of(folder, tmp_path):
    write_report([folder], tmp_path / "report.html")
    return Page((tmp_path / "report.html").read_text())


async def test_the_command_writes_a_page_that_needs_nothing_else(tmp_path):
    await run(tmp_path / "study" / "prmcot", accuracies=ACCURACIES)
    await run(tmp_path / "study" / "selective", design="selective", accuracies=ACCURACIES)
    out = tmp_path / "out" / "page.html"
    done = CliRunner().invoke(app, ["report", str(tmp_path / "study"), "--output", str(out)])
    assert done.exit_code == 0, done.output
    assert str(out) in done.output
    text = out.read_text()
    page = Page(text)
    assert all(source.startswith("#") for source in page.sources)
    assert not re.search(r"url\((?!#)|@import|\.(?:png|woff2?)\b", text)
    assert len(page.ids) == len(set(page.ids))
    assert {"runs", "curves", "detail", "totals", "browser"} <= set(page.ids)
    charts = [attributes for tag, attributes in page.tags if tag == "svg" and attributes.get("class") == "chart"]
    assert len(charts) > 10
    assert all(one["role"] == "img" and one["aria-label"] and "viewbox" in one for one in charts)
    assert "+50.0 points" in text
    write_report([tmp_path / "study"], tmp_path / "again.html")
    assert (tmp_path / "again.html").read_bytes() == out.read_bytes()


async def test_only_the_pages_own_script_may_run(tmp_path):
    page = await page_of(await run(tmp_path / "arm"), tmp_path)
    (policy,) = (a["content"] for tag, a in page.tags if tag == "meta" and "http-equiv" in a)
    script = (tmp_path / "report.html").read_text().rpartition("<script>")[2].rpartition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"


async def test_hostile_texts_open_no_tag_and_come_through_whole(tmp_path):
    await run(tmp_path / "plain")
    plain = await page_of(tmp_path / "plain", tmp_path)
    hostile = await page_of(await hostile_run(tmp_path / "hostile"), tmp_path)
    assert [tag for tag, _ in hostile.tags].count("script") == [tag for tag, _ in plain.tags].count("script") == 2
    assert "img" not in [tag for tag, _ in hostile.tags]
    texts = [one["problem"] for one in json.loads(hostile.texts["rollouts"])]
    for text in HOSTILE:
        assert any(text.replace("\ud800", "\\ud800") in one for one in texts)


def test_hostile_names_and_tables_are_texts():
    (first, second, *_), name = HOSTILE, HOSTILE[1]
    study = Study(
        title=first,
        text=second,
        tables=[{"id": "t", "title": first, "columns": [second, "x"], "rows": [[first, 1], [second, None]]}],
    )
    arm = result(name, task=first, steps=[{"spark/reward/mean": 0.5}] * 2, rollouts=[shown(problem=second)])
    page = Page(render(group([("one", arm)]), [study], remarks=[second]))
    assert [tag for tag, _ in page.tags].count("script") == 2
    assert "img" not in [tag for tag, _ in page.tags]
    assert first in page.texts["h1"]


def test_a_study_is_shown_as_it_is_with_the_curves_of_its_results(tmp_path):
    for seed in (0, 1):
        steps = [{"spark/reward/mean": 0.1 * (seed + step)} for step in range(3)]
        evaluations = {0: {"a": [0.0], "b": [0.0]}, 2: {"a": [1.0], "b": [float(seed)]}}
        result("prmcot", seed, steps, evaluations, task="sums").write(tmp_path / f"{seed}.json")
    gain = {"mean": 0.031, "low": 0.01, "high": 0.05, "n": 500}
    table = {
        "id": "main",
        "title": "Arms",
        "text": "Before.",
        "columns": ["arm", "accuracy", "calls", "rate", "gain"],
        "rows": [
            ["prmcot", {"mean": 0.523, "low": 0.48, "high": 0.566, "n": 500}, 1200, 0.25, gain],
            ["none", None, 0, "?", {**gain, "low": -0.02}],
        ],
        "note": "After.",
    }
    (tmp_path / "study.json").write_text(json.dumps({"title": "Small", "text": "One.\n\nTwo.", "tables": [table]}))
    write_report([tmp_path], tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    page = Page(text)
    assert page.texts["h1"].strip() == "Small"
    assert "52.3 %" in text
    assert "[48.0, 56.6]" in text
    assert 'data-order="0.523"' in text
    assert "1,200" in text
    assert text.count("+3.1 %") == 2
    assert "[-2.0, +5.0]" in text
    assert "sums: prmcot" in text
    assert "over seeds" in text
    assert all(words in text for words in ("Before.", "After.", "One.", "Two."))


def test_a_table_with_a_short_row_is_refused_with_its_file(tmp_path):
    table = {"id": "t", "title": "T", "columns": ["a", "b"], "rows": [["x"]]}
    (tmp_path / "study.json").write_text(json.dumps({"title": "S", "tables": [table]}))
    with pytest.raises(SourceError, match=r"study\.json: no study: tables\.0: .*row 1 has 1 cells for 2 columns"):
        write_report([tmp_path], tmp_path / "report.html")


async def test_data_and_evaluation_folders_are_tables(serve, tmp_path):  # noqa: F811
    problems = write_rows(tmp_path / "problems.jsonl", PROBLEMS)
    for name in ("gsm8k", "math"):
        write_rows(tmp_path / "items" / f"{name}.jsonl", rows(name, [-1, 0, 2, -1]))
    async with serve("ok", "ok", "cut", disagreement=0.3) as (_, url):
        await finish(data_config(url, problems, tmp_path / "data", methods=["single", "step"]))
        judge = {"kind": "prm_cot", "engine": engine(url)}
        await evaluation.run(config(tmp_path / "pb", tmp_path / "items", verifier=judge), lambda *_: None)
    accuracy = {"mean": 0.75, "low": 0.5, "high": 1.0, "n": 6}
    line = {"method": "step", "label": "outcome", "truth": "all", "labels": 8, "unknown": 1, "accuracy": accuracy}
    (tmp_path / "data" / "quality.json").write_text(json.dumps({"accuracy": [line], "growth": []}))
    write_report([tmp_path / "data", tmp_path / "pb"], tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    ids = Page(text).ids
    assert {"methods-data", "drops-data", "quality-data", "stages-data", "eval-pb"} <= set(ids)
    card = json.loads((tmp_path / "data" / "card.json").read_text())
    assert f">{card['methods']['step']['kept']}</td>" in text
    assert "75.0" in text
    assert "[50.0, 100.0]" in text
    score = json.loads((tmp_path / "pb" / "result.json").read_text())
    assert f"{score['average_f1']['value']:.1f} <span" in text
    (tmp_path / "data" / "card.json").write_text('{"methods": {"step": {}}}')
    with pytest.raises(SourceError, match="data: not as this version writes it"):
        write_report([tmp_path / "data"], tmp_path / "report.html")


async def test_the_folder_of_a_policys_benchmarks_is_a_table_of_scores(tmp_path):
    data = write_benchmarks(tmp_path / "data")
    async with guessing() as (_, url):
        await policy.run(math_config(tmp_path / "whole", data, url), lambda *_: None)
        two = {"benchmarks": ["math500", "aime24"]}
        made = math_config(tmp_path / "two", data, url, data=two, sampled={"n": 0, "n_contest": 0})
        await policy.run(made, lambda *_: None)
    found = json.loads((tmp_path / "whole" / "result.json").read_text())
    text = reported(tmp_path / "whole", tmp_path)
    head, *rows = rows_of(text, "math-whole")
    assert Page(text).texts["h1"].strip() == "Benchmarks"
    assert [row[0] for row in rows] == [*found["benchmarks"], "meanofsix"]
    for row in rows[:-1]:
        one = found["benchmarks"][row[0]]
        shares = {"greedy%": one["greedy"], "avg@k%": one["avg_at_k"], "maj@k%": one["maj_at_k"]}
        shares["pass@k%"] = one["pass_at"][str(one["k"])]
        for name, share in shares.items():
            assert row[head.index(name)] == "{value:.1f}[{low:.1f},{high:.1f}]".format_map(share)
        assert row[head.index("k")] == str(one["k"])
        assert row[head.index("greedy:noanswer")] == str(one["greedy_faults"]["no_answer"])
    assert rows[-1][head.index("greedy%")].startswith(f"{found['mean_of_six']['greedy']['value']:.1f}[")
    head, *rows = rows_of(reported(tmp_path / "two", tmp_path), "math-two")
    assert [row[0] for row in rows] == list(two["benchmarks"])
    assert {row[head.index("avg@k%")] for row in rows} == {""}


def test_the_log_of_an_sft_training_is_a_curve_of_its_loss(tmp_path):
    losses = {step: {"train/loss": 2.0 / step, "train/lr": 1e-5} for step in range(1, 9)}
    logged(tmp_path / "sft" / "log.jsonl", losses)
    with (tmp_path / "sft" / "log.jsonl").open("a") as file:
        file.write(json.dumps({"step": 8, "data": {"val/loss": 0.75}}) + "\n")
    page = Page(reported(tmp_path / "sft", tmp_path))
    assert page.texts["h1"].strip() == "Training"
    (chart,) = [attributes for tag, attributes in page.tags if tag == "svg" and attributes.get("class") == "chart"]
    assert chart["aria-label"] == (
        "Loss: log. training: 2 at step 1, 0.25 at step 8; validation: 0.75 at step 8, 0.75 at step 8"
    )
    assert "Last: training 0.25, validation 0.75." in page.texts["p"]


async def test_no_more_rollouts_than_a_page_can_hold_and_their_number_is_said(tmp_path):
    many = [shown(step=number, problem=f"p{number}") for number in range(ROLLOUTS)]
    arms = [(str(seed), result("a", seed, [{"spark/rollouts": 5000.0}], rollouts=many)) for seed in (0, 1)]
    text = render(group(arms))
    assert len(json.loads(Page(text).texts["rollouts"])) == ROLLOUTS
    assert f"{ROLLOUTS} of 10,000" in text


def test_a_folder_with_nothing_and_a_missing_matplotlib_are_said_in_a_line(tmp_path, monkeypatch):
    done = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert (done.exit_code, "nothing to report" in " ".join(done.output.split())) == (2, True)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert done.exit_code == 2
    assert "install the extra report of verl-spark: pip install -e '.[report]'" in " ".join(done.output.split())
