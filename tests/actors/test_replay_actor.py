"""A replay answers once per episode, with the whole recording on the right ticks."""

from __future__ import annotations

import numpy as np
import pytest

from robopolicy.actors.replay import ReplayActor


def test_answers_once_with_the_whole_recording_and_again_after_a_reset() -> None:
    actions = np.arange(6.0).reshape(3, 2)
    actor = ReplayActor(actions, 100)
    chunk = actor.act([], 1000)
    assert chunk is not None
    np.testing.assert_array_equal(chunk.actions, actions)
    assert chunk.times_ns.tolist() == [1100, 1200, 1300]
    assert (chunk.observed_ns, chunk.source) == (1000, "replay")
    assert actor.act([], 1100) is None
    actor.reset()
    assert actor.act([], 0) is not None


@pytest.mark.parametrize("shape", [(0, 2), (3,)])
def test_refuses_what_is_not_a_recording(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected \\[T, D\\]"):
        ReplayActor(np.zeros(shape), 100)
