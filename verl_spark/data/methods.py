"""The ways in which verifications become one example per solution (paper, Stage I)."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal


@dataclass(frozen=True)
class Method:
    """A way to select."""

    name: str
    level: Literal["single", "outcome", "step"]
    """What is voted on. `single`: nothing, the first verification is taken."""
    refined: bool = False
    """Whether the pick is criticised and merged with the criticism."""
    reference: bool = False
    """Whether it chooses among verifications that were shown the reference."""


METHODS: Mapping[str, Method] = MappingProxyType(
    {
        method.name: method
        for method in (
            Method("single", "single"),
            Method("outcome", "outcome"),
            Method("step", "step"),
            Method("meta_single", "single", refined=True),
            Method("meta_outcome", "outcome", refined=True),
            Method("meta_step", "step", refined=True),
            Method("reference", "step", reference=True),
        )
    }
)
"""All methods by name. The paper leaves open how the reference-guided verifications become one; here by step."""


def get_method(name: str) -> Method:
    """The method of this name. Raises `ValueError`, with the names there are, for another."""
    if name not in METHODS:
        raise ValueError(f"there is no method {name!r}; there are: {', '.join(METHODS)}")
    return METHODS[name]
