"""The weights of real-time chunking are the published ones."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch

from robopolicy.denoise.noise import RowNoise
from robopolicy.denoise.sampler import Request, make_sampler
from robopolicy.errors import ConfigError
from robopolicy.inference.continuation import Continuation
from robopolicy.inference.overlap import Schedule, continuation_weights, row_weights


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
    with pytest.raises(
        ConfigError, match=f"sampler.delay={delay} does not fit chunks of 8 actions, {end} of them known"
    ):
        continuation_weights(8, delay, end, "exp")


def test_rows_have_weight_on_what_their_own_last_chunk_says_only() -> None:
    previous = torch.zeros(3, 8, 2)
    request = Request(
        RowNoise(0, [(row, 0) for row in range(3)]), previous=previous, warm=torch.tensor([True, False, True])
    )
    sampler = Continuation(make_sampler("euler", 2), 2, "linear")
    everywhere = row_weights(sampler, 8, request)
    partly = row_weights(sampler, 8, replace(request, known=torch.tensor([5, 0, 8])))
    whole, some = continuation_weights(8, 2, 8, "linear"), continuation_weights(8, 2, 5, "linear")
    none = torch.zeros(8)
    assert everywhere is not None
    assert partly is not None
    assert torch.equal(everywhere, torch.stack([whole, none, whole]))
    assert torch.equal(partly, torch.stack([some, none, whole]))
    late = row_weights(sampler, 8, replace(request, known=torch.tensor([1, 0, 8])))  # not even the delay is known
    assert late is not None
    assert late[0].tolist() == [1.0] + [0.0] * 7
    with pytest.raises(ConfigError, match="delay=9 does not fit chunks of 8 actions"):
        row_weights(Continuation(make_sampler("euler", 2), 9), 8, replace(request, previous=None, warm=None))
