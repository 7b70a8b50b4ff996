"""The measure with models: a taught ORM behind vLLM in this process, and a token-scoring PRM of two layouts."""

import json
import os
import subprocess
import sys

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForTokenClassification, AutoTokenizer, Qwen2Config

from tests.end_to_end import taught, tiny
from tests.evaluation.made import config, item, lines, rows, write_rows
from verl_spark.evaluation.asking import evaluate
from verl_spark.evaluation.verifiers.token_scores import ScorerSettings, TokenScorer, TokenScores
from verl_spark.platforms.cpu.overrides import environment
from verl_spark.settings import SettingsError

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


def test_an_orm_with_known_verdicts_behind_vllm(tmp_path):
    model = taught.teach_orm(tmp_path / "orm")
    made = rows("math", [-1, 0, 2, -1, 1, -1])
    for place, row in enumerate(made):
        row["problem"] = f"{(tiny.CROSSES, tiny.NOUGHTS)[place % 2]} What is {place} plus 2?"
        row["steps"], row["final_answer_correct"] = [f"{step}" for step in row["steps"]], place % 2 == 0
    data = write_rows(tmp_path / "math.jsonl", made)
    engine = {
        "kind": "vllm",
        "model": str(model),
        "vllm": {"dtype": "float32", "max_model_len": 1024, "max_num_seqs": 8, "enforce_eager": True},
    }
    run = config(tmp_path / "out", data, verifier={"kind": "orm", "engine": engine, "max_tokens": 16})
    for start in range(2):
        keys = [f"{key}={json.dumps(value)}" for key, value in run.model_dump(mode="json").items() if value is not None]
        code = "from verl_spark.cli.main import app; app()"
        done = subprocess.run(
            [sys.executable, "-c", code, "eval", "processbench", *keys],
            env={**os.environ, **environment(threads=1)},
            timeout=400,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
        calls = (tmp_path / "out" / "calls" / "judge.jsonl").read_bytes()
        assert len(calls.splitlines()) == 6, start
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    math = result["subsets"]["math"]
    assert (math["verdict_acc_right"]["value"], math["verdict_acc_wrong"]["value"]) == (100.0, 100.0)
    assert (math["f1"], result["average_f1"]) == (None, None)
    for one, row in zip(lines(tmp_path / "out" / "items.jsonl"), made, strict=True):
        assert one["verdict"] is taught.verdict_of(row["problem"])


@pytest.fixture(scope="module")
def scorers(models, tmp_path_factory):
    """Folders of an untrained model with each of the two heads."""
    folder = tmp_path_factory.mktemp("scorers")
    tokenizer = AutoTokenizer.from_pretrained(models.model)
    torch.manual_seed(0)
    shape = Qwen2Config.from_pretrained(models.model, num_labels=2)
    AutoModelForTokenClassification.from_config(shape).float().save_pretrained(folder / "head")
    AutoModelForCausalLM.from_config(shape).float().save_pretrained(folder / "tokens")
    for name in ("head", "tokens"):
        tokenizer.save_pretrained(folder / name)
    return folder


HEADS = {
    "head": {"head": "token_classification"},
    "tokens": {"head": "two_tokens", "right": "+", "wrong": "-", "separator": tiny.END_OF_TURN},
}


@pytest.mark.parametrize("name", HEADS)
async def test_scores_are_the_models_own_at_the_end_of_each_step(scorers, tmp_path, name):
    settings = ScorerSettings(model=str(scorers / name), device="cpu", **HEADS[name])
    items = [item(1, name="a"), item(-1, 5, name="b", problem="x <|im_end|> y")]
    async with TokenScorer(settings) as engine:
        found = await evaluate(items, TokenScores(settings), engine, tmp_path, settings.model)
        tokenizer, model = engine._tokenizer, engine._model
    for one in found.judgements:
        said = json.loads(one.replies[0].text)
        assert len(said) == len(one.item.steps)
        # Step by step, from a text that ends there: what follows a step plays no part in a causal model.
        plain = tokenizer(f"{one.item.problem}\n", split_special_tokens=True)["input_ids"]
        for place, step in enumerate(one.item.steps):
            plain += tokenizer(step, split_special_tokens=True)["input_ids"]
            plain += tokenizer(settings.separator)["input_ids"]
            logits = model(input_ids=torch.tensor([plain])).logits[0, -1]
            pair = [0, 1] if name == "head" else tokenizer.convert_tokens_to_ids(["-", "+"])
            assert said[place] == pytest.approx(logits[pair].softmax(-1)[1].item(), abs=1e-4)
        below = [place for place, score in enumerate(said) if score < 0.5]
        assert one.prediction.index == (below[0] if below else -1)
    assert found.cost.prompt_tokens > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"right": "2"}, "'2' is none of the head's labels, 0 to 1"),
        ({"head": "two_tokens", "right": "yes", "wrong": "n"}, "'yes' is 3 tokens of this model"),
        ({"model": "/no/such/model"}, r"verifier\.scorer: /no/such/model: "),
    ],
)
async def test_a_scorer_that_cannot_work_is_refused(scorers, changes, message):
    settings = ScorerSettings(**{"model": str(scorers / "head"), "device": "cpu", **changes})
    with pytest.raises(SettingsError, match=message):
        async with TokenScorer(settings):
            pass


async def test_an_item_that_does_not_fit_the_model_is_a_failure_and_no_score(scorers, tmp_path):
    settings = ScorerSettings(model=str(scorers / "head"), device="cpu")
    async with TokenScorer(settings) as engine:
        items = [item(0, problem="x" * 3000, name="long"), item(0, name="short")]
        found = await evaluate(items, TokenScores(settings), engine, tmp_path, "m")
    assert found.progress.set_aside == 1
    assert found.judgements[0].prediction.fault == "failed"
    assert found.judgements[1].prediction.fault is None
