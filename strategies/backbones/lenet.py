"""The LeNet of gradient projection memory and its successors, for the superclasses of CIFAR-100."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from . import backbone
from .alexnet import scaled


@backbone("lenet")
def lenet(shape: tuple[int, ...], classes: int, *, width: float = 1.0, lrn: bool = False) -> nn.Sequential:
    """Convolutions of 20 and 50 5x5 filters, layers of 800 and 500 units, a linear head; no biases.

    The network of Saha et al. (2021), after Yoon et al. (2020). Convolutions keep the size; each is followed by ReLU
    and a max pool of 3x3 windows that halves it. Weights start as by He et al. (2015). With 100 classes of 32 x 32
    images in colour it has 3,036,500 parameters.

    Deviations: one head for all classes; no local response normalisation, unless lrn=True.

    Args:
        width: factor on the number of filters and units.
        lrn: as published, after each ReLU divide by (1 + 0.00011 m)^0.75, with m the mean square over four neighbouring
            filters: hardly a change where responses are about 1, for twice the time of a step.
    """
    if not isinstance(lrn, bool):
        raise ValueError(f"lrn={lrn!r} must be true or false")
    if len(shape) != 3:
        raise ValueError("it reads images [channels, height, width]")
    channels, height, breadth = shape
    conv1, conv2, full1, full2 = scaled(width, 20, 50, 800, 500)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number, (inputs, outputs) in enumerate(((channels, conv1), (conv1, conv2)), 1):
        layers[f"conv{number}"] = nn.Conv2d(inputs, outputs, 5, padding=2, bias=False)
        layers[f"relu{number}"] = nn.ReLU()
        if lrn:
            layers[f"lrn{number}"] = nn.LocalResponseNorm(4, alpha=0.001 / 9, beta=0.75, k=1.0)
        layers[f"pool{number}"] = nn.MaxPool2d(3, stride=2, padding=1)
        height, breadth = (height + 1) // 2, (breadth + 1) // 2
    layers["flatten"] = nn.Flatten()
    layers["full3"] = nn.Linear(conv2 * height * breadth, full1, bias=False)
    layers["relu3"] = nn.ReLU()
    layers["full4"] = nn.Linear(full1, full2, bias=False)
    layers["relu4"] = nn.ReLU()
    layers["head"] = nn.Linear(full2, classes, bias=False)
    for layer in layers.values():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
    return nn.Sequential(layers)
