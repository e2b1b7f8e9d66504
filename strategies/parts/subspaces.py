"""Which directions of a layer's inputs earlier tasks used: one orthonormal pool, and for each task a mask over it.

A weight row's gradient is a sum of the inputs that it was multiplied with. A step that has no part along the inputs of
earlier tasks therefore leaves their outputs as they were (Saha, Garg and Roy, "Gradient Projection Memory", ICLR 2021;
Lin et al., "TRGP", ICLR 2022). What is kept is an orthonormal basis of those inputs, O [d, R], to which every task
adds; a task's own subspace is spanned by some of its columns, so that subspaces of several tasks are joined by joining
masks. Adding up their projections instead would take a column that two of them share away twice.

Everything here is exact in float64, and worked out from a Gram matrix S = sum x x' [d, d]: its eigenvalues are the
squared singular values of the inputs, which need not be kept.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

MARGIN = 1e-12  # of the energy: a threshold of 1 asks for what rounding leaves


class Subspaces:
    """The pool of one layer.

    Attributes:
        basis: O [d, R] float64, orthonormal columns; columns are only ever appended.
        masks: [T, R] bool, the columns that span each task's subspace.
    """

    def __init__(self, width: int, device: torch.device | str = "cpu") -> None:
        self.basis = torch.zeros(width, 0, dtype=torch.float64, device=device)
        self.masks = torch.zeros(0, 0, dtype=torch.bool, device=device)

    @property
    def used(self) -> float:
        """Share of the input space that the pool takes."""
        return self.basis.shape[1] / self.basis.shape[0]

    def columns(self, task: int) -> Tensor:
        """[r] int64, the pool's columns that span a task's subspace."""
        return self.masks[task].nonzero()[:, 0]

    def completed(self) -> Tensor:
        """[d, d] float64, an orthonormal basis of the whole space that begins with the pool's columns."""
        d, R = self.basis.shape
        if R == 0:
            return torch.eye(d, dtype=self.basis.dtype, device=self.basis.device)
        rest = torch.linalg.qr(self.basis, mode="complete").Q[:, R:]
        return torch.cat([self.basis, rest], 1)

    def project(self, G: Tensor) -> Tensor:
        """G [n, d] without its part in the pool, by the smaller of the pool and its complement."""
        d, R = self.basis.shape
        if d >= 2 * R:
            O = self.basis.to(G.dtype)  # noqa: E741 (the papers' name)
            return G - (G @ O) @ O.T
        N = self.completed()[:, R:].to(G.dtype)
        return (G @ N) @ N.T

    def grow(self, S: Tensor, threshold: float, *, choose: bool = False, short: bool = False) -> int:
        """Take in a task whose inputs have the Gram matrix S, so that `threshold` of their energy tr S is spanned.

        Args:
            choose: the task's subspace is spanned by the strongest of the pool's columns and the new ones together
                (TRGP); otherwise by the whole pool and the fewest new ones (GPM).
            short: as in the published codes: the first task stops one column short of the threshold, and of the new
                columns of later tasks the strongest is left out where they are chosen.

        Returns:
            Number of new columns.
        """
        d, R = self.basis.shape
        S = (S + S.T) / 2
        target = threshold * S.trace() - MARGIN * S.trace()
        old = (self.basis * (S @ self.basis)).sum(0).clamp(min=0)  # [R], energy along each column
        N = self.completed()[:, R:]
        values, vectors = torch.linalg.eigh(N.T @ S @ N)
        new, vectors = values.flip(0).clamp(min=0), N @ vectors.flip(1)  # [d - R], strongest first
        if choose:
            order = torch.cat([old, new]).argsort(descending=True, stable=True)
            chosen = order[: _fewest(torch.cat([old, new])[order], target)]
            mask = torch.zeros(d, dtype=torch.bool, device=S.device).index_fill_(0, chosen, True)
        else:
            count = _fewest(new, target - old.sum()) if old.sum() < target else 0
            mask = torch.arange(d, device=S.device) < R + count
        if short and len(self.masks) == 0:
            mask[mask.nonzero()[-1:]] = False
        elif short and choose:
            mask[R] = False
        added = mask[R:].nonzero()[:, 0]
        before, self.basis = self.masks, torch.cat([self.basis, _upright(self.basis, vectors[:, added])], 1)
        self.masks = torch.zeros(len(before) + 1, R + len(added), dtype=torch.bool, device=S.device)
        self.masks[:-1, :R] = before
        self.masks[-1, :R] = mask[:R]
        self.masks[-1, R:] = True
        return len(added)

    def state_dict(self) -> dict[str, Any]:
        """Basis and masks."""
        return {"basis": self.basis, "masks": self.masks}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore."""
        self.basis, self.masks = state["basis"], state["masks"]


def _fewest(energies: Tensor, target: Tensor) -> int:
    """How many of the energies [n], in order, it takes to reach a target; all, where it is out of reach."""
    short = int((energies.cumsum(0) < target).sum())
    return min(short + 1, len(energies)) if target > 0 else 0


def _upright(basis: Tensor, new: Tensor) -> Tensor:
    """New columns made orthonormal to a basis once more, lest rounding add up over tasks."""
    new = new - basis @ (basis.T @ new)
    Q, triangle = torch.linalg.qr(new)
    return Q * torch.where(triangle.diagonal() < 0, -1.0, 1.0)
