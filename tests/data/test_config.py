"""The config: typed, refused where it cannot work, and fixed once a folder holds calls."""

import pytest
from pydantic import BaseModel

from tests.data.runs import config
from verl_spark.data.config import DataConfig
from verl_spark.settings import SettingsError

URL = "http://localhost:1/v1"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"verifer": {}}, "verifer: there is no such setting; the settings here are: output, problems"),
        ({"verifier": {"m": 3}}, r"verifier\.m: there is no such setting; .*temperature"),
        ({"methods": ["stepwise"]}, "no method 'stepwise'; there are: single, outcome, step"),
        ({"methods": ["step", "step"]}, "stands twice"),
        ({"methods": ["reference"], "references": None}, "set references.field=COLUMN"),
        ({"verifier": {"temperature": 0}}, "verifier.n=1"),
        ({"references": {"field": ""}}, r"references\.field"),
        (
            {"generator": {"engine": {"kind": "vllm", "model": "m", "vllm": {"max_model_len": 8192}}}},
            r"generator\.max_tokens: a reply of 8192 tokens has no room .* generator\.engine\.vllm\.max_model_len=8192",
        ),
        (
            {
                "verifier": {"max_tokens": 10, "engine": {"kind": "ray", "model": "m", "vllm": {"max_model_len": 99}}},
                "methods": ["meta_step"],
            },
            r"critic\.max_tokens: .* verifier\.engine\.vllm\.max_model_len=99",
        ),
    ],
)
def test_what_cannot_work_is_refused_by_name(tmp_path, changes, message):
    with pytest.raises(SettingsError, match=message):
        config(URL, tmp_path / "p", tmp_path, **changes)


def test_a_critic_that_is_not_asked_and_servers_have_no_bounds(tmp_path):
    engine = {"kind": "vllm", "model": "m", "vllm": {"max_model_len": 99}}
    config(URL, tmp_path / "p", tmp_path, verifier={"max_tokens": 10, "engine": engine})
    engine |= {"kind": "server", "base_urls": [URL]}
    config(URL, tmp_path / "p", tmp_path, verifier={"engine": engine}, methods=["meta_step"])


def test_a_file_with_overrides(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(
        "output: out\nproblems: {path: p.jsonl}\n"
        f"generator: {{engine: {{model: m, base_urls: ['{URL}']}}}}\nverifier: {{engine: '${{generator.engine}}'}}\n"
    )
    loaded = DataConfig.load(path, ["verifier.n=3", "methods=[single,step]"])
    assert (loaded.generator.n, loaded.verifier.n, loaded.methods) == (8, 3, ("single", "step"))
    assert loaded.verifier.engine == loaded.critic_engine == loaded.generator.engine
    assert (loaded.generator.temperature, loaded.verifier.temperature, loaded.critic.temperature) == (0.7, 0.8, 0)
    assert DataConfig.load(path).verifier.n == 16
    path.write_text("a: [")
    with pytest.raises(SettingsError, match=r"c\.yaml"):
        DataConfig.load(path)


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({"verifier": {"temperature": 0.5}}, "verifier.temperature: 0.8, now 0.5"),
        ({"verifier": {"n": 6}}, "verifier.n: 5, now 6"),
        ({"seed": 1}, "seed: 0, now 1"),
        ({"balance": True}, "balance: False, now True"),
        ({"problems": {"text_field": "q"}}, "problems.text_field: 'problem', now 'q'"),
        ({"critic": {"max_tokens": 9}}, "critic.max_tokens: 8192, now 9"),
        (
            {"generator": {"engine": {"model": "other", "base_urls": [URL]}}},
            "generator.engine.model: 'mock', now 'other'",
        ),
    ],
)
def test_a_different_config_in_a_folder_is_refused_with_both_values(tmp_path, changes, shown):
    config(URL, "p", tmp_path).claim()
    before = (tmp_path / "config.yaml").read_bytes()
    with pytest.raises(SettingsError) as refused:
        config(URL, "p", tmp_path, **changes).claim()
    assert shown in str(refused.value)
    assert (tmp_path / "config.yaml").read_bytes() == before


@pytest.mark.parametrize(
    "changes",
    [
        {"window": 3, "prices": {"gpus": 8}, "methods": ["single", "reference"], "validation_share": 0.5},
        {"problems": {"limit": 9, "on_bad_row": "stop"}},
        {"verifier": {"engine": {"model": "mock", "base_urls": [URL, URL], "max_concurrency": 1, "timeout_s": 1}}},
        {"generator": {"engine": {"model": "mock", "kind": "ray", "replicas": 8}}},
    ],
)
def test_keys_that_change_no_call_and_no_selection_may_change(tmp_path, changes):
    config(URL, "p", tmp_path).claim()
    changed = config(URL, "p", tmp_path, **changes)
    changed.claim()
    assert DataConfig.load(tmp_path / "config.yaml") == changed


def test_every_key_is_explained():
    def nodes(model):
        yield model
        for field in model.model_fields.values():
            if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
                yield from nodes(field.annotation)

    for node in nodes(DataConfig):
        for name, field in node.model_fields.items():
            assert field.description, f"{node.__name__}.{name}"
