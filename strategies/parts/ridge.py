"""Ridge regression onto one-hot classes from sums that are added up task by task, all in float64.

    W = (G + ridge I)^-1 Q,   G = sum h h',   Q = sum h y'

McDonnell et al., "RanPAC" (NeurIPS 2023). Float32 sums were tried: the answers were the same, with
half the memory and 2.5 times as fast, but while there are fewer samples than features G cannot be factorised at small
ridges, and those may be asked for.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...base.seeds import torch_generator

RIDGES = tuple(10.0**e for e in range(-8, 9))
LEAST = 1e-12  # of G's trace
CHUNK = 1024  # rows that are widened to float64 at once


class RandomFeatures(nn.Module):
    """h = relu(f W) of features f [B, D], W [D, M] standard normal and never trained.

    Args:
        key: what W is derived from.
    """

    def __init__(self, width: int, into: int, *key: int | str) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width, into, generator=torch_generator(*key)), requires_grad=False)

    def forward(self, f: Tensor) -> Tensor:
        """[B, D] to [B, M]."""
        return F.relu(f @ self.weight)


class Ridge:
    """The two sums, 8 M (M + C) bytes; the samples themselves are not kept.

    Args:
        width: M, of a feature. classes: C.
    """

    def __init__(self, width: int, classes: int, device: torch.device) -> None:
        self.G = torch.zeros(width, width, dtype=torch.float64, device=device)
        self.Q = torch.zeros(width, classes, dtype=torch.float64, device=device)

    def add(self, h: Tensor, y: Tensor) -> None:
        """Take in features [N, M] of classes [N]."""
        for part, labels in zip(h.split(CHUNK), y.split(CHUNK), strict=True):
            part = part.double()
            self.G.addmm_(part.T, part)
            self.Q.addmm_(part.T, F.one_hot(labels, self.Q.shape[1]).double())

    def least(self) -> float:
        """A ridge below this drowns in the rounding of G, which then may have no factor."""
        return LEAST * float(self.G.trace())

    def solve(self, ridge: float) -> Tensor:
        """W [M, C] by Cholesky."""
        diagonal = self.G.diagonal()
        kept = diagonal.clone()
        diagonal.add_(ridge)  # in place and back: G may fill the memory
        factor = torch.linalg.cholesky(self.G)
        diagonal.copy_(kept)
        return torch.cholesky_solve(self.Q, factor)

    def state_dict(self) -> dict[str, Any]:
        """Both sums."""
        return {"G": self.G, "Q": self.Q}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore."""
        self.G, self.Q = state["G"], state["Q"]


def spectrum(H: Tensor, Y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(V [M, r], s [r], B [r, C]) such that V diag(1 / (s + ridge)) B is the solution for any ridge.

    One eigendecomposition of H H' where there are fewer samples than features, of H'H otherwise.

    Args:
        H: [N, M] float64. Y: [N, C] float64.
    """
    if len(H) < H.shape[1]:
        s, U = torch.linalg.eigh(H @ H.T)
        return H.T @ U, s.clamp(min=0), U.T @ Y
    s, V = torch.linalg.eigh(H.T @ H)
    return V, s.clamp(min=0), V.T @ (H.T @ Y)


def choose_ridge(h: Tensor, y: Tensor, generator: torch.Generator) -> float:
    """The one of `RIDGES` that errs least, in mean squares, on a fifth of the samples when fitted to the others.

    Args:
        h: features [N, M]. y: classes [N]. generator: on the CPU, for the split.
    """
    order = torch.randperm(len(y), generator=generator).to(y.device)
    cut = max(1, 4 * len(y) // 5)
    H, Y = h[order].double(), F.one_hot(y[order].unique(return_inverse=True)[1]).double()
    V, s, B = spectrum(H[:cut], Y[:cut])
    A = H[cut:] @ V
    errors = [(A / (s + ridge) @ B - Y[cut:]).square().mean() for ridge in RIDGES]
    return RIDGES[int(torch.stack(errors).argmin())]
