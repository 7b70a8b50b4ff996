"""How many steps a training of verl's takes, in RL and in SFT alike."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from omegaconf import DictConfig

from verl_spark.configs import files_of, get
from verl_spark.settings import SettingsError


def steps_of(config: DictConfig, rows: int | None, option: str) -> int:
    """As verl counts them: whole batches of an epoch, `total_training_steps` at most if it is set.

    rows: how many there are; None counts those of `data.train_files`.
    option: by which a user gives them, for messages.

    Raises `SettingsError` where they cannot be known, and where they are no whole batch."""
    given, epochs = get(config, "trainer.total_training_steps"), get(config, "trainer.total_epochs")
    if rows is None:
        files = files_of(config, "data.train_files")
        missing = [file for file in files if not file.is_file()]
        if given is not None and (missing or not files):
            return int(given)
        cure = f"give their number with {option} N"
        if not files:
            raise SettingsError([f"data.train_files: no file with rows is named; name one, or {cure}"])
        if missing:
            raise SettingsError([f"data.train_files: {missing[0]} is no file that is here; {cure}"])
        rows = sum(_rows(file, cure) for file in files)
    batch = get(config, "data.train_batch_size")
    steps = rows // batch * epochs
    if not steps:
        raise SettingsError([f"data.train_batch_size: {batch} is more than the {rows} rows there are; lower it"])
    return int(steps if given is None else min(steps, given))


def _rows(file: Path, cure: str) -> int:
    try:
        return int(pq.read_metadata(file).num_rows)
    except (OSError, pa.ArrowInvalid) as error:
        raise SettingsError([f"data.train_files: {file} is no parquet file ({error}); {cure}"]) from None
