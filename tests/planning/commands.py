"""`verl-spark plan` as a user runs it."""

from typer.testing import CliRunner

from verl_spark.cli.main import app


def said(*arguments: object, status: int = 0) -> str:
    """Its output, runs of blanks as one; without a terminal the table is as wide as COLUMNS says."""
    result = CliRunner(env={"COLUMNS": "300"}).invoke(app, ["plan", *map(str, arguments)])
    assert result.exit_code == status, result.output
    return "\n".join(" ".join(line.split()) for line in result.output.splitlines())
