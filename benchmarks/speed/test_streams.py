"""Building a stream against doing the same with torchvision; for information."""

from __future__ import annotations

import torch
from carryover.benchmarks.speed.turns import Turns
from carryover.streams.affine import rotate
from torchvision.transforms.functional import InterpolationMode
from torchvision.transforms.functional import rotate as torchvision_rotate


def test_rotation(benchmark, report, digits):
    """One task's images turned by an angle, bilinear."""
    images, turns = digits.train_x[:4000].contiguous(), Turns()
    bilinear = InterpolationMode.BILINEAR

    def batched():
        return torchvision_rotate(images, 33.0, bilinear)

    benchmark.pedantic(
        lambda: turns.play(5, carryover=lambda: rotate(images, 33.0), torchvision=batched),
        rounds=1,
    )
    report(
        "time of our integer rotation, the same bytes everywhere, over torchvision's on the same batch of 4,000 uint8 "
        "images 28x28",
        turns.ratio("carryover", "torchvision"),
        None,
        images_per_second=round(len(images) / min(turns.times("carryover"))),
        milliseconds=turns.summary(),
    )
    assert torch.isclose(rotate(images, 33.0).float().mean(), batched().float().mean(), atol=2)
