"""What a strategy that chooses among tasks' parameters would do if it chose right.

A strategy may offer `select(inputs, query)`, [B] int64, the number (0-based, in the order learnt) of the task whose
parameters it would answer with, and then takes `predict(inputs, query, chosen)` with that choice made for it. The
choice is judged here, where the truth is, after the last row has been taken: a strategy is told nothing by it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..streams.core import Data, Query


@torch.no_grad()
def diagnose(strategy: Any, data: Data, owners: Tensor, query: Query, batch_size: int) -> dict[str, list[float | None]]:
    """Per task: the share of its test samples for which the task was found, and the accuracy with it told.

    Args:
        data: the samples of all test sets. owners: [N] the task of each.
    """
    found, right = [], []
    for start in range(0, len(data), batch_size):
        stored, y = data.span(start, start + batch_size)
        x, truth = data.prepare(stored), owners[start : start + batch_size]
        found.append(strategy.select(x, query) == truth)
        right.append(strategy.predict(x, query, truth) == y)
    return {"task_selection": _shares(found, owners), "oracle_accuracy": _shares(right, owners)}


def _shares(hits: list[Tensor], owners: Tensor) -> list[float | None]:
    tasks = int(owners.max()) + 1
    sums = torch.zeros(tasks, dtype=torch.float64, device=owners.device)
    sums.index_add_(0, owners, torch.cat(hits).double())
    return (sums / torch.bincount(owners, minlength=tasks)).tolist()
