"""One split of labelled texts: which methods at which sizes, what is measured, and texts with labels from a folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from fishersft.errors import InputError
from fishersft.experiments.frozen_split import SplitDesign, split_outcomes
from fishersft.experiments.label_choice import Method
from fishersft.experiments.labelled_texts import labelled_texts
from fishersft.numerics.threads import one_blas_thread

DESIGN = SplitDesign(pool=60, held_out=30, budgets=[5, 15], draws=3, ridges=[0.1, 1.0], folds=2)
LABELS = np.random.default_rng(0).integers(3, size=100)
FEATURES = 3 * np.eye(3)[LABELS] + np.random.default_rng(1).normal(size=(100, 3))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As the step has it: many small products."""
    with one_blas_thread():
        yield


def test_every_method_is_measured_at_each_budget_and_uniform_at_one_two_and_four_times_that() -> None:
    found = list(split_outcomes(FEATURES, LABELS, 3, DESIGN, 0))
    measured = {(row.method, row.budget) for row in found}
    assert measured == {(method, size) for method in get_args(Method) for size in (5, 15)} | {
        ("uniform", size) for size in (5, 10, 15, 20, 30, 60)
    }
    assert len(measured) == len(found)
    assert all({row.ridge for row in found if row.budget == size} <= {0.1, 1.0} for size in (5, 15))
    whole = next(row for row in found if row.budget == 60)
    assert whole.nats < np.log(3) / 2 and whole.accuracy > 0.7 and whole.labels == 3


def test_features_are_standardised_so_units_and_origin_do_not_matter_and_a_constant_is_no_fault() -> None:
    moved = np.hstack([FEATURES * [1.0, 100.0, 0.01] + [5.0, -700.0, 0.3], np.ones((100, 1))])
    one, other = (list(split_outcomes(features, LABELS, 3, DESIGN, 4)) for features in (FEATURES, moved))
    np.testing.assert_allclose([row.nats for row in one], [row.nats for row in other], rtol=1e-3)


def test_another_seed_is_another_split() -> None:
    one, other = (list(split_outcomes(FEATURES, LABELS, 3, DESIGN, seed)) for seed in (0, 1))
    assert [row.nats for row in one] != [row.nats for row in other]


def test_held_out_labels_reach_no_choice_and_no_head() -> None:
    """With the held-out labels shuffled, the ridges and the labels chosen stay, and the likelihoods fall."""
    outside = np.random.default_rng(2).permutation(100)[60:]
    other = LABELS.copy()
    other[outside] = (other[outside] + 1) % 3
    one, two = (list(split_outcomes(FEATURES, labels, 3, DESIGN, 2)) for labels in (LABELS, other))
    assert [(row.ridge, row.labels) for row in one] == [(row.ridge, row.labels) for row in two]
    assert all(a.nats < b.nats for a, b in zip(one, two, strict=True) if a.budget == 60)


def test_too_few_texts_are_said() -> None:
    with pytest.raises(InputError, match=r"a pool of 60 and 30 held-out texts were asked for, but there are only 80"):
        list(split_outcomes(FEATURES[:80], LABELS[:80], 3, DESIGN, 0))


def test_texts_have_their_files_name_as_label_and_rare_labels_are_left_out(tmp_path: Path) -> None:
    for name, texts in (("plants", 9), ("animals", 6), ("motives", 2)):
        lines = [f"the {name} of field {n}\nand of more" for n in range(texts)]
        (tmp_path / f"{name}.txt").write_text("\n\n".join([*lines, lines[0], "too short"]))
    found = labelled_texts(tmp_path, fewest=6, most=12, seed=0)
    assert found.names == ["animals", "plants"] and len(found.texts) == len(set(found.texts)) == 12
    assert all(found.names[label] in text for text, label in zip(found.texts, found.labels, strict=True))
    assert found == labelled_texts(tmp_path, 6, 12, 0) != labelled_texts(tmp_path, 6, 12, 1)
    assert len(labelled_texts(tmp_path, 6, 99, 0).texts) == 15
    with pytest.raises(InputError, match=r"has 1 labels of at least 7 texts among its 3 files.*labelled.sh"):
        labelled_texts(tmp_path, 7, 12, 0)
