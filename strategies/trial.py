"""A trial run of a strategy, for `check_strategy`: treated as the evaluation loop treats it, and watched."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..base.errors import CarryoverError, InvalidError, MismatchError, Withheld
from ..streams.core import Stream
from .context import Context
from .core import Strategy

SEED = 7
ROUNDING = 1e-4  # of an action's numbers, which are of order one
State = Any  # nested dicts and lists of tensors and plain values


class Snapshot(NamedTuple):
    """A trial on its way, as a checkpoint holds it."""

    task: int
    step: int  # 0 between tasks
    drawn: int
    strategy: State
    context: State

    def __str__(self) -> str:
        return f"at step {self.step} of task {self.task}" if self.step else f"before task {self.task}"


class Trial:
    """A fresh strategy on a stream, from the beginning or from a snapshot.

    Args:
        where: how error messages begin.
        saved: takes a snapshot of every step and of every end of a task.
    """

    def __init__(
        self,
        where: str,
        make: Callable[[], Strategy],
        stream: Stream,
        snapshot: Snapshot | None = None,
        saved: list[Snapshot] | None = None,
    ) -> None:
        self.where, self.make, self.stream, self.saved, self.context = where, make, stream, saved, Context(SEED)
        self.strategy, self.task, self.at = make(), 0, snapshot
        self.context.tick = self._keep
        with running(where, "setup"):
            self.strategy.setup(stream.info, self.context)
        if snapshot is not None:
            self.task = snapshot.task
            with running(where, "load_state_dict"):
                self.strategy.load_state_dict(copied(snapshot.strategy, where))
            self.context.load_state_dict(copied(snapshot.context, where))

    def learn(self, until: int) -> None:
        """Learn up to `until` tasks."""
        while self.task < until:
            shown = self.stream.shown(self.task)
            self.drawn = shown.train.drawn
            self.drawn["samples"] = self.at.drawn if self.at else 0
            if self.at is None or not self.at.step:
                self.context.begin(self.task)
            self.at = None
            with running(self.where, "learn"):
                self.strategy.learn(shown)
            passes, drawn = self.stream.setting.passes, self.drawn["samples"]
            if passes is not None and drawn > passes * len(shown.train):
                raise InvalidError(
                    f"{self.where}: it draws {drawn} times from {len(shown.train)} samples, more often than the "
                    f"{passes} pass that the setting allows."
                )
            self.task += 1
            self.drawn["samples"] = 0
            self._keep(0, 0)

    def _keep(self, step: int, total: int) -> None:
        """The harness's ear: a checkpoint could be written now."""
        if self.saved is not None:
            context = copied(self.context.state_dict(), self.where)
            self.saved.append(Snapshot(self.task, step, self.drawn["samples"], self.state(), context))

    def state(self) -> State:
        """A copy of the strategy's state."""
        with running(self.where, "state_dict"):
            return copied(self.strategy.state_dict(), f"{self.where}: state_dict")

    def outcome(self, probe: Tensor, seen: int) -> State:
        """All that can be seen of what was learnt: the state, and predictions for inputs [B, ...]."""
        predictions = {f"for task {j}": self.predict(probe, j, seen) for j in range(len(self.stream))}
        return {"state": self.state(), "prediction": predictions}

    def predict(self, inputs: Tensor, task: int, seen: int) -> Tensor:
        """Class ids [B], or actions [B, A], of the right form."""
        query = self.stream.query(task, seen)
        with running(self.where, "predict"), torch.no_grad():
            ids = self.strategy.predict(inputs.clone(), query)
        if self.stream.kind == "policy":
            form = (len(inputs), self.stream.classes)
            if not isinstance(ids, Tensor) or ids.shape != form or not ids.is_floating_point():
                raise InvalidError(f"{self.where}: predict must return actions [B, {form[1]}], one for each input.")
            return ids
        if not isinstance(ids, Tensor) or ids.shape != inputs.shape[:1] or ids.dtype.is_floating_point:
            raise InvalidError(f"{self.where}: predict must return class ids [B], integers, one for each input.")
        if query.classes and not torch.isin(ids, query.column_index(ids.device)).all():
            raise InvalidError(f"{self.where}: predict answers with classes that are not in query.classes.")
        return ids

    def check_predictions(self, probe: Tensor, seen: int) -> None:
        """A prediction depends on its own sample alone, and leaves no trace."""
        before = self._touchable()
        # a strategy may remember its answers, and must be asked each way as if for the first time; and as it is
        for one, again, flipped, joined, alone in ([self] * 5, [self._twin() for _ in range(5)]):
            crowd = torch.cat([probe, self._others(probe)])
            for j in range(len(self.stream)):
                whole = one.predict(probe, j, seen)
                for how, ids in {
                    "when asked again": again.predict(probe, j, seen),
                    "in another order": flipped.predict(probe.flip(0), j, seen).flip(0),
                    "among other samples": joined.predict(crowd, j, seen)[: len(probe)],
                    "in batches of one": torch.cat([alone.predict(x, j, seen) for x in probe.split(1)]),
                }.items():
                    if changed := self._changed(whole, ids):
                        raise MismatchError(
                            f"{self.where}: {changed} of {len(probe)} predictions change {how}; each must "
                            "be a function of its own sample alone (no batch statistics at test)."
                        )
        place = difference(before, self._touchable())
        if place:
            raise MismatchError(f"{self.where}: predict changes the state or the generators ({place} differs).")

    def _others(self, probe: Tensor) -> Tensor:
        """Inputs that are unlike the probe's as a whole."""
        if self.stream.kind == "policy":  # what is in it has its range, such as the numbers of words
            return probe[:1].expand_as(probe)
        return 100 * probe + 10

    def _changed(self, whole: Tensor, ids: Tensor) -> int:
        """How many answers differ; actions by more than products of other shapes are rounded."""
        if self.stream.kind == "policy":
            return int(((whole - ids).abs() > ROUNDING).any(1).sum())
        return int((whole != ids).sum())

    def _twin(self) -> Trial:
        """Another strategy in the same state."""
        context = copied(self.context.state_dict(), self.where)
        return Trial(self.where, self.make, self.stream, Snapshot(self.task, 0, 0, self.state(), context))

    def _touchable(self) -> State:
        """What a prediction could move but must not."""
        position = self.context.state_dict()
        generators = {"global": position["global"], "named": position["generators"]}
        return {"state": self.state(), "generator": copied(generators, self.where)}


@contextmanager
def running(where: str, method: str) -> Iterator[None]:
    """Turns whatever a strategy raises into one line."""
    try:
        yield
    except Withheld as error:
        raise InvalidError(f"{where}: {method} asks for what the setting withholds: {error}") from error
    except CarryoverError:
        raise
    except Exception as error:
        raise InvalidError(f"{where}: {method} raised {type(error).__name__}: {error}") from error


def copied(value: Any, where: str) -> State:
    """A copy that shares nothing, as a checkpoint would give it back; what a checkpoint cannot hold is refused."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, dict) and all(isinstance(key, (str, int)) for key in value):
        return {key: copied(item, f"{where} {key}") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [copied(item, where) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise InvalidError(f"{where} holds {type(value).__name__}; a state is tensors, numbers, strings, lists and dicts.")


def difference(a: State, b: State, at: str = "") -> str | None:
    """Where two states first differ, bit for bit; None if nowhere."""
    if type(a) is not type(b):
        return at
    if isinstance(a, Tensor):
        alike = a.dtype == b.dtype and a.shape == b.shape and torch.equal(_bytes(a), _bytes(b))
        return None if alike else at
    if isinstance(a, list):
        a, b = dict(enumerate(a)), dict(enumerate(b))
    if isinstance(a, dict):
        if a.keys() != b.keys():
            return at
        return next((d for key in a if (d := difference(a[key], b[key], f"{at} {key}".strip()))), None)
    return None if a == b or (a != a and b != b) else at


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.contiguous().reshape(-1).view(torch.uint8)
