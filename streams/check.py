"""`check_stream`: does a stream of your own keep the rules that every result rests on?"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..base.errors import UsageError
from .core import Data, Stream, Task
from .leakage import ALLOWED, duplicates

FIELDS = {field.name for field in dataclasses.fields(Task)}


def check_stream(made: Stream | Callable[[], Stream]) -> str:
    """Certify a stream, or better the function that builds one, which is then built twice. Returns the fingerprint.

    Raises:
        UsageError: the first rule that is broken, where, and what would keep it.
    """
    build = made if callable(made) else lambda: dataclasses.replace(made)
    with global_seed(1):
        stream = build()
    if not isinstance(stream, Stream):
        raise UsageError(f"check_stream: got {type(stream).__name__}, which is not a Stream.")
    for rule in (_order, _sizes, _withheld, _inputs, _labels, _disjoint, _queries):
        rule(stream)
    with global_seed(2):
        again = build()
    if again.fingerprint != stream.fingerprint:
        raise _broken(stream, "built twice, it has two fingerprints; draw from base.seeds.frozen_random alone")
    return stream.fingerprint


def _broken(stream: Stream, what: str) -> UsageError:
    return UsageError(f"stream {stream.name}: {what}.")


def _order(stream: Stream) -> None:
    indices = [task.index for task in stream]
    if indices != list(range(len(stream))):
        raise _broken(stream, f"iteration gives the task indices {indices[:20]}, not 0..{len(stream) - 1} in order")


def _sizes(stream: Stream) -> None:
    if stream.class_names and len(stream.class_names) != stream.classes:
        raise _broken(stream, f"there are {len(stream.class_names)} class names for {stream.classes} classes")
    for task, where, test in _each(stream):
        for part, held in (("training", task.train), ("validation", task.val), ("test", test)):
            if held is not None and not len(held):
                raise _broken(stream, f"{where} has an empty {part} set")


def _withheld(stream: Stream) -> None:
    """A strategy holds a Task, and whatever can be reached from it is what it may know."""
    for task, where, test in _each(stream):
        more = set(vars(task)) - FIELDS
        if more:
            raise _broken(
                stream,
                f"{where} carries {sorted(more)[0]!r}; a Task has no fields beyond its own and no test data",
            )
        if not _plain(task.meta):
            raise _broken(
                stream,
                f"{where} has meta that is not plain text, numbers and lists; data does not belong there",
            )
        hidden = getattr(test, "data", None)
        for part, data in _parts(task):
            if hidden is not None and _one_memory(data.samples, hidden.samples):
                raise _broken(stream, f"the {part} data of {where} is a view into the memory of its test data; copy it")


def _inputs(stream: Stream) -> None:
    first, shape = stream.tasks[0].train, stream.info.shape
    for task, where, test in _each(stream):
        for part, data in _parts(task, test):
            for what, found, usual in (("samples", data.shape, first.shape), ("inputs", data.input_shape, shape)):
                if found != usual:
                    raise _broken(stream, f"the {part} {what} of {where} have shape {found}, elsewhere {usual}")
            kind = str(data.samples.dtype).removeprefix("torch.")
            if kind != "uint8" and "float" not in kind:
                raise _broken(stream, f"the {part} inputs of {where} are {kind}, neither uint8 nor float")
            for start in range(0, len(data) if kind != "uint8" else 0, 4096):
                if not torch.isfinite(torch.as_tensor(data.samples[start : start + 4096])).all():
                    raise _broken(stream, f"the {part} inputs of {where} hold NaN or infinite values")
            few, _ = data.span(0, 4)
            if not torch.equal(data.prepare(few.clone()), data.prepare(few.clone())):
                raise _broken(
                    stream, f"the transform of the {part} data of {where} is random or gives NaN; use augment"
                )
            drawn = data.prepare(few, torch.Generator(few.device).manual_seed(0)).shape[1:]
            if drawn != shape:
                raise _broken(
                    stream, f"the augment of the {part} data of {where} gives shape {tuple(drawn)}, elsewhere {shape}"
                )


def _labels(stream: Stream) -> None:
    if stream.kind != "classification":
        return
    for task, where, test in _each(stream):
        if not task.classes or not all(type(c) is int and 0 <= c < stream.classes for c in task.classes):
            raise _broken(stream, f"{where} has classes {task.classes}, not Python integers in 0..{stream.classes - 1}")
        for part, data in _parts(task, test):
            if data.targets.dtype != torch.int64 or data.targets.ndim != 1:
                raise _broken(stream, f"the {part} targets of {where} are {data.targets.dtype}, not [N] int64")
            strangers = set(data.targets.unique().tolist()) - set(task.classes)
            if strangers:
                raise _broken(stream, f"the {part} data of {where} has the label {min(strangers)}, not in its classes")


def _disjoint(stream: Stream) -> None:
    for task, where, test in _each(stream):
        parts = _parts(task, test)
        for i, (seen, train) in enumerate(parts):
            for part, held in parts[i + 1 :]:
                count = duplicates(train, held)
                if count > ALLOWED * len(held):
                    raise _broken(
                        stream, f"{count} of {len(held)} {part} samples of {where} are in its {seen} data too"
                    )


def _queries(stream: Stream) -> None:
    """What is told at test is what the setting says, by the base class's own account."""
    setting = stream.setting
    for i in range(len(stream)):
        shown = stream.shown(i)
        if not setting.task_id_at_training and (shown.index is not None or shown.name):
            raise _broken(
                stream,
                f"task {i} shows its index or name in training, which the setting {setting.name} withholds",
            )
        for seen in {1, i + 1, len(stream)}:
            query, right = stream.query(i, seen), Stream.query(stream, i, seen)
            if query._index is not None and not setting.task_id_at_test:
                raise _broken(
                    stream,
                    f"query({i}, {seen}) tells the task id, which the setting {setting.name} withholds",
                )
            if (query._index, query.classes, query.size) != (right._index, right.classes, right.size):
                raise _broken(stream, f"query({i}, {seen}) does not tell what the setting {setting.name} says")


def _each(stream: Stream) -> Iterator[tuple[Task, str, Any]]:
    for i, (task, test) in enumerate(zip(stream.tasks, stream.tests, strict=True)):
        yield task, f"task {i}", test


def _parts(task: Task, test: Any = None) -> list[tuple[str, Data]]:
    """Training, validation and test data; a test of another kind (a simulator) has none to look at."""
    parts = [("training", task.train), ("validation", task.val), ("test", getattr(test, "data", None))]
    return [(part, data) for part, data in parts if isinstance(data, Data)]


def _plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(k, str) and _plain(v) for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return all(_plain(one) for one in value)
    return value is None or isinstance(value, (str, bool, int, float))


def _one_memory(ours: Tensor | np.ndarray, theirs: Tensor | np.ndarray) -> bool:
    if isinstance(ours, Tensor) and isinstance(theirs, Tensor):
        return ours.untyped_storage().data_ptr() == theirs.untyped_storage().data_ptr()
    if isinstance(ours, np.ndarray) and isinstance(theirs, np.ndarray):
        return _owner(ours) is _owner(theirs)
    return False


def _owner(array: np.ndarray) -> Any:
    while isinstance(array, np.ndarray) and array.base is not None:
        array = array.base
    return array


@contextmanager
def global_seed(seed: int) -> Iterator[None]:
    """Global generators at a known state inside and as they were after: a stream must not depend on them."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])
