"""What seeds are for."""

from __future__ import annotations

import pytest

from robopolicy.jobs.seeds import kinds_of


@pytest.mark.parametrize(
    ("seeds", "kinds"),
    [
        (range(0, 5000), ["demonstration"]),
        (range(5000, 10000), ["tuning"]),
        (range(10000, 100000), ["result"]),
        (range(4999, 5001), ["demonstration", "tuning"]),
        ([12000, 7000], ["tuning", "result"]),
        ([99999, 100000], ["result", "other"]),
        ([], []),
    ],
)
def test_every_seed_has_a_kind(seeds: range, kinds: list[str]) -> None:
    assert kinds_of(seeds) == kinds
