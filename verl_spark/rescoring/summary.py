"""What a design makes of many stored rollouts, in a few numbers."""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from verl_spark.rescoring.scoring import Scored


@dataclass
class Summary:
    """Counts over training steps; `add` takes one step after another."""

    rollouts: int = 0
    scored: int = 0
    gated: Counter[str] = field(default_factory=Counter)
    """Rollouts with reward 0 without a verification, by what was wrong with them."""
    missing: Counter[str] = field(default_factory=Counter)
    """Rollouts without a reward, by cause."""
    groups: int = 0
    idle_groups: int = 0
    """Groups in which no token has an advantage: nothing is learned from them."""
    _rewards: list[float] = field(default_factory=list, repr=False)

    def add(self, step: Sequence[Scored]) -> None:
        """Counts the rollouts of a training step."""
        moving: dict[str, bool] = defaultdict(bool)
        for one in step:
            self.rollouts += 1
            self.scored += one.state == "scored"
            for state, counts in (("gated", self.gated), ("missing", self.missing)):
                if one.state == state:
                    counts[" + ".join(one.why)] += 1
            if one.reward is not None:
                self._rewards.append(one.reward)
            moving[one.rollout.group] |= any(advantage for _, _, advantage in one.advantages)
        self.groups += len(moving)
        self.idle_groups += sum(not moves for moves in moving.values())

    @property
    def mean_reward(self) -> float | None:
        """Of scored and gated rollouts, as `spark/reward/mean`; None without any."""
        return math.fsum(self._rewards) / len(self._rewards) if self._rewards else None

    @property
    def idle_share(self) -> float | None:
        """Share of groups without any advantage."""
        return self.idle_groups / self.groups if self.groups else None

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "rollouts": self.rollouts,
            "mean_reward": self.mean_reward,
            "scored": self.scored,
            "gated": dict(self.gated),
            "missing": dict(self.missing),
            "groups": self.groups,
            "groups_without_advantage": self.idle_groups,
        }
