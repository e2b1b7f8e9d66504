"""schedule="plateau": a rate that falls when the validation loss no longer does, and the best weights at the end.

After each pass over a task's data the loss on its validation data is taken. `patience` passes in a row that do not
beat the best one divide the learning rate by `lr_factor`; a rate below `lr_min` ends the task; whatever ended it, the
weights of the best pass come back. So train the codes of GPM (Saha et al., 2021) and its successors, after Serra et
al., "Overcoming Catastrophic Forgetting with Hard Attention to the Task" (ICML 2018).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ...streams.batches import Batch
from ...streams.core import Data
from ..context import Context

if TYPE_CHECKING:
    from ..config import TrainConfig

ELEMENTS = 2**22  # floats of inputs in a batch of validation data, 16 MB, if that is fewer than 1,024 samples


class Plateau:
    """The validation losses of one task so far; between tasks, and under any other schedule, there are none.

    Attributes:
        best: the lowest loss. Only a lower one, by however little, is better.
        bad: passes since then, or since the rate was last reduced.
        reductions: how often the rate was divided.
        weights: trainable parameters and buffers at the best loss, by name.
    """

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self.forget()

    def forget(self) -> None:
        """No loss yet."""
        self.best, self.bad, self.reductions = math.inf, 0, 0
        self.weights: dict[str, Tensor] = {}

    @property
    def ended(self) -> bool:
        """Whether the rate is too low to go on."""
        return self.reductions > 0 and self.config.lr / self.config.lr_factor**self.reductions < self.config.lr_min

    def until_ended(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The batches up to the end of the task; none is drawn that is not trained on."""
        while not self.ended and (batch := next(batches, None)) is not None:
            yield batch

    def judge(self, loss: float, model: nn.Module) -> None:
        """Take in the loss after a pass; one that is no number is not better."""
        if loss < self.best:
            self.best, self.bad = loss, 0
            self.weights = kept(model)
            return
        self.bad += 1
        if self.bad >= self.config.patience:
            self.bad = 0
            self.reductions += 1

    def settle(self, model: nn.Module) -> None:
        """The task is over: the best weights come back, and all is forgotten."""
        bring_back(model, self.weights)
        self.forget()

    def state_dict(self) -> dict[str, Any]:
        """All of it."""
        return {"best": self.best, "bad": self.bad, "reductions": self.reductions, "weights": self.weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore."""
        self.best, self.bad, self.reductions = state["best"], state["bad"], state["reductions"]
        self.weights = dict(state["weights"])


@torch.no_grad()
def mean_loss(model: nn.Module, loss: Callable[[Tensor, Tensor], Tensor], data: Data, context: Context) -> float:
    """Of all samples, in order, the network in evaluation mode; the one synchronisation of a pass.

    Args:
        loss: mean over inputs [B, ...] with targets [B].
    """
    training, total = model.training, 0.0
    model.eval()
    rows = max(16, min(1024, ELEMENTS // math.prod(data.input_shape)))
    for start in range(0, len(data), rows):
        stored, y = data.span(start, start + rows)
        with context.meter.work("train", context.task, "validation", len(y)):
            total = total + loss(data.prepare(stored), y) * len(y)
    model.train(training)
    return float(total) / len(data)


def kept(model: nn.Module) -> dict[str, Tensor]:
    """Copies of what training writes to, by name."""
    return {name: value.detach().clone() for name, value in _learnt(model).items()}


@torch.no_grad()
def bring_back(model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Write copies back; none leave everything as it is."""
    here = _learnt(model) if weights else {}
    for name, value in weights.items():
        here[name].copy_(value)


def _learnt(model: nn.Module) -> dict[str, Tensor]:
    """What training writes to: a frozen body may be a hundred times that."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad} | dict(model.named_buffers())
