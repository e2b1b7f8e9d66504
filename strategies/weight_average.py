"""Averaging weights around any gradient strategy: train a task as it does, and keep an average instead of the end.

    carryover run weight-average STREAM --set around=er --set around.memory=500 --set rule=ema

The rules and their sources are in `parts.averaging`. The average is written into the weights when a task is over,
before the inner strategy draws its conclusions (Fisher information, bases, teachers), and the next task starts from it.
What the inner strategy shares with every other (`lr`, `epochs`, `model`, ...) is set as ever, the rest under `around.`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ..base.errors import UsageError
from ..streams.batches import Batch
from ..streams.core import Data, Query, StreamInfo, Task
from .config import Count, Share
from .context import Context
from .core import GradientStrategy, Strategy, TrainConfig, load_strategy, strategy
from .parts.averaging import Average, Rule


@dataclass(frozen=True)
class WeightAverageConfig(TrainConfig):
    """around: the strategy that trains, by name; its own settings are given as `around.memory=...`.

    rule: "uniform", "ema" or "wise". every: steps between the weights that count. decay: of "ema". share: of the end of
    the task in "wise".
    """

    around: str = "finetune"
    around_options: dict[str, Any] = dataclasses.field(default_factory=dict)
    rule: Rule = "uniform"
    every: Count = 100
    decay: Share = 0.99
    share: Share = 0.8


@strategy("weight-average", needs=("boundaries",))
class WeightAverage(Strategy):
    """Keep an average of the weights that another strategy's training passes through."""

    Config = WeightAverageConfig
    stateful = ("inner", "average")

    def setup(self, info: StreamInfo, context: Context) -> None:
        """The inner strategy, with three of its places listened in to."""
        super().setup(info, context)
        kind = load_strategy(self.config.around)
        if not issubclass(kind, GradientStrategy) or issubclass(kind, WeightAverage):
            raise UsageError(f"{self.name}: around={self.config.around} does not learn by gradient steps.")
        shared = {field.name: getattr(self.config, field.name) for field in dataclasses.fields(TrainConfig)}
        options = shared.pop("model_options")
        self.inner = kind(
            **shared, **{f"model.{key}": value for key, value in options.items()}, **self.config.around_options
        )
        self.average = Average(self.config.rule, self.config.every, self.config.decay, self.config.share)
        data, after, end = self.inner.training_data, self.inner.after_step, self.inner.end_task
        self.inner.training_data = lambda task: self._begin(data, task)
        self.inner.after_step = lambda batch: self._after_step(after, batch)
        self.inner.end_task = lambda task: self._end_task(end, task)
        self.inner.setup(info, context)

    def learn(self, task: Task) -> None:
        """As the inner strategy."""
        self.inner.learn(task)

    def _begin(self, then: Callable[[Task], Data], task: Task) -> Data:
        """The inner strategy has begun the task, or goes on with it; the optimizer holds what it trains."""
        if self.inner.step == 0:
            self.average.begin(self._params())
        return then(task)

    def _after_step(self, then: Callable[[Batch], None], batch: Batch) -> None:
        then(batch)
        self.average.take(self._params(), self.inner.step)

    def _end_task(self, then: Callable[[Task], None], task: Task) -> None:
        self.average.settle(self._params())
        then(task)

    def _params(self) -> list[Tensor]:
        return [p for group in self.inner.optimizer.param_groups for p in group["params"]]

    def predict(self, inputs: Tensor, query: Query) -> Tensor:
        """As the inner strategy, with the averaged weights."""
        return self.inner.predict(inputs, query)

    def networks(self) -> list[nn.Module]:
        """Those of the inner strategy."""
        return self.inner.networks()
