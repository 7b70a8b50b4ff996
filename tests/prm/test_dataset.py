import pytest

from tests.prm import made
from verl_spark.prm.dataset import VerificationDataset

TOKENIZER = made.tokenizer()


def ids(data, kind="prm_cot", max_samples=-1, **config):
    made_of = VerificationDataset(
        [str(data / kind / "train.parquet")], TOKENIZER, {"max_length": 10000, **config}, max_samples=max_samples
    )
    return [tuple(made_of[index]["input_ids"].tolist()) for index in range(len(made_of))]


def test_the_seed_decides_the_order_and_nothing_else(data):
    first, again, other = ids(data, seed=1), ids(data, seed=1), ids(data, seed=2)
    assert first == again
    assert first != other
    assert sorted(first) == sorted(other)


def test_kinds_differ_in_the_reply_alone(data):
    prompts = {}
    for kind in ("prm", "prm_cot", "think_prm"):
        dataset = VerificationDataset(str(data / kind / "train.parquet"), TOKENIZER, {"max_length": 10000, "seed": 5})
        items = [dataset[index] for index in range(len(dataset))]
        prompts[kind] = [item["input_ids"][item["loss_mask"] == 0].tolist() for item in items]
        assert all(item["loss_mask"].sum() > 0 for item in items)
    assert prompts["prm"] == prompts["prm_cot"] == prompts["think_prm"]


def test_only_the_first_rows_of_the_files_are_taken(data):
    assert sorted(ids(data, max_samples=3, seed=1)) == sorted(ids(data, max_samples=3, seed=2))
    assert len(ids(data, max_samples=3)) == 3


def test_a_long_row_is_refused_or_left_out_as_told_and_never_cut(data):
    lengths = sorted(len(row) for row in ids(data))
    limit = lengths[0]
    assert lengths[-1] > limit
    with pytest.raises(ValueError, match=rf"{lengths[-1]} tokens, and data\.max_length={limit}"):
        ids(data, max_length=limit)
    kept = ids(data, max_length=limit, filter_overlong=True)
    assert [len(row) for row in kept] == [length for length in lengths if length <= limit]


def test_padding_is_refused(data):
    with pytest.raises(ValueError, match=r"data\.pad_mode"):
        ids(data, pad_mode="right")


def test_items_have_the_shapes_that_verls_collator_takes(data):
    dataset = VerificationDataset(str(data / "orm" / "train.parquet"), TOKENIZER, {"max_length": 10000})
    item = dataset[0]
    assert {tensor.shape for tensor in item.values()} == {item["input_ids"].shape}
    assert item["position_ids"].tolist() == list(range(len(item["input_ids"])))
