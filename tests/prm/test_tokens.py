"""Loss on the reply and the end of its turn, whatever the chat template, behind the prompt of the reward stage."""

import re
from pathlib import Path

import pytest

from tests.prm import made
from verl_spark.prm.check import check
from verl_spark.prm.dataset import VerificationDataset
from verl_spark.prm.rows import read_rows
from verl_spark.prm.tokens import trained_tokens
from verl_spark.settings import SettingsError
from verl_spark.verification.kinds import Kind
from verl_spark.verifier.chat import Chat


def trained(item, tokenizer):
    ids, mask = item["input_ids"].tolist(), item["loss_mask"].tolist()
    start = mask.index(1)
    assert set(mask[start:]) == {1}
    return ids[:start], tokenizer.decode(ids[start:])


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("style", made.TEMPLATES)
def test_the_reply_and_the_end_of_its_turn_are_trained_and_nothing_else(data, style, kind):
    tokenizer = made.tokenizer(made.TEMPLATES[style], eos=made.PAD)
    file = data / kind.value / "train.parquet"
    dataset = VerificationDataset(str(file), tokenizer, {"max_length": 10000, "seed": 0})
    replies = {row.turns() for row in read_rows([file])}
    seen = set()
    for index in range(len(dataset)):
        prompt, text = trained(dataset[index], tokenizer)
        message, reply = next((m, r) for m, r in replies if Chat(tokenizer).prompt_ids(m) == prompt)
        assert text == reply + "<|im_end|>"
        seen.add((message, reply))
    assert seen == replies


def test_a_think_prm_is_not_taught_a_tag_that_the_prompt_has_written(data):
    tokenizer = made.tokenizer(made.OPENS_THINKING)
    file = data / "think_prm" / "train.parquet"
    prompt, text = trained(VerificationDataset(str(file), tokenizer, {"max_length": 10000})[0], tokenizer)
    assert tokenizer.decode(prompt).endswith("assistant\n<think>\n")
    assert text.startswith("hm\n</think>\n\n## Step 1")


def test_control_tokens_in_a_text_stay_text():
    tokenizer = made.tokenizer()
    chat = Chat(tokenizer)
    control = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert chat.prompt_ids("a<|im_end|>b").count(control) == chat.prompt_ids("ab").count(control)
    assert chat.reply_ids("Yes<|im_end|>").count(control) == 1
    assert tokenizer.decode(chat.reply_ids("Yes<|im_end|>")) == "Yes<|im_end|><|im_end|>"


@pytest.mark.parametrize(
    ("template", "says"),
    [(made.ENDS_WITHOUT_TOKEN, "cannot learn where to stop"), (made.LEAVES_OUT_REPLY, "leaves out the reply")],
)
def test_a_template_in_which_no_reply_can_end_is_refused(template, says):
    with pytest.raises(ValueError, match=says):
        Chat(made.tokenizer(template)).reply_ids("Yes")


OWN = "data.custom_cls.path=null"


@pytest.mark.parametrize(
    ("style", "says"),
    [
        ("plain", r"the last trained token is '\\n', not the turn's end '<\|im_end\|>'"),
        ("thinking", "is not the prompt|the first trained token|fails on it"),
    ],
)
def test_another_class_that_trains_other_tokens_is_refused(tmp_path, data, style, says):
    model = made.base_model(tmp_path / "base", made.TEMPLATES[style])
    with pytest.raises(SettingsError, match=says):
        check(made.config(model, data, OWN, "data.enable_thinking_default=null"))


class Masked(VerificationDataset):
    """A class with a fault of its own: `mask` says which places of the reply it trains."""

    def __getitem__(self, index):
        item = super().__getitem__(index)
        where = item["loss_mask"].nonzero().flatten()
        item["loss_mask"][where] = 0
        item["loss_mask"][self.mask(where)] = 1
        return item


class Nothing(Masked):
    mask = staticmethod(lambda where: where[:0])


class TooEarly(Masked):
    mask = staticmethod(lambda where: [where[0] - 1, *where])


class TooLate(Masked):
    mask = staticmethod(lambda where: where[1:])


class Unended(Masked):
    mask = staticmethod(lambda where: where[:-1])


class Holed(Masked):
    mask = staticmethod(lambda where: [*where[:2], *where[3:]])


@pytest.mark.parametrize(
    ("cls", "says"),
    [
        (Nothing, "no token"),
        (TooEarly, "first trained token"),
        (TooLate, "first trained token|not the prompt"),
        (Unended, "last trained token"),
        (Holed, "untrained tokens within"),
    ],
)
def test_a_wrong_first_or_last_token_is_seen(model, data, cls, says):
    config = made.config(model, data, f"data.custom_cls.path={Path(__file__)}", f"data.custom_cls.name={cls.__name__}")
    tokenizer = made.tokenizer()
    rows = list(read_rows([data / "prm_cot" / "train.parquet"]))[:2]
    for one in trained_tokens(config, tokenizer, Chat(tokenizer), rows):
        assert one.problem is not None
        assert re.search(says, one.problem), one.problem
