"""What the parts of `benchmarks.gpu` came to, as one report: `report.md` to read and `report.json` to compare."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any


def spread(values: Sequence[float]) -> dict[str, float] | None:
    """Median, lowest, highest and quartiles of values; None without any."""
    if not values:
        return None
    ordered = sorted(values)
    quarter = len(ordered) // 4
    return {
        "median": median(ordered),
        "quartile 1": ordered[quarter],
        "quartile 3": ordered[-1 - quarter],
        "lowest": ordered[0],
        "highest": ordered[-1],
    }


def write_report(folder: Path, order: Sequence[str]) -> Path:
    """Writes both files from the results of the parts that are there, in this order; the one to read."""
    parts = [json.loads(file.read_text()) for name in order if (file := folder / f"part_{name}.json").is_file()]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(json.dumps(parts, indent=2))
    path = folder / "report.md"
    path.write_text("\n".join(_lines(parts)) + "\n")
    return path


def _lines(parts: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield "# GPU measurements"
    machines = {json.dumps(part["machine"], sort_keys=True): part["machine"] for part in parts}
    for machine in machines.values():
        listed = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
        yield f"\n{machine['gpu'] or 'unknown GPU'}; {listed}"
    if not parts:
        yield "\nNo part has run yet."
    for part in parts:
        yield f"\n## {part['part']}, {part['wall_seconds']:.0f} s in all\n"
        yield from ("```", *part["commands"], "```", "")
        if part["error"]:
            yield from ("Failed:", "", "```", part["error"], "```")
        else:
            yield from _figures(part["figures"])


def _figures(figures: Mapping[str, Any], above: str = "") -> Iterator[str]:
    """A list of figures, nested ones under their whole names."""
    for name, value in figures.items():
        whole = f"{above}{name}"
        if isinstance(value, dict) and "median" in value:
            yield f"- {whole}: median {_number(value['median'])}" + (
                f", quartiles {_number(value['quartile 1'])} to {_number(value['quartile 3'])}, "
                f"lowest {_number(value['lowest'])}, highest {_number(value['highest'])}"
            )
        elif isinstance(value, dict) and {"low", "high"} <= value.keys():
            middle = value.get("value", value.get("mean"))
            yield f"- {whole}: {_number(middle)} [{_number(value['low'])}, {_number(value['high'])}]"
        elif isinstance(value, dict):
            yield from _figures(value, f"{whole} / ")
        elif isinstance(value, list) and not any(isinstance(entry, dict) for entry in value):
            yield f"- {whole}: {', '.join(map(_number, value))}"
        elif isinstance(value, list):
            for place, entry in enumerate(value, 1):
                yield from _figures(entry, f"{whole} {place} / ")
        elif isinstance(value, str):
            yield from (f"- {whole}:", "", "```", value.rstrip(), "```")
        else:
            yield f"- {whole}: {_number(value)}"


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
