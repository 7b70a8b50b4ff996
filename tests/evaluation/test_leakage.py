import json

import pytest

from verl_spark.evaluation.leakage import Benchmark, find_leakage
from verl_spark.runs.problems import Problem, ProblemSettings, read_problems
from verl_spark.runs.rows import BadRow

STORY = (
    "Every morning Aya goes for a walk of nine kilometres and stops at a coffee shop afterwards; at a constant "
    "speed the walk takes her four hours, including the minutes spent in the shop."
)
PHRASE = "can be written as m over n where m and n are relatively prime positive integers find m plus n"
ITEMS = [
    Problem("story", STORY, ""),
    Problem("sum", "Compute $\\frac{a}{b} + 3$.", ""),
    Problem("phrase", f"The chance of rain on both days of a weekend in the far north {PHRASE}", ""),
]


def matches(text, threshold=0.5, n=13):
    found = Benchmark("made", ITEMS, n).matches(Problem("p", text, ""), threshold)
    return [(match.item_id, match.exact) for match in found]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (STORY.upper().replace(" ", "\n  "), [("story", True)]),
        ("compute \\( \\dfrac{a}{b}+3 \\)", [("sum", True)]),  # too short for a run of 13 words
        ("Compute $\\frac{a}{b} + 4$.", []),
        (f"12. (10 points) {STORY} How fast is she?", [("story", False)]),
        (STORY[: len(STORY) // 2], [("story", False)]),
        (STORY.replace("nine", "ten").replace("coffee", "tea").replace("hours", "days"), []),
        (f"Three dice are thrown and then thrown again until all show the same face; the chance {PHRASE}", []),
        ("", []),
        ("\\left( + \\right)", []),
    ],
)
def test_what_overlaps(text, found):
    assert matches(text) == found


def test_with_threshold_0_one_common_run_is_enough():
    text = f"Three dice are thrown and then thrown again until all show the same face; the chance {PHRASE}"
    assert matches(text, threshold=0.0) == [("phrase", False)]
    assert matches("Nothing in common with any of them", threshold=0.0) == []


def test_shorter_runs_find_shorter_texts():
    assert matches("Aya goes for a walk of nine kilometres", n=5) == [("story", False)]
    assert matches("Aya goes for a walk of nine kilometres", n=13) == []


def test_a_report_counts_items_and_prompts_once():
    prompts = [Problem("a", STORY, ""), Problem("b", f"{STORY} How fast?", ""), Problem("c", "Something else", "")]
    twice = Benchmark("twice", [ITEMS[0], Problem("again", STORY, ""), ITEMS[1]])
    report, other = find_leakage(iter(prompts), [twice, Benchmark("empty", [])])
    assert (report.benchmark, report.items, report.prompts) == ("twice", 3, 3)
    assert report.prompt_ids(exact=True) == ("a",)
    assert report.prompt_ids() == ("a", "b")
    assert report.item_ids() == report.item_ids(exact=True) == ("story", "again")
    assert not other.matches
    assert [match.share for match in report.matches] == [1.0] * 4


@pytest.mark.parametrize("suffix", ["jsonl", "json"])
def test_a_benchmark_is_read_from_its_file(tmp_path, suffix):
    rows = [{"question": STORY, "key": 7}, {"question": None}]
    path = tmp_path / f"bench.{suffix}"
    path.write_text("\n".join(map(json.dumps, rows)) if suffix == "jsonl" else json.dumps(rows))
    benchmark = Benchmark.load("bench", path, text_field="question", id_field="key")
    assert len(benchmark) == 1
    assert benchmark.matches(Problem("p", STORY, ""))[0].item_id == "7"
    with pytest.raises(ValueError, match="no row with a text in the field 'problem'"):
        Benchmark.load("bench", path)


def test_known_overlaps_of_the_training_problems_are_found(data):
    # The counts that come with the data, found with another normalisation, are lower bounds.
    files = {name: data / "processbench" / f"{name}.json" for name in ("math", "omnimath", "olympiadbench")}
    benchmarks = [Benchmark.load(name, path) for name, path in files.items()]
    benchmarks.append(Benchmark.load("math500", data / "math500" / "test.jsonl"))
    settings = ProblemSettings(path=str(data / "skywork_or1_8k" / "train_8k.jsonl"))
    prompts = (problem for problem in read_problems(settings) if not isinstance(problem, BadRow))
    exact = {report.benchmark: len(report.item_ids(exact=True)) for report in find_leakage(prompts, benchmarks)}
    assert exact["math"] >= 2
    assert exact["omnimath"] >= 90
    assert exact["olympiadbench"] >= 1
    assert exact["math500"] == 0
