"""Files that are there whole or not at all, and what can be in them."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


@contextmanager
def replacing(path: Path) -> Iterator[TextIO]:
    """A text file that is written beside `path` and takes its name at the end; an error leaves `path` as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.new")
    with beside.open("w", encoding="utf-8") as file:
        yield file
    beside.replace(path)


def file_hash(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def is_writable(*texts: str) -> bool:
    """Whether a file or a request can hold the texts.

    JSON can smuggle in half of a surrogate pair, which UTF-8 does not know."""
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:
        return False
    return True
