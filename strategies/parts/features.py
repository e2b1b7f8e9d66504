"""What a frozen network says of its inputs: computed over data in one pass, or remembered by the bits of the input."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from ...base.seeds import torch_generator
from ...streams.core import Data
from ..context import Context, Meter

Function = Callable[[Tensor], Tensor]


@torch.no_grad()
def features(
    function: Function, data: Data, context: Context, name: str, batch_size: int = 256
) -> tuple[Tensor, Tensor]:
    """(`function` of every sample [N, ...], targets [N]) with the test transform, rows in order, counted as drawn.

    Args:
        name: of this work, for the ledger.
    """
    answers = []
    for rows in torch.arange(len(data), device=data.targets.device).split(batch_size):
        stored, _ = data.rows(rows)
        context.meter.samples += len(rows)
        x = data.prepare(stored)
        with context.meter.work("train", context.task, name, len(rows)):
            answers.append(function(x))
    return torch.cat(answers), data.targets


class Memo:
    """Remembers what a frozen function [B, ...] -> [B, D] said of an input, by 128 bits of a hash of the input's bits.

    A test image is asked about once after every task, and what is frozen says the same each time. The function must
    treat the rows of a batch alone; a row that is computed in another batch may differ in its last bits. Not part of
    a checkpoint: what was lost is computed again.

    Args:
        meter, name: the ledger and the work's name there; it counts as if nothing were remembered.
    """

    def __init__(self, meter: Meter, name: str) -> None:
        self.meter, self.name = meter, name
        self.places: dict[tuple[int, int], int] = {}
        self.answers: Tensor | None = None  # [at least len(places), D]

    def __call__(self, function: Function, x: Tensor, purpose: str = "eval") -> Tensor:
        """`function(x)`, of which only the rows that were never seen are computed."""
        keys = self._hold(function, x, purpose, counted=len(x))
        return self.answers[[self.places[key] for key in keys]]

    def foresee(self, function: Function, data: Data, purpose: str, batch_size: int = 256) -> None:
        """Ask about all of `data`, in its order. The ledger counts it when it is asked again.

        In training even the last bits count: a run that was stopped must not find other ones than a run that was not,
        only because it asks about other rows together.
        """
        for start in range(0, len(data), batch_size):
            self._hold(function, data.prepare(data.span(start, start + batch_size)[0]), purpose, counted=0)

    @torch.no_grad()
    def _hold(self, function: Function, x: Tensor, purpose: str, counted: int) -> list[tuple[int, int]]:
        keys = row_keys(x)
        missing = {key: i for i, key in enumerate(keys) if key not in self.places}
        rows = list(missing.values())
        with self.meter.standing_for(purpose, self.name, counted, len(rows)):
            new = function(x if len(rows) == len(x) else x[rows]) if rows else None
        if new is not None:
            self._keep(list(missing), new)
        return keys

    def _keep(self, keys: list[tuple[int, int]], new: Tensor) -> None:
        known = len(self.places)
        if self.answers is None or known + len(new) > len(self.answers):
            room = new.new_empty(max(2 * known, known + len(new), 1024), *new.shape[1:])
            if self.answers is not None:
                room[:known] = self.answers[:known]
            self.answers = room
        self.answers[known : known + len(new)] = new
        self.places |= {key: known + i for i, key in enumerate(keys)}


def row_keys(x: Tensor) -> list[tuple[int, int]]:
    """128 bits for each row of a float32 batch [B, ...]: two random linear hashes of its bits, modulo 2^64.

    Two different rows agree with a chance of about 2^-80 (multiply-shift hashing; Dietzfelbinger et al., 1997).
    """
    bits = x.detach().contiguous().reshape(len(x), -1).float().view(torch.int32)
    weights = _hash_weights(bits.shape[1], x.device)
    per_chunk = max(1, 2**22 // max(bits.shape[1], 1))
    keys = [torch.stack([(part.long() * w).sum(1) for w in weights], 1) for part in bits.split(per_chunk)]
    return [(a, b) for a, b in torch.cat(keys).tolist()]


@lru_cache(maxsize=4)
def _hash_weights(width: int, device: torch.device) -> Tensor:
    draw = torch_generator("row keys", width)
    return torch.randint(-(2**62), 2**62, (2, width), generator=draw).mul_(2).add_(1).to(device)
