"""The weights of real-time chunking are the published ones."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from robopolicy.errors import ConfigError
from robopolicy.inference.overlap import Schedule, continuation_weights


def test_weights_are_the_published_ones() -> None:
    linear = [1.0, 1.0, 0.75, 0.5, 0.25, 0.0, 0.0, 0.0]  # (5 - i) / 4 from the second action on
    decayed = [w * math.expm1(w) / math.expm1(1.0) for w in linear]
    wanted: dict[Schedule, list[float]] = {
        "linear": linear,
        "exp": decayed,
        "ones": [1.0] * 5 + [0.0] * 3,
        "hard": [1.0] * 2 + [0.0] * 6,
    }
    for schedule, values in wanted.items():
        weights = continuation_weights(8, 2, 5, schedule)
        torch.testing.assert_close(weights, torch.tensor(values), rtol=0, atol=1e-7)


@pytest.mark.parametrize("schedule", ["exp", "linear", "ones", "hard"])
def test_weights_fall_from_one_to_zero_for_every_window(schedule: Schedule) -> None:
    for horizon in (1, 5, 16):
        for delay, end in itertools.combinations_with_replacement(range(horizon + 1), 2):
            weights = continuation_weights(horizon, delay, end, schedule)
            assert weights.shape == (horizon,)
            assert bool((weights[:delay] == 1).all())
            assert bool((weights[end:] == 0).all())
            assert bool((weights.diff() <= 0).all())
            assert schedule == "hard" or bool((weights[:end] > 0).all())


@pytest.mark.parametrize(("delay", "end"), [(3, 2), (-1, 4), (2, 9)])
def test_windows_that_do_not_fit_are_refused(delay: int, end: int) -> None:
    with pytest.raises(ConfigError, match=f"sampler.delay={delay} and sampler.execution={8 - end} do not fit"):
        continuation_weights(8, delay, end, "exp")
