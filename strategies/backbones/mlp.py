"""The multilayer perceptron of the small classic streams."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import nn

from . import backbone


@backbone("mlp")
def mlp(
    shape: tuple[int, ...],
    classes: int,
    *,
    hidden: int | Sequence[int] = (100, 100),
    bias: bool = True,
    init: str = "xavier",
) -> nn.Sequential:
    """Flattened inputs, ReLU layers, one column per class.

    MNIST with two layers of 100 has 89,610 parameters.

    Args:
        init: "xavier", as in the code of Lopez-Paz and Ranzato (2017): weights uniform with standard deviation
            sqrt(2 / (fan_in + fan_out)), biases zero; or "kaiming", torch's own, as in that of Saha et al. (2021): all
            uniform with standard deviation 1 / sqrt(3 fan_in).
    """
    if init not in ("xavier", "kaiming"):
        raise ValueError(f'init={init!r} must be "xavier" or "kaiming"')
    hidden = tuple(hidden) if isinstance(hidden, (list, tuple)) else (hidden,)
    if not all(isinstance(width, int) and width > 0 for width in hidden):
        raise ValueError(f"hidden={hidden} must be positive layer widths")
    widths = [math.prod(shape), *hidden, classes]
    layers: list[nn.Module] = [nn.Flatten()]
    for fan_in, fan_out in zip(widths[:-1], widths[1:], strict=True):
        linear = nn.Linear(fan_in, fan_out, bias=bias)
        if init == "xavier":
            nn.init.xavier_uniform_(linear.weight)
            if bias:
                nn.init.zeros_(linear.bias)
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1])
