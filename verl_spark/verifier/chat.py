"""Putting a message into a verifier's chat template without letting its text act as control tokens.

Where we tokenise, the template's own parts are tokenised with special tokens and the message without: nothing in
it can become one. Where the server tokenises, strings that look like control tokens are broken up. Training puts its
dialogues together here as well, so that a model learns behind the very tokens it is asked with."""

import re
from functools import cached_property
from typing import Any

from verl_spark.verification import markers

_SLOT = "\u2063spark-message\u2063"
_ANGLE = "s|bos|eos|pad|unk|start_of_turn|end_of_turn"  # Llama, Gemma
_SQUARE = "INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS"  # Mistral
_CONTROL = re.compile(
    r"<(?=[|｜])|(?<=[|｜])>"  # <|im_start|>, <|eot_id|>; DeepSeek writes the bar in full width
    rf"|<(?=/?(?:{_ANGLE})>)|\[(?=/?(?:{_SQUARE})\])"
)
_WHOLE = re.compile(rf"<[|｜][^<>\s]{{1,60}}[|｜]>|</?(?:{_ANGLE})>|\[/?(?:{_SQUARE})\]")


class Chat:
    """One user turn and its reply in a chat template, as token ids; the template itself is read once.

    Raises `ValueError` when the tokenizer has no chat template, or one that leaves the user's message out."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        if getattr(tokenizer, "chat_template", None) is None:
            raise ValueError(f"{tokenizer.name_or_path}: the verifier's tokenizer has no chat template; add one to it")
        self._user = {"role": "user", "content": _SLOT}
        text = tokenizer.apply_chat_template([self._user], tokenize=False, add_generation_prompt=True)
        before, slot, after = text.partition(_SLOT)
        if not slot:
            raise ValueError(f"{tokenizer.name_or_path}: its chat template leaves out the user's message")
        self._before, self._after = self._ids(before, False), self._ids(after, False)
        self.opens_thinking = after.rstrip().endswith(markers.THINK_OPEN)
        """Whether a reply begins inside a thinking part that the prompt opens."""

    def prompt_ids(self, message: str) -> list[int]:
        """The user turn with the generation prompt."""
        return [*self._before, *self._ids(message, True), *self._after]

    def reply_ids(self, reply: str) -> list[int]:
        """What the model is to generate after the prompt: the reply and the end of its turn.

        Without the opening tag of a thinking part that the prompt has opened already. Raises as `end_of_turn` does."""
        if self.opens_thinking:
            reply = reply.removeprefix(markers.THINK_OPEN).lstrip("\n")
        return [*self._ids(reply, True), self.end_of_turn]

    @cached_property
    def end_of_turn(self) -> int:
        """Id of the control token that the template puts behind a reply.

        Raises `ValueError` when it leaves the reply out or ends it with an ordinary token: nobody could tell where
        such a reply ends."""
        name = self._tokenizer.name_or_path
        turns = [self._user, {"role": "assistant", "content": _SLOT}]
        text, slot, after = self._tokenizer.apply_chat_template(turns, tokenize=False).rpartition(_SLOT)
        if not slot or _SLOT not in text:
            raise ValueError(f"{name}: its chat template leaves out the reply")
        control = {
            *self._tokenizer.all_special_ids,
            *(index for index, token in self._tokenizer.added_tokens_decoder.items() if token.special),
        }
        end = next((token for token in self._ids(after.lstrip(), False)[:1] if token in control), None)
        if end is None:
            raise ValueError(
                f"{name}: its chat template ends a reply with {after[:20]!r} and not with a control token, so a model "
                "cannot learn where to stop; put the end-of-sequence token behind the reply in the template"
            )
        return end

    def _ids(self, text: str, is_message: bool) -> list[int]:
        encoded = self._tokenizer(text, add_special_tokens=False, split_special_tokens=is_message)
        return list(encoded["input_ids"])


def without_control_strings(message: str) -> str:
    """`message` with a space inside whatever looks like a chat-template control token, e.g. `< |im_end| >`."""
    return _CONTROL.sub(lambda m: f"{m[0]} " if m[0] in "<[" else f" {m[0]}", message)


def control_strings(text: str) -> int:
    """Number of strings in `text` that look like whole chat-template control tokens.

    Narrower than what is broken up: `|x|>3` is mathematics."""
    return len(_WHOLE.findall(text))
