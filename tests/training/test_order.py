import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from robopolicy.training.order import BatchOrder


@given(st.integers(1, 60), st.integers(1, 20), st.integers(0, 5))
def test_an_epoch_visits_nothing_twice_and_steps_can_be_asked_in_any_order(count: int, batch: int, seed: int) -> None:
    order = BatchOrder(count, batch, seed)
    epoch = [order.indices(step) for step in range(order.steps_per_epoch)]
    visited = np.concatenate(epoch)
    assert all(len(indices) == batch for indices in epoch)
    assert visited.min() >= 0
    assert visited.max() < count
    if batch <= count:
        assert len(set(visited.tolist())) == len(visited)
    later = BatchOrder(count, batch, seed)
    later.indices(5 * order.steps_per_epoch)
    assert np.array_equal(later.indices(order.steps_per_epoch - 1), epoch[-1])


def test_epochs_and_seeds_differ() -> None:
    order = BatchOrder(1000, 100, 0)
    assert not np.array_equal(order.indices(0), order.indices(order.steps_per_epoch))
    assert not np.array_equal(order.indices(0), BatchOrder(1000, 100, 1).indices(0))
