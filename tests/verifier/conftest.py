"""A local mock server for the client: real HTTP, faults on a schedule."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp.test_utils import TestServer

from benchmarks.mock_server import MockServer


@pytest.fixture
def serve() -> Callable[..., object]:
    """`async with serve("ok", "cut", ...) as (mock, base_url)`."""

    @asynccontextmanager
    async def start(*schedule: str, **options: float) -> AsyncIterator[tuple[MockServer, str]]:
        mock = MockServer(schedule or ("ok",), **options)
        async with TestServer(mock.app()) as server:
            yield mock, str(server.make_url("/v1"))

    return start
