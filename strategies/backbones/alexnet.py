"""The AlexNet-like network of gradient projection memory and its successors."""

from __future__ import annotations

import math
from collections import OrderedDict

from torch import nn

from . import backbone

SMALLEST = 19  # pixels of which three convolutions and pools leave one


@backbone("small-alexnet")
def small_alexnet(
    shape: tuple[int, ...], classes: int, *, width: float = 1.0, dropout: bool = True, norm: str = "group"
) -> nn.Sequential:
    """Convolutions of 64 4x4, 128 3x3 and 256 2x2 filters, two layers of 2,048 units, a linear head; no biases.

    The network of Saha et al. (2021) for Split CIFAR-100, after Serra et al. (2018). Each convolution is followed by
    normalisation, ReLU, dropout (0.2, 0.2, 0.5) and a 2x2 max pool, each full layer by normalisation, ReLU and dropout
    of 0.5. With 100 classes of 32 x 32 images in colour it has 6,713,216 parameters, 9,088 of them in normalisations.

    Deviations: one head for all classes, and group normalisation where the published network normalises by the batch,
    the test batch included. Each filter is a group, and each full layer; with several filters in a group, which a
    bright image all moves alike, the network learns much worse, or not at all.

    Args:
        width: factor on the number of filters and units.
        norm: "group", which treats each sample alone; "batch", with running statistics; or "none", where weights start
            as by He et al. (2015).
    """
    if norm not in ("group", "batch", "none"):
        raise ValueError(f'norm={norm!r} must be "group", "batch" or "none"')
    if not isinstance(dropout, bool):
        raise ValueError(f"dropout={dropout!r} must be true or false")
    if len(shape) != 3 or min(shape[1:]) < SMALLEST:
        raise ValueError(f"it reads images of at least {SMALLEST} x {SMALLEST}")
    height, breadth = ((((side - 3) // 2 - 2) // 2 - 1) // 2 for side in shape[1:])
    *filters, full1, full2 = scaled(width, 64, 128, 256, 2048, 2048)
    layers: OrderedDict[str, nn.Module] = OrderedDict()

    def add(number: int, kind: str, weights: nn.Module, outputs: int, share: float) -> None:
        layers[f"{kind}{number}"] = weights
        if norm == "none":
            nn.init.kaiming_uniform_(weights.weight, nonlinearity="relu")
        elif norm == "group":
            layers[f"norm{number}"] = nn.GroupNorm(outputs if kind == "conv" else 1, outputs)
        else:
            layers[f"norm{number}"] = (nn.BatchNorm2d if kind == "conv" else nn.BatchNorm1d)(outputs)
        layers[f"relu{number}"] = nn.ReLU()
        if dropout:
            layers[f"dropout{number}"] = nn.Dropout(share)

    inputs = shape[0]
    for number, (outputs, size, share) in enumerate(zip(filters, (4, 3, 2), (0.2, 0.2, 0.5), strict=True), 1):
        add(number, "conv", nn.Conv2d(inputs, outputs, size, bias=False), outputs, share)
        layers[f"pool{number}"] = nn.MaxPool2d(2)
        inputs = outputs
    layers["flatten"] = nn.Flatten()
    add(4, "full", nn.Linear(inputs * height * breadth, full1, bias=False), full1, 0.5)
    add(5, "full", nn.Linear(full1, full2, bias=False), full2, 0.5)
    layers["head"] = nn.Linear(full2, classes, bias=False)
    return nn.Sequential(layers)


def scaled(width: float, *sizes: int) -> list[int]:
    """Layer sizes times a factor, each at least 1."""
    if not 0 < width < math.inf:
        raise ValueError(f"width={width!r} must be a positive factor")
    return [max(1, round(width * size)) for size in sizes]
