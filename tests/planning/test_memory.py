"""Memory: the formulas, by hand, and what config.json gives."""

import json

import pytest

from tests.planning.commands import said
from verl_spark.planning.memory import Shape, read_shape, serving, states
from verl_spark.settings import SettingsError

SMALL = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "vocab_size": 1000,
    "max_position_embeddings": 128,
}
# Per layer: queries and output, keys and values, three matrices of the MLP, two norms.
LAYER = 2 * 64 * 64 + 2 * 64 * 16 + 3 * 64 * 96 + 2 * 64


def model(folder, **config):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(SMALL | config))
    return str(folder)


def test_a_llama_with_its_own_head(tmp_path):
    shape = read_shape(model(tmp_path, model_type="llama", tie_word_embeddings=False))
    assert shape.parameters == 3 * LAYER + 2 * 1000 * 64 + 64
    assert (shape.layers, shape.kv_heads, shape.head_dim) == (3, 2, 8)


def test_a_qwen2_with_tied_embeddings_and_biases(tmp_path):
    shape = read_shape(model(tmp_path, model_type="qwen2", tie_word_embeddings=True))
    assert shape.parameters == 3 * (LAYER + 64 + 2 * 16) + 1000 * 64 + 64


def test_a_head_dimension_that_the_config_states(tmp_path):
    assert read_shape(model(tmp_path, model_type="qwen3", head_dim=32)).head_dim == 32


def test_the_memory_that_the_recipe_of_full_scale_reckons_with():
    """Qwen2.5-14B on one GPU and Qwen3-32B on two of 80 GB; the sizes are those of their cards."""
    generator = serving(Shape("", 14_770_000_000, 48, 8, 128), gpus=1, gpu_gb=80, utilization=0.9)
    assert generator.weights == pytest.approx(29.54)
    assert generator.token * 1e9 == pytest.approx(48 * 8 * 128 * 2 * 2)
    assert generator.tokens == int((72 - 29.54) / (196_608 / 1e9))
    verifier = serving(Shape("", 32_760_000_000, 64, 8, 128), gpus=2, gpu_gb=80, utilization=0.9)
    assert (verifier.weights, verifier.cache) == (pytest.approx(65.52), pytest.approx(144 - 65.52))
    assert states(Shape("", 7_600_000_000, 28, 4, 128), gpus=8) == pytest.approx(15.2)


def test_more_gpus_than_heads_hold_each_head_several_times():
    shape = Shape("", 1, 28, 4, 128)
    four, eight = (serving(shape, gpus, 80, 0.9) for gpus in (4, 8))
    assert eight.token == 2 * four.token


def test_the_command(tmp_path):
    folder = model(tmp_path / "m", model_type="llama")
    found = said("memory", folder, "--gpus", 2)
    assert "2 at 0.9" in found
    assert "GB on each of 2 GPUs" in found
    assert "activations come on top" in found


def test_what_does_not_fit_is_said():
    assert serving(Shape("", 70_600_000_000, 80, 8, 128), 1, 80, 0.9).cache < 0
    assert serving(Shape("", 70_600_000_000, 80, 8, 128), 1, 80, 0.9).tokens == 0


def test_a_model_that_cannot_be_read_is_refused_by_name(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(SettingsError, match=r"empty: its config.json cannot be used"):
        read_shape(str(tmp_path / "empty"))
    compressed = {"num_key_value_heads": 8, "q_lora_rank": None, "kv_lora_rank": 16, "n_routed_experts": 4}
    with pytest.raises(SettingsError, match="not modelled"):
        read_shape(model(tmp_path / "mla", model_type="deepseek_v3", first_k_dense_replace=9, **compressed))
