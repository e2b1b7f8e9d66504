"""Averaging weights around any gradient strategy: train a task as it does, and keep an average instead of the end.

    carryover run weight-average STREAM --set around=er --set around.memory=500 --set rule=ema

The rules and their sources are in `parts.averaging`. The average is written into the weights when a task is over,
before the inner strategy draws its conclusions (Fisher information, bases, teachers), and the next task starts from it.
What the inner strategy shares with every other (`lr`, `epochs`, `model`, ...) is set as ever, or as that strategy has
it; the rest is set under `around.`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor, nn

from ..base.errors import UsageError
from ..streams.batches import Batch
from ..streams.core import Data, Query, StreamInfo, Task
from .config import Amount, Count, Share
from .context import Context
from .core import GradientStrategy, Strategy, TrainConfig, load_strategy, strategy
from .parts.averaging import OVER_STEPS, Rule, averaging
from .parts.fisher import information

SHARED = tuple(field.name for field in fields(TrainConfig) if field.name != "model_options")


@dataclass(frozen=True)
class WeightAverageConfig(TrainConfig):
    """around: the strategy that trains, by name; its own settings are given as `around.memory=...`.

    rule: "uniform", "ema", "wise", "fisher" or "ties". every: steps between the weights that count. decay: of "ema".
    share: of the end of the task in "wise". density: share of a task's change that "ties" keeps. fisher_samples:
    training samples behind the information of "fisher"; 0 means all. fisher_batch: so many of them at once.
    """

    around: str = "finetune"
    around_options: dict[str, Any] = dataclasses.field(default_factory=dict)
    rule: Rule = "uniform"
    every: Count = 100
    decay: Share = 0.99
    share: Share = 0.8
    density: Share = 0.2
    fisher_samples: Amount = 200
    fisher_batch: Count = 64


@strategy("weight-average", needs=("boundaries",))
class WeightAverage(Strategy):
    """Keep an average of the weights that another strategy's training passes through."""

    Config = WeightAverageConfig
    kinds = GradientStrategy.kinds  # as far as the inner strategy learns them
    stateful = ("inner", "average")

    def __init__(self, config: Any = None, **settings: Any) -> None:
        """What is shared and not set is as the inner strategy has it."""
        super().__init__(config, **settings)
        if config is None:
            own = {field.name: field.default for field in fields(self._kind().Config)}
            unset = {name: own[name] for name in SHARED if name in own and name not in settings}
            self.config = dataclasses.replace(self.config, **unset)

    def _kind(self) -> type[GradientStrategy]:
        kind = load_strategy(self.config.around)
        if not issubclass(kind, GradientStrategy) or issubclass(kind, WeightAverage):
            raise UsageError(f"{self.name}: around={self.config.around} does not learn by gradient steps.")
        return kind

    def setup(self, info: StreamInfo, context: Context) -> None:
        """The inner strategy, with three of its places listened in to."""
        super().setup(info, context)
        kind = self._kind()
        if taken := [name for name in self.config.around_options if name in SHARED]:
            raise UsageError(f"{self.name}: around.{taken[0]} is a setting of both. Set {taken[0]} itself.")
        if (self.config.selection != "last" or self.config.schedule == "plateau") and self.config.rule in OVER_STEPS:
            raise UsageError(
                f"{self.name}: rule={self.config.rule} keeps the mean of all weights, whichever selection or "
                "schedule=plateau find best. Leave one of them out."
            )
        shared = {field.name: getattr(self.config, field.name) for field in fields(TrainConfig)}
        options = shared.pop("model_options")
        self.inner = kind(
            **shared, **{f"model.{key}": value for key, value in options.items()}, **self.config.around_options
        )
        config = self.config
        self.average = averaging(config.rule, config.every, config.decay, config.share, config.density)
        data, after, end = self.inner.training_data, self.inner.after_step, self.inner.end_task
        if config.rule == "fisher":  # goes through a task's data once more
            extra = self.inner.extra_passes
            self.inner.extra_passes = lambda: extra() + 1
        self.inner.training_data = lambda task: self._begin(data, task)
        self.inner.after_step = lambda batch: self._after_step(after, batch)
        self.inner.end_task = lambda task: self._end_task(end, task)
        self.inner.setup(info, context)

    @property
    def test_batch(self) -> int | None:
        """As the inner strategy."""
        return None if self.inner is None else self.inner.test_batch

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
        self.average.settle(self._params(), lambda: self._information(task))
        then(task)

    def _information(self, task: Task) -> list[Tensor]:
        inner, samples, at_once = self.inner, self.config.fisher_samples, self.config.fisher_batch
        found = information(inner.model, inner.objective.nll, task.train, self.context, samples, at_once)
        by_id = {id(p): found[name] for name, p in inner.model.named_parameters() if name in found}
        return [by_id[id(p)] for p in self._params()]

    def _params(self) -> list[Tensor]:
        return [p for group in self.inner.optimizer.param_groups for p in group["params"]]

    def predict(self, inputs: Tensor, query: Query) -> Tensor:
        """As the inner strategy, with the averaged weights."""
        return self.inner.predict(inputs, query)

    def networks(self) -> list[nn.Module]:
        """Those of the inner strategy."""
        return self.inner.networks()
