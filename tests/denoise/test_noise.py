import torch

from robopolicy.denoise.noise import RowNoise, StepNoise


def test_a_row_does_not_depend_on_its_neighbours_or_its_place() -> None:
    alone = RowNoise(3, [(7, 2)]).normal(5, (4, 2))
    among = RowNoise(3, [(1, 0), (7, 2), (9, 9)]).normal(5, (4, 2))
    assert torch.equal(alone[:, 0], among[:, 1])


def test_seed_row_and_step_each_change_the_stream() -> None:
    drawn = [
        RowNoise(seed, [(row, step)]).normal(1, (8,))
        for seed, row, step in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
    ]
    for i, first in enumerate(drawn):
        assert not any(torch.equal(first, other) for other in drawn[i + 1 :])


def test_same_key_same_numbers() -> None:
    assert torch.equal(RowNoise(5, [(2, 3)]).uniform(4), RowNoise(5, [(2, 3)]).uniform(4))


def test_processes_share_the_global_batch() -> None:
    whole = StepNoise((0, 4), 6)
    first, second = StepNoise((0, 4), 6, 0, 3), StepNoise((0, 4), 6, 3, 6)
    assert torch.equal(whole.uniform(2), torch.cat([first.uniform(2), second.uniform(2)], dim=1))
    assert torch.equal(whole.normal(2, (5,)), torch.cat([first.normal(2, (5,)), second.normal(2, (5,))], dim=1))


def test_rows_are_standard_normal() -> None:
    drawn = RowNoise(0, [(row, 0) for row in range(64)]).normal(64, (16,))
    assert abs(float(drawn.mean())) < 4 / 256
    assert abs(float(drawn.std()) - 1) < 0.01


def test_a_branch_is_another_stream_that_changes_nothing_here() -> None:
    undisturbed, noise = RowNoise(3, [(1, 0), (2, 5)]), RowNoise(3, [(1, 0), (2, 5)])
    first = noise.branch(0).normal(4, (2,))
    again, other = noise.branch(0).normal(4, (2,)), noise.branch(1).normal(4, (2,))
    base = noise.normal(4, (2,))
    assert torch.equal(base, undisturbed.normal(4, (2,)))
    assert torch.equal(first, again)
    assert (
        len({float(values[0, 0, 0]) for values in (base, first, other, noise.branch(0).branch(0).normal(4, (2,)))}) == 4
    )


def test_a_branch_of_a_row_does_not_depend_on_the_other_rows() -> None:
    both, alone = RowNoise(3, [(1, 0), (2, 5)]).branch(2), RowNoise(3, [(2, 5)]).branch(2)
    assert torch.equal(both.normal(2, (3,))[:, 1:], alone.normal(2, (3,)))


def test_a_branch_of_a_training_step_keeps_its_share_of_the_batch() -> None:
    whole, share = StepNoise((7, 1), 4).branch(1), StepNoise((7, 1), 4, 2, 4).branch(1)
    assert torch.equal(whole.uniform(3)[:, 2:], share.uniform(3))
