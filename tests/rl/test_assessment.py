"""Order and calibration of values, against a count by hand and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robopolicy.rl.assessment import auroc, calibration, calibration_error


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=30))
def test_auroc_counts_pairs(rows: list[tuple[int, bool]]) -> None:
    values, success = np.array([row[0] for row in rows], float), np.array([row[1] for row in rows])
    pairs = [float(a > b) + 0.5 * float(a == b) for a in values[success] for b in values[~success]]
    expected = float(np.mean(pairs)) if pairs else None
    assert auroc(values, success) == (pytest.approx(expected) if pairs else None)


def test_true_chances_are_calibrated_and_others_are_off_by_what_was_added() -> None:
    random = np.random.default_rng(0)
    chance = random.uniform(0, 1, 100_000)
    returns = (random.uniform(0, 1, chance.size) < chance).astype(float)
    table = calibration(chance, returns)
    assert [row["windows"] for row in table] == [20_000] * 5
    assert calibration_error(table) < 0.01
    assert calibration_error(calibration(chance + 0.3, returns)) == pytest.approx(0.3, abs=0.01)
