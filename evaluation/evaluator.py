"""The judge: what a strategy answers on test sets that it never holds: rows of the matrix, controls, curves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..strategies.context import Context
from ..strategies.core import Strategy
from ..streams.core import LabelledTest, Query, Stream
from ..streams.film import Film
from .diagnose import diagnose
from .films import Take, due


class Evaluator:
    """Scores a strategy on every test set. The test sets live here and nowhere else.

    Where all tasks are asked the same question (no task id, one label space), their test sets are laid end to end and
    scored in one sweep; that is exact because a prediction may not depend on what else is in its batch.

    Args:
        together: how many samples are predicted together, for a strategy whose predictions do depend on it; then each
            test set is scored by itself.
        filming: keep films of some attempts, where all tests can be watched.
    """

    def __init__(
        self,
        stream: Stream,
        device: torch.device,
        batch_size: int | None = None,
        together: int | None = None,
        filming: bool = False,
    ) -> None:
        self.stream = stream
        self.tests = [test.to(device) if hasattr(test, "to") else test for test in stream.tests]
        self.controls = [(c.test.to(device) if hasattr(c.test, "to") else c.test, c.query) for c in stream.controls]
        per_sample = int(np.prod(stream.info.shape))
        room = 2**26 if device.type == "cuda" else 2**22  # floats in a batch
        self.batch_size = together or batch_size or max(16, min(1024, room // max(per_sample, 1)))
        self.task_id_reads = 0
        self._sweep = None
        if together is None and not stream.setting.task_id_at_test and stream.setting.label_space != "task":
            self._sweep = _end_to_end(self.tests)
        self.filming = filming and all(hasattr(test, "watched") for test in self.tests)
        self.takes: list[Take] = []
        self.alone = self.tests if stream.points else []  # for learning curves
        if self._sweep is not None:
            self.tests = []  # one copy on the device is enough

    def row(self, strategy: Strategy, context: Context, seen: int) -> np.ndarray:
        """[sum of test sizes] bool: every test case after `seen` tasks, in task order."""
        queries = [self.stream.query(j, seen) for j in range(len(self.stream))]
        filmed = due(seen, len(self.stream)) if self.filming else []
        firsts = np.cumsum([0, *self.stream.test_sizes]).tolist() if filmed else []
        with _evaluating(strategy):
            if self._sweep is not None:
                cases = [firsts[task] for task in filmed]
                bits, films = self._score(strategy, context, self._sweep, queries[0], seen, cases=cases)
            else:
                scored = [
                    self._score(strategy, context, test, query, seen, cases=[0] if task in filmed else [])
                    for task, (test, query) in enumerate(zip(self.tests, queries, strict=True))
                ]
                bits = torch.cat([right for right, _ in scored])
                films = [film for _, shot in scored for film in shot]
        self.task_id_reads += sum(query.reads["task_id"] for query in queries)
        row = bits.cpu().numpy()
        for task, film in zip(filmed, films, strict=True):
            self.takes.append(Take(seen, task, bool(row[firsts[task]]), film))
        return row

    def outside(self, strategy: Strategy, context: Context, seen: int) -> list[int]:
        """Correct answers of each control after `seen` tasks."""
        return [
            int(self._score(strategy, context, test, query, seen, beside=number)[0].sum())
            for number, (test, query) in enumerate(self.controls, 1)
        ]

    def _score(
        self,
        strategy: Strategy,
        context: Context,
        test: Any,
        query: Query,
        seen: int,
        beside: int = 0,
        cases: Sequence[int] = (),
    ) -> tuple[Tensor, list[Film]]:
        """[N] bool: which cases are right; and films of some."""
        asked = -1 - beside if query._index is None else query._index

        def predict(inputs: Tensor) -> Tensor:
            if self.stream.kind == "policy":  # batches of every size, as attempts end
                work = context.meter.standing_for("eval", f"{seen} {asked}", len(inputs), len(inputs))
            else:
                work = context.meter.work("eval", seen, asked, len(query.classes), *inputs.shape)
            with work:
                return strategy.predict(inputs, query)

        with torch.no_grad():
            if cases:
                return test.watched(predict, self.batch_size, cases)
            return test.score(predict, self.batch_size), []

    def own(self, strategy: Strategy, context: Context, index: int) -> int:
        """Correct answers on the test of task `index` while it is learnt."""
        query = self.stream.query(index, index + 1)
        with _evaluating(strategy):
            return int(self._score(strategy, context, self.alone[index], query, index)[0].sum())

    def diagnose(self, strategy: Strategy, context: Context) -> None:
        """Report how well a strategy that chooses among tasks' parameters chooses; nothing for one that does not."""
        if not hasattr(strategy, "select_task") or not all(isinstance(t, LabelledTest) for t in self.stream.tests):
            return
        shares = []
        with context.meter.silent():
            for task, test in enumerate(self.stream.tests):
                query = self.stream.query(task, len(self.stream))
                shares.append(diagnose(strategy, test.to(context.device), task, query, self.batch_size))
        for name in shares[0]:
            context.diagnostics[name] = [share[name] for share in shares]

    def counts(self, bits: np.ndarray) -> list[int]:
        """Correct answers per task from a row of bits."""
        ends = np.cumsum(self.stream.test_sizes)
        return [int(part.sum()) for part in np.split(bits, ends[:-1])]


@contextmanager
def _evaluating(strategy: Strategy) -> Iterator[None]:
    """Networks in evaluation mode, and back: a row may be taken in the middle of learning."""
    training = [net for net in strategy.networks() if net.training]
    for net in training:
        net.eval()
    yield
    for net in training:
        net.train()


def _end_to_end(tests: list[Any]) -> Any:
    """One test set out of several, if they are of one kind and shape and prepared alike; else None."""
    if hasattr(tests[0], "joined"):
        return tests[0].joined(tests[1:])
    if not all(isinstance(test, LabelledTest) and isinstance(test.data.samples, Tensor) for test in tests):
        return None
    first = tests[0].data
    if any(t.data.transform is not first.transform or t.data.shape != first.shape for t in tests):
        return None
    samples = torch.cat([test.data.samples for test in tests])
    return LabelledTest(replace(first, samples=samples, targets=torch.cat([test.data.targets for test in tests])))
