"""What a strategy that chooses among tasks' parameters would do if it chose right.

A strategy may offer `select_task(inputs, query)`, [B] int64, the number (0-based, in the order learnt) of the task
whose parameters it would answer with, and then takes `predict(inputs, query, chosen)` with that choice made for it.
The choice is judged here, where the truth is, after the last row was taken: a strategy is told nothing by it.
"""

from __future__ import annotations

from typing import Any

import torch

from ..streams.core import LabelledTest, Query


@torch.no_grad()
def diagnose(strategy: Any, test: LabelledTest, task: int, query: Query, batch_size: int) -> dict[str, float]:
    """The share of a task's test samples for which the task was found, and the accuracy with it told."""
    found, right = [], []
    for start in range(0, len(test), batch_size):
        stored, y = test.data.span(start, start + batch_size)
        x, truth = test.data.prepare(stored), torch.full_like(y, task)
        found.append(strategy.select_task(x, query) == truth)
        right.append(strategy.predict(x, query, truth) == y)
    names = {"task_selection": found, "oracle_accuracy": right}
    return {name: torch.cat(hits).double().mean().item() for name, hits in names.items()}
