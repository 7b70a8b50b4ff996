"""The example of re-scoring, on a dump as a run makes it."""

import asyncio

from examples.rescore import differences
from tests.rescoring.made import dump, settings


def test_the_rollout_on_which_two_designs_part_is_shown_step_by_step(tmp_path):
    folder = asyncio.run(dump(tmp_path, settings("process_aware")))
    head, *steps = differences(folder, "process_aware", "selective")
    assert head.startswith("step 1, b_0_0: verdict True, reward 1.0 and 0.0")  # two steps are too few for selective
    assert len(steps) == 2
    for line, body in zip(steps, ("2 + 3 = 5", "5 é odd"), strict=True):
        before, after, mark = line.split()[:3]
        assert float(before) > 0
        assert float(after) == 0
        assert mark == "right"
        assert line.endswith(body)
