"""What replicates say of single groups of held-out sentences, by hand and against scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from fishersft.reporting.comparison import Comparison
from fishersft.reporting.replicate_groups import group_sheets
from fishersft.reporting.sheets import Sheet
from tests.unit.reporting.test_comparison import against, comparison

TASKS = ["adding", "sorting", "spelling"]
UNIFORM = np.array([[2.0, 3.0, 1.0], [2.5, 2.0, 3.5], [1.0, 4.0, 2.0]])  # replicate, task
MEANS = {
    "peer": np.array([[1.5, 3.5, 1.0], [2.0, 2.5, 3.0], [0.5, 4.5, 2.5]]),
    "mine": np.array([[1.8, 2.5, 1.1], [2.4, 2.2, 3.1], [0.9, 3.0, 2.1]]),
}
COUNTS = [
    {"sorting": 60, "adding": 30, "spelling": 10},
    {"adding": 60, "spelling": 30, "sorting": 10},
    {"spelling": 60, "sorting": 30, "adding": 10},
]


def replicate(n: int) -> Comparison:
    told = [
        {
            **{"method": method, "budget": 2000, "group": task, "sentences": 9, "tokens": 99, "base": 5.0},
            **{"uniform": UNIFORM[n, place], "mean": means[n, place]},
            "difference": {"value": means[n, place] - UNIFORM[n, place], "low": -9, "high": 9},
        }
        for method, means in MEANS.items()
        for place, task in enumerate(TASKS)
    ]
    versus = [against(method, -0.1, 0.5) for method in MEANS]
    return Comparison.model_validate({**comparison(*versus).model_dump(), "macro_column": "task", "groups": told})


def interval_of(values: np.ndarray) -> str:
    found = ttest_1samp(values, 0).confidence_interval()
    return f"{values.mean():.3f} [{found.low:.3f}, {found.high:.3f}]"


@pytest.fixture
def sheets() -> list[Sheet]:
    return group_sheets([replicate(n) for n in range(3)], COUNTS, "mine")


def test_every_task_has_its_share_of_the_pool_and_each_methods_mean_difference(sheets: list[Sheet]) -> None:
    by_task = sheets[0]
    assert by_task.columns == ("task", "Share of the pool", "Uniform, nats/token", "mine", "peer")
    assert [row.heading for row in by_task.rows] == TASKS
    for place, row in enumerate(by_task.rows):
        differences = [interval_of(MEANS[method][:, place] - UNIFORM[:, place]) for method in ("mine", "peer")]
        assert row.cells == ("33%", f"{UNIFORM[:, place].mean():.3f}", *differences)


def test_every_rank_takes_in_each_replicate_the_task_that_had_it(sheets: list[Sheet]) -> None:
    by_rank = sheets[1]
    of_rank = [["sorting", "adding", "spelling"], ["adding", "spelling", "sorting"], ["spelling", "sorting", "adding"]]
    assert [row.heading for row in by_rank.rows] == ["1", "2", "3"]
    for rank, row in enumerate(by_rank.rows):
        places = [TASKS.index(tasks[rank]) for tasks in of_rank]
        mine = np.array([MEANS["mine"][n, place] - UNIFORM[n, place] for n, place in enumerate(places)])
        assert row.cells[0] == ("60%", "30%", "10%")[rank] and row.cells[2] == interval_of(mine)


def test_each_choice_has_a_worst_task_of_its_own(sheets: list[Sheet]) -> None:
    mine, peer = sheets[2].rows
    worst = {method: means.max(axis=1) for method, means in MEANS.items()}
    uniform = np.array([3.0, 3.5, 4.0])
    assert mine.cells == (f"{worst['mine'].mean():.3f}", interval_of(worst["mine"] - uniform), "–", "–")
    ahead = worst["mine"] - worst["peer"]
    p = ttest_1samp(ahead, 0).pvalue
    assert peer.cells == (
        f"{worst['peer'].mean():.3f}",
        interval_of(worst["peer"] - uniform),
        interval_of(ahead),
        f"{p:.3f}",
    )
