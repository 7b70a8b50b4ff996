"""The kinds of generative reward model: what a verifier writes, and so how it is prompted and read."""

from enum import Enum


class Kind(str, Enum):
    """Reply format of a verifier. It belongs to the checkpoint: PRM and PRM-CoT get the same prompt."""

    ORM = "orm"
    """`Yes` or `No`, nothing else."""
    PRM = "prm"
    """One mark per step, then the verdict line."""
    PRM_COT = "prm_cot"
    """Reasoning and a mark per step, then the verdict line."""
    THINK_PRM = "think_prm"
    """A thinking part, then the text of PRM-CoT."""
