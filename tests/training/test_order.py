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


def test_draws_depend_on_seed_and_step_alone_and_fill_the_unit_interval() -> None:
    order = BatchOrder(50, 40, 3)
    first = [order.draws(step) for step in range(60)]
    again = BatchOrder(50, 40, 3)
    again.indices(7)
    np.testing.assert_array_equal(again.draws(41), first[41])
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first[0], BatchOrder(50, 40, 4).draws(0))
    drawn = np.concatenate(first)
    assert drawn.min() >= 0
    assert drawn.max() < 1
    assert abs(drawn.mean() - 0.5) < 0.03
