"""vLLM in the process: the samples of a prompt in one request, so that their common prefix is computed once.

The prompt is tokenised here, so nothing in a message can become a control token. Written against `AsyncLLM` of vLLM
0.24 to 0.27; `VERL_PLATFORM=cpu` runs it without an accelerator."""

import asyncio
import itertools
import time
from dataclasses import fields
from functools import cached_property
from types import TracebackType
from typing import Any

from verl_spark.platforms import cpu
from verl_spark.verifier.chat import Chat
from verl_spark.verifier.client import CallFailed, PromptTooLong, Refused, Reply, Sampling
from verl_spark.verifier.engine import EngineDied, EngineSettings


class VllmEngine:
    """One vLLM engine; see `engine.Engine` for what `sample` promises.

    A reply ends with "length" at `max_tokens` or where the model's context ends.
    """

    def __init__(self, settings: EngineSettings) -> None:
        self._settings = settings
        self._slots = asyncio.Semaphore(settings.max_concurrency)
        self._numbers = itertools.count()
        self._engine: Any = None

    async def start(self) -> None:
        """Loads the model, which holds up the event loop. Raises `ValueError` for an argument vLLM does not know."""
        ours = {"enable_prefix_caching": True, "disable_log_stats": True, **cpu.prepare_vllm()}
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        given = self._settings.vllm
        if unknown := given.keys() - {field.name for field in fields(AsyncEngineArgs)}:
            raise ValueError(f"vllm: there is no engine argument {', '.join(sorted(unknown))} in this vLLM")
        arguments = AsyncEngineArgs(**{**ours, **given, "model": self._settings.model})
        self._engine = AsyncLLM.from_engine_args(arguments)

    @cached_property
    def _chat(self) -> Chat:
        return Chat(self._engine.get_tokenizer())

    async def stop(self) -> None:
        """Ends the engine's process; requests under way fail."""
        if self._engine is not None:
            self._engine.shutdown()
            self._engine = None

    async def __aenter__(self) -> "VllmEngine":
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def sample(self, message: str, sampling: Sampling, n: int) -> list[Reply]:
        """The `n` replies to `message`."""
        if self._engine is None:
            raise RuntimeError("the engine is closed: use it inside `async with`")
        async with self._slots:
            prompt = self._chat.prompt_ids(message)
            room = self._engine.model_config.max_model_len
            if len(prompt) >= room:
                raise PromptTooLong(f"the prompt's {len(prompt)} tokens leave no room for a reply in {room} of context")
            start = time.monotonic()
            try:
                output = await asyncio.wait_for(self._generate(prompt, sampling, n), self._settings.deadline_s)
            except asyncio.TimeoutError as error:
                raise CallFailed(f"no reply within deadline_s={self._settings.deadline_s:g}") from error
            seconds = time.monotonic() - start
        return [
            Reply(
                text=sample.text,
                finish_reason=sample.finish_reason or "unknown",
                prompt_tokens=0 if place else len(prompt),
                completion_tokens=len(sample.token_ids),
                seconds=seconds,
                attempts=1,
            )
            for place, sample in enumerate(output.outputs)
        ]

    async def _generate(self, prompt: list[int], sampling: Sampling, n: int) -> Any:
        from vllm.exceptions import VLLMValidationError
        from vllm.sampling_params import RequestOutputKind, SamplingParams
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

        try:
            params = SamplingParams(
                n=n,
                max_tokens=sampling.max_tokens,
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                seed=sampling.seed,  # of sample 0; vLLM adds the index
                output_kind=RequestOutputKind.FINAL_ONLY,
            )
            async for output in self._engine.generate({"prompt_token_ids": prompt}, params, str(next(self._numbers))):
                if output.finished:
                    return output
        except EngineDeadError as error:
            raise EngineDied(f"the vLLM engine of {self._settings.model} died; its log says why") from error
        except EngineGenerateError as error:
            raise CallFailed(f"vLLM could not answer: {error.__cause__!r}") from error
        except (VLLMValidationError, ValueError) as error:
            raise Refused(f"vLLM refused the request: {error}") from error
        raise CallFailed("vLLM ended the request without a reply")
