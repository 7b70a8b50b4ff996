"""Putting a message into a verifier's chat template without letting its text act as control tokens.

Where we tokenise, the template's own parts are tokenised with special tokens and the message without: nothing in
it can become one. Where the server tokenises, strings that look like control tokens are broken up."""

import re
from typing import Any

_SLOT = "\u2063spark-message\u2063"
_CONTROL = re.compile(
    r"<(?=\|)|(?<=\|)>"  # <|im_start|>, <|eot_id|>
    r"|<(?=/?(?:s|bos|eos|pad|unk|start_of_turn|end_of_turn)>)"  # Llama, Gemma
    r"|\[(?=/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\])"  # Mistral
)


def chat_token_ids(tokenizer: Any, message: str, **template_kwargs: Any) -> list[int]:
    """Token ids of one user turn with the generation prompt of `tokenizer`'s chat template.

    Raises `ValueError` when the tokenizer has no chat template or the template drops the user's message.
    """
    if getattr(tokenizer, "chat_template", None) is None:
        raise ValueError(f"{tokenizer.name_or_path}: the verifier's tokenizer has no chat template; add one to it")
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": _SLOT}], tokenize=False, add_generation_prompt=True, **template_kwargs
    )
    before, slot, after = text.partition(_SLOT)
    if not slot:
        raise ValueError(f"{tokenizer.name_or_path}: its chat template leaves out the user's message")
    parts = [(before, False), (message, True), (after, False)]
    return [
        token
        for part, is_message in parts
        for token in tokenizer(part, add_special_tokens=False, split_special_tokens=is_message)["input_ids"]
    ]


def without_control_strings(message: str) -> str:
    """`message` with a space inside whatever looks like a chat-template control token, e.g. `< |im_end| >`."""
    return _CONTROL.sub(lambda m: f"{m[0]} " if m[0] in "<[" else f" {m[0]}", message)
