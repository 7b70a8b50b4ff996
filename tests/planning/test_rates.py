"""Rates: which one counts, and what follows from it."""

import re
from pathlib import Path

import pytest

from verl_spark.planning.rates import Rate, find, given_rate, read_rates, shipped
from verl_spark.planning.work import Work
from verl_spark.settings import SettingsError

ROOT = Path(__file__).parents[2]
WORK = Work("verify", "verifier", "m", calls=10, prompt_tokens=7200, reply_tokens=3600, source="given")


def test_hours_are_of_all_gpus_and_prompts_count_where_they_have_a_rate():
    rate = Rate(model="m", machine="x", gpus=4, reply_tokens_per_s=1.0, source="me")
    assert rate.gpu_hours(WORK) == 4.0
    assert rate.model_copy(update={"prompt_tokens_per_s": 2.0}).gpu_hours(WORK) == 8.0
    assert given_rate("verifier", 2.0).gpu_hours(WORK) == 0.5
    assert given_rate("trainer", 2.0).gpu_hours(WORK) == 1.5  # it works on prompts as well


def test_shipped_rates_stand_in_the_reports_that_they_name():
    for rate in shipped():
        report = (ROOT / rate.source).read_text()
        assert rate.machine in report
        assert rate.model.rpartition("/")[2] in report
    (smollm,) = shipped()
    found = re.search(r"tokens read, written \| [\d,]+, ([\d,]+)", (ROOT / smollm.source).read_text())
    seconds = re.search(r"seconds of asking \| ([\d.]+)", (ROOT / smollm.source).read_text())
    assert found
    assert seconds
    assert smollm.reply_tokens_per_s == pytest.approx(int(found[1].replace(",", "")) / float(seconds[1]), abs=1)


def test_a_rate_is_found_by_the_last_part_of_a_name_and_by_machine():
    assert find("models/SmolLM2-135M-Instruct/", None, shipped())
    assert find("HuggingFaceTB/SmolLM2-135M-Instruct", "h100", shipped())
    assert find("HuggingFaceTB/SmolLM2-135M-Instruct", "a100", shipped()) is None
    assert find("HuggingFaceTB/SmolLM2-135M", None, shipped()) is None


def test_a_file_of_ones_own(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("- {model: Qwen/Qwen3-32B, machine: H200, gpus: 2, reply_tokens_per_s: 3000, source: mine}\n")
    (rate,) = read_rates(file)
    assert (rate.gpus, rate.reply_tokens_per_s) == (2, 3000)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model: m", "not a list of rates"),
        (
            "- {model: m, machine: x, source: s, reply_tokens_per_s: 0}",
            "reply_tokens_per_s: Input should be greater than 0",
        ),
        ("- {model: m, machine: x, source: s, tokens_per_s: 3}", "tokens_per_s: there is no such setting"),
        ("- [", "mine.yaml"),
    ],
)
def test_a_faulty_file_is_refused_by_name(tmp_path, text, said):
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=said) as error:
        read_rates(file)
    assert "mine.yaml" in str(error.value)
