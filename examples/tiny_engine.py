"""A tiny model as an engine: for a few hundred questions it answers before vLLM would have started."""

import asyncio
from pathlib import Path
from types import TracebackType

from examples.teaching import TinyModel
from verl_spark.verifier.client import Reply, Sampling

_GATHERING_S = 0.05


class TinyEngine:
    """Greedy replies of a model through transformers; requests that come together are answered in one batch."""

    def __init__(self, folder: Path) -> None:
        self._model = TinyModel(folder)
        self._waiting: list[tuple[str, Sampling, asyncio.Future[Reply]]] = []

    async def __aenter__(self) -> "TinyEngine":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    async def sample(self, message: str, sampling: Sampling, n: int) -> list[Reply]:
        """One greedy reply. Raises `ValueError` for several, or at another temperature than 0."""
        if n != 1 or sampling.temperature != 0:
            raise ValueError(f"{n} samples at temperature {sampling.temperature}: this engine gives one greedy reply")
        found = asyncio.get_running_loop().create_future()
        self._waiting.append((message, sampling, found))
        if len(self._waiting) == 1:
            asyncio.get_running_loop().call_later(_GATHERING_S, self._answer)
        return [await found]

    def _answer(self) -> None:
        asked, self._waiting = self._waiting, []
        longest = max(sampling.max_tokens for _, sampling, _ in asked)
        answers = self._model.answers([message for message, _, _ in asked], new_tokens=longest, sample=False)
        for (_, _, found), one in zip(asked, answers, strict=True):
            finish_reason = "stop" if one.ended else "length"
            found.set_result(Reply(one.text, finish_reason, one.prompt_tokens, one.tokens, 0.0, 1))
