"""Which directions of a layer's inputs earlier tasks used: one orthonormal pool, and for each task a mask over it.

A weight row's gradient is a sum of the inputs that it was multiplied with. A step that has no part along the inputs of
earlier tasks therefore leaves their outputs as they were (Saha, Garg and Roy, "Gradient Projection Memory", ICLR 2021;
Lin et al., "TRGP", ICLR 2022). What is kept is an orthonormal basis of those inputs, O [d, R], to which every task
adds; a task's own subspace is spanned by some of its columns, so that subspaces of several tasks are joined by joining
masks. Adding up their projections instead would take a column that two of them share away twice.

All is worked out in float64 from Gram matrices, whose eigenvalues are the squared singular values of the inputs: of
X'X [d, d], for which no input need be kept, or of XX' [n, n] while the inputs are fewer than their dimensions.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

MARGIN = 1e-12  # of the energy: a threshold of 1 asks for what rounding leaves
BLOCK = 128  # rows of a Gram matrix at once
TINY = 1e-20  # of the energy: a direction that has no more is none


class Inputs:
    """The input vectors of a layer, as far as their span and energies go.

    Attributes:
        rows: X [n, d] float64 while there are at most d vectors.
        gram: X'X [d, d] float64 from then on, else None.
    """

    def __init__(self, width: int, device: torch.device | str = "cpu") -> None:
        self.rows = torch.zeros(0, width, dtype=torch.float64, device=device)
        self.gram: Tensor | None = None

    def add(self, vectors: Tensor) -> None:
        """Take in vectors [n, d]. Products are taken in their own precision, and added up in float64."""
        if vectors.dtype.itemsize < 4:
            vectors = vectors.float()
        if self.gram is None and len(self.rows) + len(vectors) <= self.rows.shape[1]:
            self.rows = torch.cat([self.rows, vectors.double()])
            return
        if self.gram is None:
            self.gram = self.rows.T @ self.rows
            self.rows = self.rows[:0]
        for start in range(0, len(self.gram), BLOCK):  # of a symmetric matrix one half is enough
            part = vectors[:, start : start + BLOCK].T @ vectors[:, start:]
            self.gram[start : start + BLOCK, start:] += part
            self.gram[start + BLOCK :, start : start + BLOCK] += part[:, BLOCK:].T

    def mapped(self, A: Tensor) -> Inputs:
        """Of the vectors A x, for A [d, d] float64."""
        made = Inputs(0)
        made.rows, made.gram = self.rows @ A.T, None if self.gram is None else A @ self.gram @ A.T
        return made

    @property
    def kept(self) -> int:
        """How many vectors are kept as they are; -1 once it is their Gram matrix."""
        return len(self.rows) if self.gram is None else -1

    @property
    def energy(self) -> Tensor:
        """Sum of squared lengths."""
        return self.rows.square().sum() if self.gram is None else self.gram.trace()

    def along(self, basis: Tensor) -> Tensor:
        """[R], the energy along each of the orthonormal columns of a basis [d, R]."""
        if self.gram is None:
            return (self.rows @ basis).square().sum(0)
        return (basis * (self.gram @ basis)).sum(0).clamp(min=0)

    def beside(self, pool: Subspaces) -> tuple[Tensor, Tensor]:
        """Principal directions of what lies outside a pool: (energies [k], strongest first; directions [d, k])."""
        if self.gram is None:
            rest = self.rows - (self.rows @ pool.basis) @ pool.basis.T
            values, vectors = torch.linalg.eigh(rest @ rest.T)
            there = values > TINY * self.energy
            values, vectors = values[there].flip(0), vectors[:, there].flip(1)
            return values, rest.T @ vectors / values.sqrt()
        if not pool.basis.shape[1]:
            values, vectors = torch.linalg.eigh(self.gram)
        else:
            N = pool.completed()[:, pool.basis.shape[1] :]
            values, vectors = torch.linalg.eigh(N.T @ self.gram @ N)
            vectors = N @ vectors
        return values.flip(0).clamp(min=0), vectors.flip(1)


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
        """G [n, d] without its part in the pool, by the smaller of the pool and its complement.

        The plain form, which layers in coordinates have no need of: theirs is held to it by a test.
        """
        d, R = self.basis.shape
        if d >= 2 * R:
            O = self.basis.to(G.dtype)  # noqa: E741 (the papers' name)
            return G - (G @ O) @ O.T
        N = self.completed()[:, R:].to(G.dtype)
        return (G @ N) @ N.T

    def grow(self, inputs: Inputs, threshold: float, *, choose: bool = False, short: bool = False) -> int:
        """Take in a task by the inputs that it had, so that `threshold` of their energy is spanned.

        Args:
            choose: the task's subspace is spanned by the strongest of the pool's columns and the new ones together
                (TRGP); otherwise by the whole pool and the fewest new ones (GPM).
            short: as in the published codes: the first task stops one column short of the threshold, and of the new
                columns of later tasks the strongest is left out where they are chosen.

        Returns:
            Number of new columns.
        """
        R = self.basis.shape[1]
        target = (threshold - MARGIN) * inputs.energy
        old = inputs.along(self.basis)
        new, directions = inputs.beside(self)
        size = R + len(new)
        if choose:
            order = torch.cat([old, new]).argsort(descending=True, stable=True)
            chosen = order[: _fewest(torch.cat([old, new])[order], target)]
            mask = torch.zeros(size, dtype=torch.bool, device=old.device).index_fill_(0, chosen, True)
        else:
            count = _fewest(new, target - old.sum()) if old.sum() < target else 0
            mask = torch.arange(size, device=old.device) < R + count
        if short and len(self.masks) == 0:
            mask[mask.nonzero()[-1:]] = False
        elif short and choose:
            mask[R : R + 1] = False
        added = mask[R:].nonzero()[:, 0]
        before, self.basis = self.masks, torch.cat([self.basis, _upright(self.basis, directions[:, added])], 1)
        self.masks = torch.zeros(len(before) + 1, R + len(added), dtype=torch.bool, device=old.device)
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
