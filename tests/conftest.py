"""Shared files for the tests, which the repository does not hold: `pytest --golden DIR --data DIR`.

The fixture `data` is the second folder, with benchmark problems; tests that use it are skipped without the option.
A test marked `@pytest.mark.golden("family")` runs once for each case of DIR/family.json, which it gets as the
argument `case`; without the option it is skipped with the reason."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# No test asserts time: a busy machine is no fault.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

REMARK = "remark"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--golden", type=Path, metavar="DIR", help="folder of the golden vectors (no default)")
    parser.addoption("--data", type=Path, metavar="DIR", help="folder of the benchmark data (no default)")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "golden(family): one run for each golden case of this family")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    properties = [one for report in terminalreporter.getreports("passed") for one in report.user_properties]
    if remarks := [text for name, text in properties if name == REMARK]:
        terminalreporter.section("remarks")
        terminalreporter.write_line("\n".join(remarks))


@pytest.fixture
def remark(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Says something at the end of the test run: a figure to follow, which no test asserts."""
    return partial(record_property, REMARK)


def golden(folder: Path, family: str) -> list[dict[str, Any]]:
    """Cases of a family of golden vectors; a folder without it is an error, not a skip."""
    path = folder / f"{family}.json"
    if not path.is_file():
        raise pytest.UsageError(f"--golden {folder}: there is no {path.name}; name the folder that holds it")
    data = json.loads(path.read_text(encoding="utf-8"))
    if len(data["cases"]) != data["count"]:
        raise pytest.UsageError(f"{path}: {len(data['cases'])} cases, but the file says {data['count']}")
    return list(data["cases"])


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    marker = metafunc.definition.get_closest_marker("golden")
    if marker is None:
        return
    folder = metafunc.config.getoption("--golden")
    if folder is None:
        skip = pytest.mark.skip(reason=f"golden family {marker.args[0]}: give --golden DIR")
        metafunc.parametrize("case", [pytest.param(None, id="absent", marks=skip)])
        return
    metafunc.parametrize("case", golden(folder, marker.args[0]), ids=lambda case: case["id"])


@pytest.fixture(scope="session")
def data(pytestconfig: pytest.Config) -> Path:
    """Folder of the benchmark data; a name that is no folder is an error, not a skip."""
    folder = pytestconfig.getoption("--data")
    if folder is None:
        pytest.skip("benchmark data: give --data DIR")
    if not folder.is_dir():
        raise pytest.UsageError(f"--data {folder}: there is no such folder")
    return Path(folder)
