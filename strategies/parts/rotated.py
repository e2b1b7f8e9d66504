"""A layer that learns in the coordinates of a basis of its input space, where a projection is a mask over columns.

With U orthonormal, y = W x is y = (W U)(U'x). Let U begin with the directions that earlier tasks used: then keeping a
gradient off some of them means to zero columns of the gradient of W U, a task's subspace is a set of columns, and a
scaling of that subspace (TRGP) is a small matrix between the coordinates of those columns. This is exact, and far
cheaper than to multiply gradients [out, in] with projections [in, in] in every step. Because masked columns have no
gradient at all, it holds under momentum and Adam, too, which in the plain coordinates would mix columns.

    during a task      y = (W U) (I + sum_j E_j D_j E_j') U'x        E_j picks the coordinates of subspace j
    between tasks      y = W x                                       a plain layer
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...base.errors import UsageError
from ...streams.core import Data
from ..context import Meter

AHEAD = 2**30  # bytes of turned samples at most


class Rotated(nn.Module):
    """A linear or convolutional layer; a convolution is linear in the patches that it sees, [c_in k k] numbers each.

    Attributes:
        layer: with the weight in plain coordinates. During a task it stands still.
        coordinates, start: W U [out, d] during a task, and what it was at the start; None between tasks.
        scalings: D_j [r, r] during a task, zero at its start: the identity is not part of them.
        picks: the coordinates [r] of each scaling.
        ahead: whether its inputs come turned in training; see `turned_ahead`.
    """

    def __init__(self, layer: nn.Linear | nn.Conv2d) -> None:
        super().__init__()
        if isinstance(layer, nn.Conv2d) and (layer.padding_mode != "zeros" or isinstance(layer.padding, str)):
            raise UsageError("gradient projection knows convolutions with zeros for padding, told as numbers.")
        self.layer = layer
        self.register_parameter("coordinates", None)
        self.register_buffer("start", None)
        self.scalings = nn.ParameterList()
        self.picks: list[Tensor] = []
        self.ahead = False

    @property
    def weight(self) -> nn.Parameter:
        """The layer's own, in plain coordinates."""
        return self.layer.weight

    @property
    def width(self) -> int:
        """d: numbers in one input vector."""
        return math.prod(self.layer.weight.shape[1:])

    @property
    def turned(self) -> bool:
        """Whether a task is being learnt in coordinates."""
        return self.coordinates is not None

    def turns_weight(self, x: Tensor) -> bool:
        """Whether the weight is turned for an input x, as it has no more rows; otherwise the activations are."""
        return x.numel() >= self.layer.weight.numel()

    @torch.no_grad()
    def turn(self, basis: Tensor, picks: Sequence[Tensor] = ()) -> None:
        """Begin a task: learn in the coordinates of `basis` [d, d], and scale those in `picks`."""
        weight = self.layer.weight.requires_grad_(False)
        self.basis = basis
        self.start = (weight.flatten(1).double() @ basis.double()).to(weight)  # [out, d]
        self.turning = basis.to(weight)
        self.coordinates = nn.Parameter(self.start.clone())
        self.picks = list(picks)
        self.scalings = nn.ParameterList(weight.new_zeros(len(pick), len(pick)) for pick in self.picks)

    @torch.no_grad()
    def turn_back(self) -> None:
        """End a task: write what was learnt into the weight, in float64; columns that were held add nothing at all."""
        weight = self.layer.weight
        change = (self.coordinates.double() - self.start.double()) @ self.basis.double().T
        weight.copy_((weight.flatten(1).double() + change).view_as(weight)).requires_grad_(True)
        self.coordinates, self.start, self.picks, self.scalings = None, None, [], nn.ParameterList()
        self.ahead = False
        del self.basis, self.turning

    def forward(self, x: Tensor) -> Tensor:
        """As the layer does; activations are turned where they are fewer than the weight's rows, else the weight."""
        if not self.turned:
            return self.layer(x)
        if isinstance(self.layer, nn.Conv2d):
            weight = self._scaled(self.coordinates) @ self.turning.T
            return self.layer._conv_forward(x, weight.view_as(self.layer.weight), self.layer.bias)
        ahead = self.ahead and self.training
        if self.turns_weight(x):
            weight = self._scaled(self.coordinates)
            return F.linear(x, weight if ahead else weight @ self.turning.T, self.layer.bias)
        z = turned = x if ahead else x @ self.turning
        for pick, D in zip(self.picks, self.scalings, strict=True):
            z = z.index_add(-1, pick, F.linear(turned[..., pick], D))
        return F.linear(z, self.coordinates, self.layer.bias)

    def _scaled(self, coordinates: Tensor) -> Tensor:
        """[out, d], the coordinates with the scalings worked into them."""
        scaled = coordinates
        for pick, D in zip(self.picks, self.scalings, strict=True):
            scaled = scaled.index_add(1, pick, (coordinates[:, pick] @ D).to(scaled))  # autocast makes halves
        return scaled

    def vectors(self, x: Tensor) -> Tensor:
        """[N, d], what the weight is multiplied with for an input of the layer: rows, or patches."""
        if not isinstance(self.layer, nn.Conv2d):
            return x.reshape(-1, x.shape[-1])
        layer = self.layer
        patches = F.unfold(x, layer.kernel_size, layer.dilation, layer.padding, layer.stride)  # [B, groups d, L]
        return patches.unflatten(1, (layer.groups, -1)).movedim(2, -1).reshape(-1, self.width)


def rotated(network: nn.Module) -> nn.Module:
    """The network with every linear and convolutional layer as a `Rotated` one; the same function, bit for bit."""
    for name, child in list(network.named_children()):
        if isinstance(child, (nn.Linear, nn.Conv2d)):
            setattr(network, name, Rotated(child))
        else:
            rotated(child)
    return network


def rotated_layers(network: nn.Module) -> dict[str, Rotated]:
    """The layers by name, in the order in which the network has them."""
    return {name: module for name, module in network.named_modules() if isinstance(module, Rotated)}


@torch.no_grad()
def turned_ahead(network: nn.Module, data: Data, meter: Meter) -> Data:
    """The data, its samples in the first layer's coordinates if it can be so, which saves turning them in every pass.

    It can where a plain chain begins with a turned linear layer, and inputs are not augmented. The ledger counts the
    plain way, step by step, and learns the cost of a row here.
    """
    first = network[1] if isinstance(network, nn.Sequential) and isinstance(network[0], nn.Flatten) else None
    fits = 4 * len(data) * math.prod(data.input_shape) <= AHEAD
    if not (isinstance(first, Rotated) and first.turned and data.augment is None and fits):
        return data
    if first.turning.dtype != torch.float32:  # which is what `Data` makes of samples
        return data
    parts = []
    with meter.standing_for("train", "turning", 0, len(data)):
        for start in range(0, len(data), 1024):
            stored, _ = data.span(start, start + 1024)
            parts.append(data.prepare(stored).flatten(1) @ first.turning)
    first.ahead = True
    return dataclasses.replace(data, samples=torch.cat(parts), transform=None)
