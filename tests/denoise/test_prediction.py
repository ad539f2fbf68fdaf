"""Exact conversions between what networks predict, on every path."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from robopolicy.denoise.prediction import Prediction, Target, input_gain, training_target

TARGETS: tuple[Target, ...] = get_args(Target)
finite = st.floats(-3.0, 3.0)


def _number(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def _predict(target: Target, clean: float, eps: float, alpha: float, sigma: float, data_std: float = 0.5) -> Prediction:
    """What a perfect network says."""
    a, e, al, si = (_number(value) for value in (clean, eps, alpha, sigma))
    return Prediction(al * a + si * e, training_target(target, a, e, al, si, data_std), al, si, target, data_std)


@pytest.mark.parametrize("target", TARGETS)
@given(clean=finite, eps=finite, alpha=st.floats(0.01, 1.0), sigma=st.floats(0.01, 80.0), data_std=st.floats(0.1, 2.0))
def test_every_reading_of_every_target_is_exact(
    target: Target, clean: float, eps: float, alpha: float, sigma: float, data_std: float
) -> None:
    found = _predict(target, clean, eps, alpha, sigma, data_std)
    near = {"rel": 1e-8, "abs": 1e-10 * (1 + sigma / alpha + alpha / sigma)}
    assert float(found.clean) == pytest.approx(clean, **near)
    assert float(found.eps) == pytest.approx(eps, **near)
    assert float(found.v) == pytest.approx(alpha * eps - sigma * clean, rel=1e-8, abs=1e-7)
    assert float(found.flow_velocity) == pytest.approx(eps - clean, **near)
    assert float(found.score) == pytest.approx(-eps / sigma, rel=1e-8, abs=1e-6)


@pytest.mark.parametrize("target", TARGETS)
@given(x=finite, output=finite, alpha=st.floats(0.01, 1.0), sigma=st.floats(0.01, 5.0))
def test_the_readings_of_any_output_explain_x_and_the_output(
    target: Target, x: float, output: float, alpha: float, sigma: float
) -> None:
    found = Prediction(_number(x), _number(output), _number(alpha), _number(sigma), target)
    assert float(alpha * found.clean + sigma * found.eps) == pytest.approx(x, rel=1e-8, abs=1e-8)
    again = training_target(target, found.clean, found.eps, found.alpha, found.sigma)
    assert float(again) == pytest.approx(output, rel=1e-8, abs=1e-8)


def test_a_targets_own_reading_is_its_output() -> None:
    x, output, alpha, sigma = torch.randn(4, 3, 2), torch.randn(4, 3, 2), torch.tensor(0.3), torch.tensor(0.7)
    read = {t: Prediction(x, output, alpha, sigma, t) for t in TARGETS}
    own = (read["eps"].eps, read["clean"].clean, read["v"].v, read["velocity"].flow_velocity)
    assert all(value is output for value in own)


@pytest.mark.parametrize(("alpha", "sigma"), [(1.0, 0.0), (0.0, 1.0)])
@pytest.mark.parametrize("target", ["v", "velocity", "preconditioned"])
def test_mixtures_are_read_at_both_ends_of_a_path(target: Target, alpha: float, sigma: float) -> None:
    found = _predict(target, 0.4, -1.2, alpha, sigma)
    assert float(found.clean) == pytest.approx(0.4)
    assert float(found.eps) == pytest.approx(-1.2)


def test_the_ends_of_a_path_hide_only_what_the_output_cannot_tell() -> None:
    assert float(_predict("clean", 0.4, -1.2, 1.0, 0.0).clean) == 0.4
    assert float(_predict("clean", 0.4, -1.2, 0.0, 1.0).eps) == pytest.approx(-1.2)
    assert float(_predict("eps", 0.4, -1.2, 0.0, 1.0).eps) == -1.2
    assert float(_predict("eps", 0.4, -1.2, 1.0, 0.0).clean) == pytest.approx(0.4)
    assert not _predict("eps", 0.4, -1.2, 0.0, 1.0).clean.isfinite()
    assert not _predict("clean", 0.4, -1.2, 1.0, 0.0).eps.isfinite()


@given(x=finite, output=finite, sigma=st.floats(0.0, 80.0), data_std=st.floats(0.1, 2.0))
def test_preconditioning_is_that_of_edm(x: float, output: float, sigma: float, data_std: float) -> None:
    """Karras et al., table 1: D = c_skip x + c_out F(c_in x), loss on F against (a - c_skip x) / c_out."""
    spread = (sigma**2 + data_std**2) ** 0.5
    c_skip, c_out, c_in = data_std**2 / spread**2, sigma * data_std / spread, 1 / spread
    one, level = _number(1.0), _number(sigma)
    found = Prediction(_number(x), _number(output), one, level, "preconditioned", data_std)
    assert float(found.clean) == pytest.approx(c_skip * x + c_out * output, rel=1e-9, abs=1e-9)
    assert float(input_gain("preconditioned", one, level, data_std)) == pytest.approx(c_in)
    assume(sigma > 1e-3)
    clean, eps = _number(0.3), (_number(x) - 0.3) / sigma
    wanted = training_target("preconditioned", clean, eps, one, level, data_std)
    assert float(wanted) == pytest.approx((0.3 - c_skip * x) / c_out, rel=1e-6, abs=1e-9)


def test_edm_without_noise_returns_its_input() -> None:
    x = torch.randn(5, 4, 2)
    for sigma in (0.0, 1e-6):
        found = Prediction(x, torch.randn(5, 4, 2), torch.tensor(1.0), torch.tensor(sigma), "preconditioned")
        torch.testing.assert_close(found.clean, x, atol=1e-5, rtol=0)


@given(clean=finite, eps=finite, angle=st.floats(0.0, 1.57))
def test_preconditioning_at_unit_variance_is_minus_v(clean: float, eps: float, angle: float) -> None:
    a, e, alpha = _number(clean), _number(eps), _number(angle).cos()
    sigma = (1 - alpha**2).sqrt()
    preconditioned = training_target("preconditioned", a, e, alpha, sigma, data_std=1.0)
    assert float(preconditioned) == pytest.approx(-float(training_target("v", a, e, alpha, sigma)), abs=1e-9)


@pytest.mark.parametrize("sigma", [0.01, 0.5, 3.0, 80.0])
def test_preconditioned_inputs_and_targets_have_unit_variance(sigma: float) -> None:
    generator = torch.Generator().manual_seed(0)
    clean, eps = 0.5 * torch.randn(100_000, generator=generator), torch.randn(100_000, generator=generator)
    one, level = torch.tensor(1.0), torch.tensor(sigma)
    seen = input_gain("preconditioned", one, level) * (clean + level * eps)
    wanted = training_target("preconditioned", clean, eps, one, level)
    assert float(seen.std()) == pytest.approx(1.0, abs=0.01)
    assert float(wanted.std()) == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("target", [target for target in TARGETS if target != "preconditioned"])
def test_other_targets_see_x_as_it_is(target: Target) -> None:
    assert input_gain(target, torch.tensor([1.0, 0.2]), torch.tensor([3.0, 0.9])).tolist() == [1.0, 1.0]


def test_flow_velocity_is_the_time_derivative_of_the_linear_path() -> None:
    clean, eps, t, step = _number(0.7), _number(-0.2), _number(0.3), 1e-6
    slope = (((1 - t - step) * clean + (t + step) * eps) - ((1 - t) * clean + t * eps)) / step
    assert float(training_target("velocity", clean, eps, 1 - t, t)) == pytest.approx(float(slope), abs=1e-8)
