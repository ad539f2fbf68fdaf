import pytest
import torch
from diffusers import DDPMScheduler

from robopolicy.denoise.paths import VariancePreserving
from robopolicy.errors import ConfigError


@pytest.mark.parametrize("steps", [10, 100])
def test_alpha_and_sigma_are_those_of_diffusers(steps: int) -> None:
    path, scheduler = VariancePreserving(steps), DDPMScheduler(steps, beta_schedule="squaredcos_cap_v2")
    t = (torch.arange(steps) + 1) / steps
    torch.testing.assert_close(path.alpha(t), scheduler.alphas_cumprod.sqrt())
    torch.testing.assert_close(path.sigma(t), (1 - scheduler.alphas_cumprod).sqrt())


def test_time_zero_is_clean_and_variance_is_preserved() -> None:
    path = VariancePreserving(100)
    t = torch.linspace(0, 1, 101)
    assert path.alpha(t)[0] == 1
    assert path.sigma(t)[0] == 0
    torch.testing.assert_close(path.alpha(t) ** 2 + path.sigma(t) ** 2, torch.ones(101))


def test_levels_descend_from_noise_and_a_full_list_has_every_level() -> None:
    path = VariancePreserving(100)
    assert path.levels(100).mul(100).round().int().tolist() == list(range(100, 0, -1))
    assert path.levels(10).mul(100).round().int().tolist() == list(range(100, 0, -10))
    assert path.levels(1).tolist() == [1.0]
    for count in (3, 7, 16, 33):
        levels = path.levels(count)
        assert len(levels) == count
        assert bool((levels.diff() < 0).all())


def test_levels_refuse_more_steps_than_the_path_has() -> None:
    with pytest.raises(ConfigError, match="sampler.steps is 101, expected 1 to 100"):
        VariancePreserving(100).levels(101)


def test_training_times_cover_every_level_evenly() -> None:
    path = VariancePreserving(10)
    times = path.training_times((torch.arange(1000) + 0.5) / 1000)
    values, counts = times.unique(return_counts=True)
    torch.testing.assert_close(values, path.levels(10).flip(0))
    assert counts.tolist() == [100] * 10
    torch.testing.assert_close(path.embed(values), torch.arange(10.0))
