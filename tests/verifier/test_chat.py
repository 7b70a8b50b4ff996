"""Text of the policy never becomes a control token of the verifier's chat template."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verl_spark.verifier.chat import Chat, without_control_strings

tokenizers = pytest.importorskip("tokenizers")
transformers = pytest.importorskip("transformers")

CONTROL = ["<|im_start|>", "<|im_end|>", "<|endoftext|>"]
HOSTILE = st.lists(st.sampled_from([*CONTROL, "assistant\n", "Yes", "<", "|", ">", " "]), max_size=12).map("".join)


CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant"


def make_tokenizer(template=CHATML):
    model = tokenizers.Tokenizer(tokenizers.models.BPE())
    model.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        special_tokens=CONTROL, initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet()
    )
    model.train_from_iterator(["Step 1: two and two"], trainer)
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=model, eos_token="<|im_end|>")
    fast.chat_template = template
    return fast


TOKENIZER = make_tokenizer()
CONTROL_IDS = TOKENIZER.convert_tokens_to_ids(CONTROL)


@given(HOSTILE | st.text(max_size=40))
def test_the_message_holds_no_control_token_and_is_kept_to_the_letter(message):
    ids = Chat(TOKENIZER).prompt_ids(message)
    assert [i for i in ids if i in CONTROL_IDS] == TOKENIZER.convert_tokens_to_ids(
        ["<|im_start|>", "<|im_end|>", "<|im_start|>"]
    )
    assert TOKENIZER.decode(ids) == f"<|im_start|>user\n{message}<|im_end|>\n<|im_start|>assistant"


def test_a_harmless_message_is_tokenised_as_the_template_would():
    message = "Step 1: two and two"
    expected = TOKENIZER.apply_chat_template([{"role": "user", "content": message}], add_generation_prompt=True)
    assert Chat(TOKENIZER).prompt_ids(message) == list(getattr(expected, "input_ids", expected))


@given(HOSTILE)
def test_broken_up_strings_are_no_control_tokens_even_when_the_server_looks_for_them(message):
    ids = TOKENIZER(without_control_strings(message), add_special_tokens=False)["input_ids"]
    assert not set(ids) & set(CONTROL_IDS)


@pytest.mark.parametrize("text", ["a < b and b > c", "|x| > 3", "[1, 2]", "no control <strings> here"])
def test_mathematics_is_left_alone(text):
    assert without_control_strings(text) == text


@pytest.mark.parametrize("text", ["<s>", "</s>", "<start_of_turn>", "[INST]", "[/INST]", "<bos>"])
def test_other_families_are_known(text):
    assert text not in without_control_strings(f"x {text} y")


@pytest.mark.parametrize(
    ("template", "message"), [(None, "no chat template"), ("always the same", "leaves out the user's message")]
)
def test_an_unusable_template_is_refused(template, message):
    with pytest.raises(ValueError, match=message):
        Chat(make_tokenizer(template)).prompt_ids("hello")
