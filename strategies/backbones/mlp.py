"""The multilayer perceptron of the small classic streams."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import nn

from . import backbone


@backbone("mlp")
def mlp(
    shape: tuple[int, ...], classes: int, *, hidden: int | Sequence[int] = (100, 100), bias: bool = True
) -> nn.Sequential:
    """Flattened inputs, ReLU layers, one column per class.

    Initialised as in the code of Lopez-Paz and Ranzato (2017): weights uniform with standard deviation
    sqrt(2 / (fan_in + fan_out)), biases zero. MNIST with two layers of 100 has 89,610 parameters.
    """
    hidden = tuple(hidden) if isinstance(hidden, (list, tuple)) else (hidden,)
    if not all(isinstance(width, int) and width > 0 for width in hidden):
        raise ValueError(f"hidden={hidden} must be positive layer widths")
    widths = [math.prod(shape), *hidden, classes]
    layers: list[nn.Module] = [nn.Flatten()]
    for fan_in, fan_out in zip(widths[:-1], widths[1:], strict=True):
        linear = nn.Linear(fan_in, fan_out, bias=bias)
        nn.init.xavier_uniform_(linear.weight)
        if bias:
            nn.init.zeros_(linear.bias)
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1])
