"""A client for OpenAI-compatible servers: one connection pool, least-loaded replicas, one retry policy.

`sample` returns the replies as they came; reading them is `verl_spark.verification.reading`. Every wait is bounded:
an attempt by `timeout_s`, a request with all its attempts by `deadline_s`. When `TRIP` requests in a row have
failed for good, further ones fail at once, except one probe at a time: a dead server cannot hold a batch for
(requests / max_concurrency) deadlines."""

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, ClassVar

import aiohttp
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from verl_spark.verifier.chat import without_control_strings

logger = logging.getLogger(__name__)

TRIP = 32
"""Failures in a row before only probes are sent. Well above what a healthy server produces by chance."""
MAX_BACKOFF_S = 8.0
"""Longest pause between two attempts; the deadline bounds the sum."""
RETRIED_STATUS = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
REFUSED_STATUS = frozenset({400, 413, 422})
"""The request itself is at fault. A wrong key, path or model name (401, 403, 404) is the set-up's, and may pass."""


class CallFailed(Exception):
    """No usable reply after the allowed attempts; the message says what the last one met."""

    permanent: ClassVar[bool] = False
    """Whether the same request will fail again whenever it is asked: nothing that a restart could cure."""


class Refused(CallFailed):
    """The request itself is not acceptable."""

    permanent = True


class PromptTooLong(Refused):
    """The prompt does not fit the model's context."""


class _Transient(Exception):
    """An attempt failed in a way that another attempt may cure."""


@dataclass(frozen=True)
class Sampling:
    """Sampling of a request, named as in the OpenAI API."""

    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None


@dataclass(frozen=True)
class Reply:
    """One sample as the model gave it. `finish_reason` is "stop", "length" or another word of the server.

    Sums of tokens over the replies to a request are the tokens of the request: its prompt is computed once."""

    text: str
    finish_reason: str
    prompt_tokens: int
    """Of the request, on its first reply; 0 on the others."""
    completion_tokens: int
    """Of this sample; where a server gives only the total, an equal share of it."""
    seconds: float
    """Wall time of the whole request, from sending the first attempt to the last byte; the same on all its replies."""
    attempts: int
    """Of the whole request."""


@dataclass
class _Replica:
    url: str
    in_flight: int = 0
    failures: int = 0  # since the last success; breaks ties away from a sick replica


@dataclass
class Client:
    """Sends prompts to one model behind one or several base URLs (`http://host:port/v1`).

    Use it as an async context manager inside one event loop. Retries live here and nowhere above or below.
    """

    base_urls: Sequence[str]
    model: str
    max_concurrency: int = 256
    timeout_s: float = 300.0
    deadline_s: float = 600.0
    attempts: int = 4
    api_key: str | None = None
    _session: aiohttp.ClientSession | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not self.base_urls:
            raise ValueError("base_urls is empty: name at least one server, e.g. http://localhost:8000/v1")
        self._replicas = [_Replica(url.rstrip("/")) for url in self.base_urls]
        self._slots = asyncio.Semaphore(self.max_concurrency)
        self._failed_in_a_row = 0
        self._probing = False

    async def __aenter__(self) -> "Client":
        headers = {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),  # the semaphore is the one limit
            timeout=aiohttp.ClientTimeout(total=self.timeout_s),
            headers=headers,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def complete(self, prompt: str | Sequence[int], sampling: Sampling) -> Reply:
        """One reply: `sample` with n = 1."""
        return (await self.sample(prompt, sampling, 1))[0]

    async def sample(self, prompt: str | Sequence[int], sampling: Sampling, n: int) -> list[Reply]:
        """Up to `n` replies to one request, at least one, in the server's order; fewer if the server gave fewer.

        Token ids go to `/completions` untouched; text goes to `/chat/completions` as one user turn, without anything
        that its template could take for a control token. Raises `CallFailed` when the deadline passes, the attempts
        are used up or the server refuses the request.
        """
        async with self._slots:
            if self._failed_in_a_row >= TRIP:
                if self._probing:
                    raise CallFailed(f"not sent: the last {self._failed_in_a_row} requests failed")
                self._probing = True
                try:
                    return await self._bounded(prompt, sampling, n)
                finally:
                    self._probing = False
            return await self._bounded(prompt, sampling, n)

    async def _bounded(self, prompt: str | Sequence[int], sampling: Sampling, n: int) -> list[Reply]:
        try:
            replies = await asyncio.wait_for(self._with_retries(prompt, sampling, n), self.deadline_s)
        except PromptTooLong:  # the server is well; this prompt is not
            raise
        except (CallFailed, _Transient, TimeoutError, asyncio.TimeoutError) as error:
            self._failed_in_a_row += 1
            if self._failed_in_a_row == TRIP:
                logger.error("%d requests in a row failed; only probes are sent until one succeeds", TRIP)
            if isinstance(error, CallFailed):
                raise
            raise CallFailed(str(error) or f"no reply within deadline_s={self.deadline_s:g}") from error
        self._failed_in_a_row = 0
        return replies

    async def _with_retries(self, prompt: str | Sequence[int], sampling: Sampling, n: int) -> list[Reply]:
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(_Transient),
            stop=stop_after_attempt(self.attempts),
            wait=wait_random_exponential(multiplier=0.25, max=MAX_BACKOFF_S),
            reraise=True,
        )
        start = time.monotonic()
        async for attempt in retrying:
            with attempt:
                body = await self._post(prompt, sampling, n)
                return _replies(body, time.monotonic() - start, attempt.retry_state.attempt_number)
        raise AssertionError("unreachable: tenacity re-raises the last failure")

    async def _post(self, prompt: str | Sequence[int], sampling: Sampling, n: int) -> Any:
        if self._session is None:
            raise RuntimeError("the client is closed: use it inside `async with Client(...)`")
        payload: dict[str, Any] = {
            "model": self.model,
            "n": n,
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
        }
        if sampling.seed is not None:
            payload["seed"] = sampling.seed
        if isinstance(prompt, str):
            turn = {"role": "user", "content": without_control_strings(prompt)}
            endpoint, payload["messages"] = "chat/completions", [turn]
        else:
            endpoint, payload["prompt"] = "completions", list(prompt)
        replica = min(self._replicas, key=lambda r: (r.failures > 0, r.in_flight, r.failures))
        replica.in_flight += 1
        try:
            async with self._session.post(f"{replica.url}/{endpoint}", json=payload) as response:
                if response.status >= 400:
                    detail = f"HTTP {response.status} from {replica.url}: {(await response.text())[:300]}"
                    if response.status in RETRIED_STATUS:
                        raise _Transient(detail)
                    if "context length" in detail.lower():
                        raise PromptTooLong(detail)
                    raise Refused(detail) if response.status in REFUSED_STATUS else CallFailed(detail)
                body = await response.json()
        except (aiohttp.ClientError, asyncio.TimeoutError, ValueError) as error:
            replica.failures += 1
            raise _Transient(f"{type(error).__name__} from {replica.url}: {error}") from error
        except _Transient:
            replica.failures += 1
            raise
        finally:
            replica.in_flight -= 1
        replica.failures = 0
        return body


def _replies(body: Any, seconds: float, attempts: int) -> list[Reply]:
    """All choices of a completion or chat completion. Raises `_Transient` when the body has another shape."""
    try:
        choices = sorted(body["choices"], key=lambda choice: int(choice.get("index") or 0))
        usage = body.get("usage") or {}
        prompt_tokens = int(usage.get("prompt_tokens") or 0)
        share, rest = divmod(int(usage.get("completion_tokens") or 0), len(choices))
        return [
            Reply(
                text=(choice["message"]["content"] if "message" in choice else choice["text"]) or "",
                finish_reason=choice.get("finish_reason") or "unknown",
                prompt_tokens=0 if place else prompt_tokens,
                completion_tokens=share + (place < rest),
                seconds=seconds,
                attempts=attempts,
            )
            for place, choice in enumerate(choices)
        ]
    except (KeyError, TypeError, AttributeError, ZeroDivisionError) as error:  # the last: no choices
        raise _Transient(f"the reply is no completion: {str(body)[:300]}") from error
