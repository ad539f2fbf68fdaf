from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from robopolicy.errors import ConfigError
from robopolicy.nets.augmentation import Augmentation, crop, jitter

COLOURS = Augmentation(0.75, brightness=0.3, contrast=0.4, saturation=0.5)


def _images(rows: int = 3, steps: int = 2, height: int = 16, width: int = 12) -> torch.Tensor:
    generator = torch.Generator().manual_seed(rows)
    return torch.randint(0, 256, (rows, steps, height, width, 3), generator=generator, dtype=torch.uint8)


@given(st.integers(1, 9), st.integers(1, 9), st.data())
def test_a_crop_is_the_slice_at_its_place(height: int, width: int, data: st.DataObject) -> None:
    images = _images(3, 2, 9, 9)
    tops = data.draw(st.lists(st.integers(0, 9 - height), min_size=3, max_size=3))
    lefts = data.draw(st.lists(st.integers(0, 9 - width), min_size=3, max_size=3))
    cropped = crop(images, torch.tensor(tops), torch.tensor(lefts), height, width)
    for row, (top, left) in enumerate(zip(tops, lefts, strict=True)):
        assert torch.equal(cropped[row], images[row, :, top : top + height, left : left + width])


def test_draws_choose_the_place_from_the_first_to_the_last_one() -> None:
    images = _images(3, 2, 16, 12)
    draws = torch.tensor([[0.0, 0.5, 1.0 - 2.0**-24], [1.0 - 2.0**-24, 0.0, 0.5]])
    cropped = Augmentation(0.75)(images, draws)
    assert cropped.shape == (3, 2, 12, 9, 3)
    for row, (top, left) in enumerate([(0, 3), (2, 0), (4, 2)]):
        expected = images[row, :, top : top + 12, left : left + 9].float() / 255
        torch.testing.assert_close(cropped[row], expected)


def test_without_draws_the_crop_is_the_one_at_the_centre_in_its_own_colours() -> None:
    images = _images(2, 1, 16, 12)
    torch.testing.assert_close(COLOURS(images), images[:, :, 2:14, 1:10].float() / 255)
    whole = COLOURS.__class__(1.0)(images)
    assert (whole.min(), whole.max()) == (images.min() / 255, images.max() / 255)


def test_all_steps_of_a_row_are_treated_alike_and_rows_differently() -> None:
    frame = _images(1, 1)
    images = frame.expand(4, 3, *frame.shape[2:])
    varied = COLOURS(images, torch.rand(COLOURS.draws, 4, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(varied, varied[:, :1].expand_as(varied))
    assert not torch.allclose(varied[0], varied[1])


def test_the_same_draws_give_the_same_result_whatever_the_other_rows() -> None:
    images, draws = _images(4), torch.rand(COLOURS.draws, 4, generator=torch.Generator().manual_seed(1))
    whole = COLOURS(images, draws)
    assert torch.equal(whole, COLOURS(images, draws))
    torch.testing.assert_close(whole[2:3], COLOURS(images[2:3], draws[:, 2:3]))


def test_factors_of_one_leave_the_colours_alone() -> None:
    pictures, one = _images().float() / 255, torch.ones(3)
    torch.testing.assert_close(jitter(pictures, one, one, one), pictures)


def test_colours_change_as_their_names_say() -> None:
    pictures, one = 0.25 + 0.25 * torch.rand(2, 2, 5, 6, 3, generator=torch.Generator().manual_seed(2)), torch.ones(2)
    half = torch.full((2,), 0.5)
    grey = (pictures * torch.tensor([0.299, 0.587, 0.114])).sum(-1, keepdim=True)
    mean = grey.mean(dim=(1, 2, 3, 4), keepdim=True)
    torch.testing.assert_close(jitter(pictures, half, one, one), 0.5 * pictures)
    torch.testing.assert_close(jitter(pictures, one, half, one), 0.5 * (pictures + mean))
    torch.testing.assert_close(jitter(pictures, one, one, 0.0 * one), grey.expand_as(pictures))
    one_by_one = jitter(jitter(jitter(pictures, half, one, one), one, half, one), one, one, half)
    torch.testing.assert_close(jitter(pictures, half, half, half), one_by_one)


def test_colours_stay_between_black_and_white() -> None:
    strong = Augmentation(1.0, brightness=0.9)(_images(), torch.full((1, 3), 0.999))
    assert 0.0 <= strong.min() < strong.max() == 1.0


@pytest.mark.parametrize(
    ("options", "draws"), [({"crop": 1.0}, 0), ({"crop": 0.9}, 2), ({"crop": 1.0, "contrast": 0.1}, 1)]
)
def test_it_wants_as_many_draws_as_it_has_choices(options: dict[str, float], draws: int) -> None:
    augmentation = Augmentation(**options)
    assert augmentation.draws == draws
    assert augmentation(_images(), torch.rand(draws, 3)).shape[:2] == (3, 2)
    with pytest.raises(ValueError, match=r"draws have shape \[7, 3\]"):
        augmentation(_images(), torch.rand(7, 3))


@pytest.mark.parametrize("options", [{"crop": 0.0}, {"crop": 1.5}, {"brightness": 1.0}, {"saturation": -0.1}])
def test_impossible_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"camera.augmentation.{next(iter(options))}"):
        Augmentation(**options)
