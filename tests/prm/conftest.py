"""A base model without weights and the files of a Stage I run."""

import pytest

from tests.prm import made


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    return made.base_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def data(tmp_path):
    return made.sft_files(tmp_path / "sft" / "step")
