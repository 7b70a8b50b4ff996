"""Tables that a study made of its results: shown as they are."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from verl_spark.evaluation.statistics import Estimate
from verl_spark.files import replacing
from verl_spark.runs.rows import SourceError

StudyCell = str | int | float | Estimate | None
"""An estimate is a share of 1."""


class StudyTable(BaseModel):
    """One table; each row has a cell for every column."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    title: str
    text: str = ""
    """Stands before the table."""
    columns: tuple[str, ...]
    rows: tuple[tuple[StudyCell, ...], ...]
    note: str = ""
    """Stands below it."""

    @model_validator(mode="after")
    def _whole_rows(self) -> "StudyTable":
        for number, row in enumerate(self.rows, 1):
            if len(row) != len(self.columns):
                raise ValueError(f"row {number} has {len(row)} cells for {len(self.columns)} columns")
        return self


class Study(BaseModel):
    """The content of `study.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    text: str = ""
    """What the study is; blank lines part its paragraphs."""
    tables: tuple[StudyTable, ...] = ()

    @classmethod
    def read(cls, path: Path) -> "Study":
        """The study in a file. Raises `SourceError` for a file that holds something else."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "file"
            raise SourceError(f"{path}: no study: {place}: {first['msg']}; correct it or take it away") from error

    def write(self, path: Path) -> None:
        """Whole or not at all."""
        with replacing(path) as file:
            file.write(self.model_dump_json(indent=1) + "\n")
