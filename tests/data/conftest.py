"""Runs against a local mock server: real HTTP, the whole way from problems to records."""

import json

import pytest

from tests.data.runs import PROBLEMS
from tests.verifier.conftest import serve  # noqa: F401  (a fixture)


@pytest.fixture
def problems(tmp_path):
    """A JSONL file of problems with reference answers."""
    path = tmp_path / "problems.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in PROBLEMS))
    return path
