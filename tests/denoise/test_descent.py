"""Descent on energies that are known in closed form."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from robopolicy.denoise.descent import Descent, DescentRule, Unroll, advance, unit_rows
from robopolicy.denoise.noise import StepNoise
from robopolicy.errors import ConfigError

PLAIN = DescentRule(momentum=0.0, exponential=False)
CENTRE = 0.3


def quadratic(stiffness: float = 1.0) -> Callable[..., Tensor]:
    """E = k / 2 mean((a - centre)^2) of each row."""

    def energy(actions: Tensor, rows: Tensor | None = None) -> Tensor:
        return 0.5 * stiffness * (actions - CENTRE).square().mean(dim=(1, 2))

    return energy


@dataclass(frozen=True)
class Bowl:
    """The quadratic energy as a landscape."""

    step_size: Tensor
    rule: DescentRule
    shape: tuple[int, int, int] = (4, 3, 2)
    cost: int = 1

    def energy(self, actions: Tensor, rows: Tensor | None = None) -> Tensor:
        return quadratic()(actions, rows)


def bowl(step_size: float, rule: DescentRule = PLAIN) -> Bowl:
    return Bowl(torch.tensor(step_size), rule)


def start(rows: int = 4, steps: int = 3, size: int = 2) -> Tensor:
    return torch.randn(rows, steps, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def run(actions: Tensor, count: int, step_size: float, rule: DescentRule, stiffness: float = 1.0) -> list[Tensor]:
    velocity, path = torch.zeros_like(actions), [actions]
    for _ in range(count):
        step = advance(quadratic(stiffness), path[-1], velocity, torch.tensor(step_size), rule)
        path.append(step.actions)
        velocity = step.velocity
    return path


@pytest.mark.parametrize("shape", [(3, 2), (16, 7), (1, 1)])
@pytest.mark.parametrize("stiffness", [0.5, 1.0, 1.7])
def test_plain_descent_contracts_by_the_closed_form_whatever_the_chunk_size(
    shape: tuple[int, int], stiffness: float
) -> None:
    first = start(4, *shape)
    path = run(first, 5, 0.8, PLAIN, stiffness)
    for index, actions in enumerate(path):
        torch.testing.assert_close(actions - CENTRE, (1.0 - 0.8 * stiffness) ** index * (first - CENTRE))


@pytest.mark.parametrize(("step_size", "diverges"), [(1.99, False), (2.01, True)])
def test_plain_descent_diverges_exactly_when_the_factor_is_below_minus_one(step_size: float, diverges: bool) -> None:
    path = run(start(), 50, step_size, PLAIN)
    assert bool((path[-1] - CENTRE).norm() > (path[0] - CENTRE).norm()) is diverges


@pytest.mark.parametrize("momentum", [0.0, 0.6])
@pytest.mark.parametrize("cap", [0.05, 5.0])
def test_the_exponential_factor_follows_the_exact_recursion(momentum: float, cap: float) -> None:
    """Per row: r' = r + mu v - alpha exp(min(E / tau, cap)) (r + mu v), with E = mean((r + mu v)^2) / 2."""
    rule = DescentRule(momentum=momentum, exponential=True, temperature=2.0, cap=cap)
    path = run(start(), 6, 0.3, rule)
    expected, velocity = path[0] - CENTRE, torch.zeros_like(path[0])
    for actions in path[1:]:
        ahead = expected + momentum * velocity
        energy = 0.5 * ahead.square().mean(dim=(1, 2), keepdim=True)
        velocity = momentum * velocity - 0.3 * torch.exp(torch.clamp(energy / 2.0, max=cap)) * ahead
        expected = expected + velocity
        torch.testing.assert_close(actions - CENTRE, expected)


def test_the_exponential_is_bounded_far_away() -> None:
    rule = DescentRule(momentum=0.0, temperature=1.0, cap=1.0)
    far = start() + 1e4
    step = advance(quadratic(), far, torch.zeros_like(far), torch.tensor(0.5), rule)
    torch.testing.assert_close(step.actions - CENTRE, (1.0 - 0.5 * math.e) * (far - CENTRE))


def test_nesterov_is_the_linear_recursion_with_its_eigenvalues() -> None:
    """(r, v)' = M (r, v) with M = [[1 - h, mu (1 - h)], [-h, mu (1 - h)]] for h = alpha k."""
    h, momentum = 0.25, 0.5
    matrix = torch.tensor([[1 - h, momentum * (1 - h)], [-h, momentum * (1 - h)]], dtype=torch.float64)
    path = run(start(), 30, h, DescentRule(momentum=momentum, exponential=False))
    for index, actions in enumerate(path):
        gain = torch.linalg.matrix_power(matrix, index)[0, 0]
        torch.testing.assert_close(actions - CENTRE, gain * (path[0] - CENTRE))
    radius = float(torch.linalg.eigvals(matrix).abs().max())
    measured = float((path[30] - CENTRE).norm() / (path[10] - CENTRE).norm()) ** (1 / 20)
    assert measured == pytest.approx(radius, rel=0.1)


def test_no_step_size_returns_the_start_and_the_unit_start() -> None:
    first = start()
    assert torch.equal(Descent(clip=None).descend(bowl(0.0), first).normalised, first)
    unit = DescentRule(momentum=0.0, exponential=False, normalise=True)
    torch.testing.assert_close(Descent(clip=None).descend(bowl(0.0, unit), first).normalised, unit_rows(first))


def test_more_steps_never_raise_the_energy_below_twice_the_inverse_lipschitz_constant() -> None:
    energies = [quadratic(1.5)(actions) for actions in run(start(), 10, 1.2, PLAIN, 1.5)]
    assert all(bool((after <= before).all()) for before, after in itertools.pairwise(energies))


@pytest.mark.parametrize("normalise", [False, True])
def test_rows_do_not_mix(normalise: bool) -> None:
    rule = DescentRule(normalise=normalise)
    first, descent = start(8), Descent(max_steps=6)
    whole = descent.descend(bowl(0.3, rule), first)
    order = torch.tensor([3, 1, 7, 0, 2, 6, 5, 4])
    permuted = descent.descend(bowl(0.3, rule), first[order])
    alone = descent.descend(bowl(0.3, rule), first[2:3])
    torch.testing.assert_close(permuted.normalised, whole.normalised[order], rtol=0, atol=0)
    torch.testing.assert_close(alone.normalised, whole.normalised[2:3], rtol=0, atol=0)
    assert permuted.info["steps"].tolist() == whole.info["steps"][order].tolist()


def test_each_row_stops_when_its_own_step_is_small() -> None:
    first = torch.full((3, 2, 1), CENTRE)
    first[1] += 0.1
    first[2] += 10.0
    result = Descent(min_steps=2, max_steps=20, tolerance=0.01, clip=None).descend(bowl(0.5), first)
    assert result.info["steps"].tolist() == [2, 4, 10]  # steps of 0.1 / 2^n and 10 / 2^n fall to 0.01 or below
    torch.testing.assert_close(result.info["energy"], quadratic()(result.normalised))
    none = Descent(min_steps=2, max_steps=20, tolerance=0.0).descend(bowl(0.5), first)
    assert none.info["steps"].tolist() == [2, 20, 20]


def test_rows_that_stopped_stay_where_they_are() -> None:
    """A row beside others that go on ends, bit for bit, where it ends alone."""
    first = torch.tensor([CENTRE + 0.001, CENTRE + 10.0]).view(2, 1, 1)
    descent, rule = Descent(min_steps=2, max_steps=9, clip=None), DescentRule(momentum=0.5)
    together = descent.descend(bowl(0.3, rule), first)
    assert together.info["steps"][0] == 2 < together.info["steps"][1]
    assert torch.equal(together.normalised[:1], descent.descend(bowl(0.3, rule), first[:1]).normalised)


def test_noise_is_added_to_the_normalised_chunk() -> None:
    rule, noise = DescentRule(momentum=0.0, exponential=False, normalise=True), 0.2 * start(4)
    seen: list[Tensor] = []

    def looking(actions: Tensor) -> Tensor:
        seen.append(actions.detach())
        return quadratic()(actions)

    advance(looking, 3.0 * start(), torch.zeros_like(noise), torch.tensor(0.5), rule, langevin=noise)
    torch.testing.assert_close(seen[0], unit_rows(start()) + noise)


# --- training ---------------------------------------------------------------------------------------------------------


class Learned(torch.nn.Module):
    """E = k / 2 mean((a - c)^2), two parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.stiffness = torch.nn.Parameter(torch.tensor(0.7, dtype=torch.float64))
        self.centre = torch.nn.Parameter(torch.tensor(-0.2, dtype=torch.float64))

    def forward(self, actions: Tensor, rows: Tensor) -> Tensor:
        return 0.5 * self.stiffness * (actions - self.centre).square().mean(dim=(1, 2))


def test_the_gradient_of_one_step_is_the_symbolic_one() -> None:
    """a1 = a - alpha k (a - c), L = mean((a1 - g)^2): dL/dk, dL/dc and dL/dalpha by hand."""
    energy, first, goal = Learned(), start(), torch.zeros(4, 3, 2, dtype=torch.float64)
    alpha = torch.tensor(0.6, dtype=torch.float64, requires_grad=True)
    Unroll(max_steps=1)(energy, first, goal, alpha, PLAIN, StepNoise((0,), 4)).mean().backward()
    k, c = energy.stiffness.detach(), energy.centre.detach()
    after = first - 0.6 * k * (first - c)
    torch.testing.assert_close(energy.stiffness.grad, (2 * after * -0.6 * (first - c)).mean())
    torch.testing.assert_close(energy.centre.grad, (2 * after * 0.6 * k).mean())
    torch.testing.assert_close(alpha.grad, (2 * after * -k * (first - c)).mean())


@pytest.mark.parametrize(("temperature", "cap"), [(2.0, 5.0), (0.05, 0.1)])
def test_learning_flows_through_the_exponential_up_to_its_cap(temperature: float, cap: float) -> None:
    """Against finite differences of the same loss, for k and c of the energy and for alpha."""
    energy, first, goal = Learned(), start(), torch.zeros(4, 3, 2, dtype=torch.float64)
    alpha = torch.tensor(0.6, dtype=torch.float64, requires_grad=True)
    rule = DescentRule(momentum=0.0, temperature=temperature, cap=cap)

    def loss() -> Tensor:
        return Unroll(max_steps=1)(energy, first, goal, alpha, rule, StepNoise((0,), 4)).mean()

    loss().backward()
    for parameter in (energy.stiffness, energy.centre, alpha):
        values = []
        for shift in (1e-6, -1e-6):
            with torch.no_grad():
                parameter.add_(shift)
                values.append(float(loss()))
                parameter.sub_(shift)
        torch.testing.assert_close(float(parameter.grad), (values[0] - values[1]) / 2e-6, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("truncate", [True, False])
def test_learning_flows_through_one_step_only(truncate: bool) -> None:
    """Of two steps each learns as if its start were a constant; truncated, only the second one learns."""
    energy, first, goal = Learned(), start(), torch.zeros(4, 3, 2, dtype=torch.float64)
    alpha = torch.tensor(0.6, dtype=torch.float64)
    Unroll(min_steps=2, max_steps=2, truncate=truncate)(
        energy, first, goal, alpha, PLAIN, StepNoise((0,), 4)
    ).mean().backward()
    k, c = energy.stiffness.detach(), energy.centre.detach()
    middle = first - 0.6 * k * (first - c)

    def of_step(here: Tensor) -> Tensor:
        return (2 * (here - 0.6 * k * (here - c)) * 0.6 * k).mean()

    expected = of_step(middle) if truncate else 0.5 * (of_step(first) + of_step(middle))
    torch.testing.assert_close(energy.centre.grad, expected)


def test_the_number_of_steps_is_uniform_and_keyed() -> None:
    seen: list[int] = []

    def counting(actions: Tensor, rows: Tensor) -> Tensor:
        seen.append(len(rows))
        return quadratic()(actions)

    unroll, first = Unroll(min_steps=1, max_steps=4), torch.zeros(2000, 1, 1)
    losses = [unroll(counting, first, first, torch.tensor(0.5), PLAIN, StepNoise((3,), 2000)) for _ in range(2)]
    assert torch.equal(*losses)
    active = seen[:4]
    assert active[-1] == 2000
    assert [b - a for a, b in zip([0, *active], active, strict=False)] == pytest.approx([500] * 4, abs=80)


def test_langevin_noise_falls_along_a_cosine() -> None:
    """Where the energy is flat only the noise moves a row: the variances of its levels add up."""
    unroll, rows = Unroll(min_steps=3, max_steps=3, noise_high=0.3, noise_low=0.1), 4000
    first = torch.zeros(rows, 4, 1)
    noise = StepNoise((1,), rows)
    error = unroll(lambda a, rows: 0.0 * a.mean(dim=(1, 2)), first, first, torch.tensor(1.0), PLAIN, noise)
    levels = [0.1 + 0.1 * (1 + math.cos(math.pi * i / 3)) for i in range(3)]
    assert float(error.mean()) == pytest.approx(sum(level**2 for level in levels), rel=0.05)


def test_step_sizes_are_uniform_between_their_bounds() -> None:
    """One step from 0 to (c alpha) centre, so the error to 0 tells c of every row."""
    unroll, rows = Unroll(max_steps=1, step_spread=2.0), 4000
    first = torch.zeros(rows, 1, 1)
    error = unroll(quadratic(), first, first, torch.tensor(0.5), PLAIN, StepNoise((1,), rows)).detach()
    factors = error.sqrt() / (0.5 * CENTRE)
    assert float(factors.min()) == pytest.approx(0.5, abs=0.01)
    assert float(factors.max()) == pytest.approx(2.0, abs=0.01)
    assert torch.quantile(factors, torch.tensor([0.25, 0.5, 0.75])).tolist() == pytest.approx(
        [0.875, 1.25, 1.625], abs=0.05
    )


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_small_batches_in_which_no_row_takes_all_steps(rows: int) -> None:
    first = torch.zeros(rows, 2, 1)
    for seed in range(30):
        error = Unroll(max_steps=3)(quadratic(), first, first, torch.tensor(0.5), PLAIN, StepNoise((seed,), rows))
        assert error.shape == (rows,)


def test_nothing_is_kept_for_a_backward_pass_that_nobody_wants() -> None:
    energy, first = Learned(), start()
    size = torch.tensor(0.6, dtype=torch.float64)
    with torch.no_grad():
        error = Unroll(max_steps=2)(energy, first, first, size, PLAIN, StepNoise((0,), 4))
    assert not error.requires_grad
    torch.testing.assert_close(
        error, Unroll(max_steps=2)(energy, first, first, size, PLAIN, StepNoise((0,), 4)).detach()
    )


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: DescentRule(momentum=1.0), "momentum"),
        (lambda: DescentRule(temperature=0.0), "temperature"),
        (lambda: Descent(min_steps=3, max_steps=2), "min_steps 3"),
        (lambda: Unroll(min_steps=0), "min_steps 0"),
        (lambda: Unroll(step_spread=0.5), "step_spread"),
        (lambda: Unroll(noise_low=-0.1), "noise_low"),
    ],
)
def test_impossible_settings_are_refused(make: Callable[[], object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make()
