"""Warm descents on bowls, whose steps are known in closed form."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from robopolicy.denoise.descent import Descent, DescentRule
from robopolicy.denoise.noise import RowNoise
from robopolicy.denoise.sampler import Request, Sampled, make_sampler
from robopolicy.errors import ConfigError
from robopolicy.inference.warm_start import WarmDescent

PLAIN = DescentRule(momentum=0.0, exponential=False)


def row_noise(rows: int) -> RowNoise:
    return RowNoise(3, [(row, 0) for row in range(rows)])


def warm_request(previous: Tensor) -> Request:
    rows = len(previous)
    return Request(row_noise(rows), previous=previous, warm=torch.ones(rows, dtype=torch.bool))


@dataclass(frozen=True)
class Bowl:
    """E = 1/2 mean (a - centre)^2, with a centre for each row."""

    centres: Tensor
    step_size: Tensor
    rule: DescentRule = PLAIN
    cost: int = 2

    @property
    def shape(self) -> tuple[int, int, int]:
        return len(self.centres), 3, 4

    def energy(self, actions: Tensor, rows: Tensor) -> Tensor:
        return 0.5 * (actions - self.centres[rows, None, None]).square().mean(dim=(1, 2))


BOWL = Bowl(torch.tensor([0.3, -0.2, 0.1]), torch.tensor(0.6))
WARM = WarmDescent(Descent(4, 4), Descent(1, 1), noise=0.25)


@pytest.mark.parametrize("steps", [1, 2])
def test_warm_descent_contracts_from_the_mixture_by_the_closed_form(steps: int) -> None:
    previous = torch.full((3, 3, 4), 0.8)
    noise = row_noise(3).branch(1).normal(1, (3, 4))[0]
    sampled = replace(WARM, warm=Descent(steps, steps, clip=None))(BOWL, warm_request(previous))
    centres = BOWL.centres[:, None, None]
    expected = centres + 0.4**steps * (0.75 * previous + 0.25 * noise - centres)
    torch.testing.assert_close(sampled.normalised, expected)
    assert sampled.evaluations.tolist() == [2 * (3 * steps + 1)] * 3
    assert sampled.info["steps"].tolist() == [steps] * 3


def test_a_moving_bowl_is_followed_with_the_lag_of_the_closed_form() -> None:
    sampler, rate, error = WarmDescent(Descent(), Descent(1, 1, clip=None)), 0.4, 0.02
    guess, centre = torch.zeros(1, 3, 4), 0.0
    for _ in range(40):
        centre += error
        guess = sampler(replace(BOWL, centres=torch.tensor([centre])), warm_request(guess)).normalised
    torch.testing.assert_close(centre - guess, torch.full((1, 3, 4), rate / (1.0 - rate) * error), rtol=1e-3, atol=1e-5)


def test_rows_of_an_energy_depend_on_neither_their_neighbours_nor_their_kind() -> None:
    previous, mixed = torch.randn(3, 3, 4), torch.tensor([False, True, False])

    def asked(warm: Tensor) -> Sampled:
        return WARM(BOWL, Request(row_noise(3), previous=previous, warm=warm))

    both, warm, cold = asked(mixed), asked(torch.ones(3).bool()), asked(torch.zeros(3).bool())
    assert torch.equal(both.normalised, torch.where(mixed[:, None, None], warm.normalised, cold.normalised))
    assert torch.equal(cold.normalised, Descent(4, 4)(BOWL, Request(row_noise(3))).normalised)
    assert both.evaluations.tolist() == [26, 8, 26]
    assert both.info["steps"].tolist() == [4, 1, 4]
    assert torch.equal(both.info["energy"], torch.where(mixed, warm.info["energy"], cold.info["energy"]))


@pytest.mark.parametrize(
    ("options", "complaint"),
    [({"noise": 1.5}, "sampler.noise is 1.5"), ({"cold": make_sampler("ddim", 4)}, "expected descents")],
)
def test_options_of_a_warm_descent_that_make_no_sense_are_named(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        replace(WARM, **options)
