"""Crops and resizing in batches: torchvision's law and torchvision's pixels."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from carryover.base.errors import UsageError
from carryover.streams.augment import Boxes, CenterCrop, RandomResizedCrop, Resize
from torchvision import transforms
from torchvision.transforms import functional


def pictures(count: int, height: int, width: int) -> torch.Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("shape", [(8, 8), (9, 12), (6, 7)])
def test_the_middle_is_torchvisions(shape):
    x = pictures(2, *shape)
    assert torch.equal(CenterCrop(6)(x), functional.center_crop(x, [6, 6]))


def test_a_middle_larger_than_the_image_is_refused():
    with pytest.raises(UsageError, match="8x5 pixels have no middle of 6x6"):
        CenterCrop(6)(pictures(1, 8, 5))


@pytest.mark.parametrize("size", [5, 12, 30])
def test_resizing_is_bicubic_and_stays_within_bounds(size):
    x = pictures(3, 12, 12).round()  # extremes, where bicubic overshoots
    want = functional.resize(x, [size, size], transforms.InterpolationMode.BICUBIC, antialias=True)
    got = Resize(size)(x)
    assert torch.allclose(got, want.clamp(0, 1), atol=1e-5) and got.min() >= 0 and got.max() <= 1


@pytest.mark.parametrize("transform", [CenterCrop(6), Resize(20)])
def test_an_input_does_not_depend_on_its_batch(transform):
    x = pictures(5, 9, 9)
    assert torch.equal(transform(x)[3:4], transform(x[3:4]))


@pytest.mark.parametrize("size", [8, 24, 60])
def test_crops_are_torchvisions_for_the_same_boxes(size):
    """Boxes that shrink and boxes that grow, at corners and inside, mirrored or not."""
    x = pictures(5, 40, 32)
    boxes = Boxes(*torch.tensor([[0, 3, 30, 10, 0], [0, 5, 2, 31, 0], [40, 20, 10, 1, 3], [32, 7, 30, 1, 32]]),
                  torch.tensor([False, True, False, True, True]))  # fmt: skip
    got = RandomResizedCrop(size).cut(x, boxes)
    for i, (top, left, height, width, flip) in enumerate(zip(*boxes, strict=True)):
        want = functional.resized_crop(x[i], *map(int, (top, left, height, width)), [size, size], antialias=True)
        assert torch.allclose(got[i], functional.hflip(want) if flip else want, atol=1e-5)


@pytest.mark.parametrize("shape, scale", [((256, 256), (0.05, 1.0)), ((500, 300), (0.2, 0.9))])
def test_boxes_follow_torchvisions_law(shape, scale):
    """Quantiles of area, ratio and place over many boxes, ours against theirs."""
    law, count = RandomResizedCrop(8, scale), 4000
    ours = law.boxes(count, *shape, generator())
    image = torch.empty(3, *shape)
    torch.manual_seed(0)
    theirs = [transforms.RandomResizedCrop.get_params(image, list(law.scale), list(law.ratio)) for _ in range(count)]
    theirs = Boxes(*torch.tensor(theirs).unbind(1), flip=ours.flip)
    assert (ours.top >= 0).all() and (ours.top + ours.height <= shape[0]).all()
    assert (ours.left >= 0).all() and (ours.left + ours.width <= shape[1]).all()
    steps = torch.linspace(0.05, 0.95, 10)
    for measure, tolerance in (
        (lambda b: b.height * b.width / (shape[0] * shape[1]), 0.03),
        (lambda b: (b.width / b.height).log(), 0.03),
        (lambda b: b.left / (shape[1] - b.width + 1), 0.05),
        (lambda b: b.top / (shape[0] - b.height + 1), 0.05),
    ):
        a, b = (measure(boxes).float().quantile(steps) for boxes in (ours, theirs))
        assert (a - b).abs().max() < tolerance
    assert abs(ours.flip.float().mean() - 0.5) < 0.03


def test_what_never_fits_becomes_the_largest_box_in_the_middle():
    """A strip that no ratio fits: as in torchvision after ten tries."""
    for shape in ((10, 100), (100, 10)):
        boxes = RandomResizedCrop(8, (1.0, 1.0)).boxes(3, *shape, generator())
        want = transforms.RandomResizedCrop.get_params(torch.empty(3, *shape), [1.0, 1.0], [3 / 4, 4 / 3])
        assert {tuple(map(int, box)) for box in zip(*boxes[:4], strict=True)} == {want}


def test_crops_are_drawn_from_the_generator_alone():
    x, crop = pictures(4, 20, 20), RandomResizedCrop(10)
    first = crop(x, generator(1))
    torch.manual_seed(5)
    assert torch.equal(crop(x, generator(1)), first) and not torch.equal(crop(x, generator(2)), first)
    assert first.shape == (4, 3, 10, 10) and first.min() >= 0 and first.max() <= 1 + 1e-5


def test_settings_are_fixed_and_told():
    assert repr(RandomResizedCrop(8)).endswith("scale=(0.05, 1.0), ratio=(0.75, 1.3333333333333333), flip=0.5)")
    assert CenterCrop(8) == CenterCrop(8) != CenterCrop(9)
    with pytest.raises(dataclasses.FrozenInstanceError):
        Resize(8).size = 9
