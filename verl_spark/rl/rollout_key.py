"""verl's name of a rollout's output, in batches and in dumps (`agent_loop_tq.py` of the v1 trainers of verl 0.9.1).

A prompt's uid may be any text, so a key is taken apart from its end."""

import re
from dataclasses import dataclass

_KEY = re.compile(r"(.+)_(0|[1-9][0-9]*)_(0|[1-9][0-9]*)", re.DOTALL)


@dataclass(frozen=True)
class RolloutKey:
    """The key `<prompt>_<session>_<output>`; `str` writes it as verl does."""

    prompt: str
    """verl's uid of the prompt, which all rollouts of its group share; another one each time a prompt is used."""
    session: int
    """Which of the prompt's rollouts, from 0."""
    output: int
    """Which of the rollout's outputs, from 0; most agent loops give one."""

    @classmethod
    def parse(cls, text: str) -> "RolloutKey":
        """The key that verl wrote as `text`; ValueError, with the form there should be, for another text."""
        found = _KEY.fullmatch(text)
        if found is None:
            raise ValueError(
                f"{text} is no key of a rollout; verl 0.9.1 writes <uid of the prompt>_<session>_<output>, and an "
                "agent loop manager of your own has to do the same"
            )
        return cls(found[1], int(found[2]), int(found[3]))

    def __str__(self) -> str:
        return f"{self.prompt}_{self.session}_{self.output}"
