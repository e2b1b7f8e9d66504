"""What arrives: tasks, their data, and the setting that says what a strategy may know.

A `Stream` yields `Task`s, which hold training and validation data and never test data, and keeps the test sets
apart for the evaluator. It is deterministic in (name, version, options): two people who print the same fingerprint
have the same samples, labels, order and splits, bit for bit.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from ..base.errors import UsageError, Withheld, unknown
from .rows import Rows, on_device, remembered

if TYPE_CHECKING:
    Transform = Callable[[Tensor], Tensor]
    Augment = Callable[[Tensor, torch.Generator], Tensor]

LabelSpace = Literal["task", "seen", "all"]


@dataclass(frozen=True)
class Setting:
    """What a strategy is told. The harness withholds the rest, and measures what was used.

    Attributes:
        name: as in the literature.
        task_id_at_training: `Task.index`, `Task.name` and `Task.meta` are readable.
        task_id_at_test: `Query.task` is readable.
        boundaries: the strategy is told when a task begins and ends.
        passes: how often each training sample may be drawn; None means as often as the strategy likes.
        label_space: which classes compete at test: the task's own, all seen so far, or all of the stream.
    """

    name: str
    task_id_at_training: bool = True
    task_id_at_test: bool = False
    boundaries: bool = True
    passes: int | None = None
    label_space: LabelSpace = "seen"


TIL = Setting("til", task_id_at_test=True, label_space="task")
CIL = Setting("cil")
DIL = Setting("dil", label_space="all")
ONLINE = Setting("online", passes=1)
TASK_FREE = Setting("task-free", task_id_at_training=False, boundaries=False, passes=1, label_space="all")
SETTINGS = {s.name: s for s in (TIL, CIL, DIL, ONLINE, TASK_FREE)}


@dataclass(frozen=True, eq=False)
class Data:
    """Samples and labels as they are stored, and the way from a stored sample to an input.

    Args:
        samples: [N, ...] uint8 (pixels, divided by 255 when drawn) or float tensor; or a NumPy memory map of the
            same, or `Rows` of one, for what does not fit memory: only the drawn rows are read.
        targets: [N] int64 class ids of the whole stream; or whatever the stream's kind predicts.
        transform: the deterministic way from a float batch [B, ...] of stored samples to inputs, such as a centre
            crop. A frozen dataclass tells the fingerprint its settings, anything else its name alone.
        augment: the random way, which training goes in its place, such as a random crop: called with the same batch
            and a generator on the batch's device; its inputs have the shape of the transform's.
        drawn: how many samples training has drawn so far; the harness reads the number of passes off it.
    """

    samples: Tensor | np.ndarray | Rows
    targets: Tensor
    transform: Transform | None = None
    augment: Augment | None = None
    drawn: dict[str, int] = field(default_factory=lambda: {"samples": 0}, repr=False)

    def __post_init__(self) -> None:
        if len(self.samples) != len(self.targets):
            raise UsageError(f"data has {len(self.samples)} samples but {len(self.targets)} targets.")

    def __len__(self) -> int:
        return len(self.targets)

    def __repr__(self) -> str:
        return f"Data({len(self):,} of {'x'.join(map(str, self.shape))}, {self.samples.dtype})".replace("torch.", "")

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one stored sample."""
        return tuple(self.samples.shape[1:])

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input: what the transform makes of a stored sample."""
        return self.shape if self.transform is None else tuple(self.prepare(self.span(0, 1)[0]).shape[1:])

    def rows(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Stored samples and targets at `index` [B], on the targets' device, counted as drawn."""
        self.drawn["samples"] += len(index)
        return self.gather(index)

    def gather(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """The same for who counts the draws himself."""
        if isinstance(self.samples, Tensor):
            return self.samples[index], self.targets[index]
        read = Rows(self.samples)[index.cpu().numpy()]
        return torch.from_numpy(read).to(self.targets.device), self.targets[index]

    def span(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Stored samples and targets from `start` to before `stop`, in order: a view, where they are in memory."""
        targets = self.targets[start:stop]
        if isinstance(self.samples, Tensor):
            return self.samples[start:stop], targets
        return torch.from_numpy(Rows(self.samples)[start:stop]).to(targets.device), targets

    def prepare(self, stored: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Stored samples [B, ...] as the float batch that a network reads.

        Args:
            generator: given in training, where the augmentation, if there is one, stands in for the transform.
        """
        if stored.dtype == torch.uint8:
            x = stored.to(torch.float32).div_(255)
        elif stored.is_floating_point():
            x = stored.to(torch.float32, copy=True)  # never the stored samples themselves
        else:
            x = stored.clone()  # tokens stay what they are
        if self.augment is not None and generator is not None:
            return self.augment(x, generator)
        return x if self.transform is None else self.transform(x)

    def to(self, device: torch.device | str) -> Data:
        """The same data resident on a device; what is on disk stays there, unless it fits a GPU with room to spare."""
        in_memory = isinstance(self.samples, Tensor)
        samples = self.samples.to(device) if in_memory else on_device(self.samples, device)
        return dataclasses.replace(self, samples=samples, targets=self.targets.to(device))

    def select(self, index: np.ndarray | Tensor) -> Data:
        """A subset, with its own count of draws. What is on disk stays there."""
        index = torch.as_tensor(index)
        in_memory = isinstance(self.samples, Tensor)
        samples = self.samples[index] if in_memory else Rows(self.samples, index.cpu().numpy())
        return dataclasses.replace(self, samples=samples, targets=self.targets[index], drawn={"samples": 0})

    @property
    def nbytes(self) -> int:
        """Bytes of samples and targets as stored."""
        return self.samples.nbytes + self.targets.nbytes

    def digest(self, chunk: int = 4096) -> str:
        """SHA-256 over shape, type, decoded samples and targets, in order, and what is done to them."""
        chunk = max(1, min(chunk, 2**26 * len(self) // max(self.samples.nbytes, 1)))  # rows; bounds the memory it takes
        about = f"{self.samples.dtype}{tuple(self.samples.shape)}".replace("torch.", "").encode()
        after = np.ascontiguousarray(_numpy(self.targets)).tobytes()
        for role, function in (("transform", self.transform), ("augment", self.augment)):
            if function is not None:
                after += f"{role} {_identity(function)}".encode()

        def read() -> str:
            total = hashlib.sha256(about)
            for start in range(0, len(self), chunk):
                total.update(np.ascontiguousarray(_numpy(self.samples[start : start + chunk])))
            total.update(after)
            return total.hexdigest()

        return remembered(self.samples, about + after, read)


@dataclass(frozen=True)
class Task:
    """One task as a strategy sees it. There is no test data here, and no way to it.

    Attributes:
        index: 0-based position in the stream; None where the setting withholds it.
        name: for people, such as "rotation 17°"; "" where the setting withholds the index.
        classes: ids of the classes that this task reveals.
        train, val: training and validation data; `val` is None where the stream holds none out.
        meta: year, domain, instruction: whatever the stream tells about the task.
        texts: of an image-text stream, the prompts of each class, aligned with `classes`; the first is for training.
    """

    index: int | None
    name: str
    classes: tuple[int, ...]
    train: Data
    val: Data | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)
    texts: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class Query:
    """What a strategy knows about the samples it is to predict.

    Attributes:
        classes: ids among which to choose, ascending.
        size: number of classes of the stream; `classes` may be all of them.
        texts: of an image-text stream, the prompts of each candidate, aligned with `classes`.
    """

    classes: tuple[int, ...]
    size: int
    texts: tuple[tuple[str, ...], ...] = field(default=(), repr=False)
    _index: int | None = field(default=None, repr=False)
    reads: dict[str, int] = field(default_factory=lambda: {"task_id": 0}, repr=False, compare=False)

    @property
    def task(self) -> int:
        """The task's index, where the setting gives it. Reading it is counted in the record."""
        if self._index is None:
            raise Withheld("the setting withholds the task id at test; this strategy needs it.")
        self.reads["task_id"] += 1
        return self._index

    @property
    def told(self) -> bool:
        """Whether there is a task to be told; controls belong to none."""
        return self._index is not None

    @property
    def open(self) -> bool:
        """Whether every class of the stream competes, so that nothing has to be masked."""
        return len(self.classes) == self.size

    def column_index(self, device: torch.device | str) -> Tensor:
        """`classes` as an index tensor."""
        return torch.tensor(self.classes, device=device)


Predict = Callable[[Tensor], Tensor]


class Test(Protocol):
    """A test set, held by the evaluator. Images are one kind; a simulator with fixed initial states is another."""

    def __len__(self) -> int:
        """Number of test cases."""

    def score(self, predict: Predict, batch_size: int) -> Tensor:
        """[N] bool, which cases were right. `predict` maps a float batch to class ids (or actions)."""

    def digest(self) -> str:
        """SHA-256 of everything that the score depends on."""


@dataclass(frozen=True)
class LabelledTest:
    """Samples with one right class each."""

    data: Data

    def __len__(self) -> int:
        return len(self.data)

    def score(self, predict: Predict, batch_size: int = 1024) -> Tensor:
        """[N] bool: predicted class equals label."""
        right = []
        for start in range(0, len(self), batch_size):
            stored, targets = self.data.span(start, start + batch_size)
            right.append(predict(self.data.prepare(stored)) == targets)
        return torch.cat(right)

    def to(self, device: torch.device | str) -> LabelledTest:
        """The same test set resident on a device."""
        return LabelledTest(self.data.to(device))

    def digest(self) -> str:
        """SHA-256 of samples and labels."""
        return self.data.digest()


@dataclass(frozen=True)
class Control:
    """A test outside an image-text stream, which no task teaches: what is lost there is lost beyond the stream.

    Attributes:
        test: its classes are numbered from 0, apart from the stream's.
        texts: the prompts of each class, by its number.
    """

    name: str
    test: Test
    texts: tuple[tuple[str, ...], ...]

    @property
    def query(self) -> Query:
        """What a strategy is told about it: candidates, and no task."""
        return Query(tuple(range(len(self.texts))), len(self.texts), self.texts)


@dataclass(frozen=True)
class StreamInfo:
    """The public facts of a stream, which a strategy is told before the first task.

    Attributes:
        shape: of one input, as a network reads it, without the batch.
        classes: number of classes in the whole stream, the width of a full head.
        setting: what will be told and withheld.
        kind: what is predicted and from what: "classification", "image-text", where classes are told in words, or
            "policy", where `classes` is how many numbers an action has.
        layout: what the last axis of an input holds, in order: names and shapes; empty where it is one thing.
        points: so many times in learning each task its own test is taken, for a learning curve.
    """

    name: str
    shape: tuple[int, ...]
    classes: int
    setting: Setting
    kind: str = "classification"
    layout: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    points: int = 0


@dataclass(frozen=True)
class Stream:
    """Tasks in order, and the tests that belong to them.

    Attributes:
        tasks, tests: of equal length; lists, or lazy sequences for streams that do not fit memory.
        seed: the stream's own seed: class order, angles, permutations, splits. Not the seed of a run.
        class_names: by class id; empty where the classes have no names.
        texts: of an image-text stream, the prompts of each class, by class id; the first is for training.
        meta: facts for the record, such as angles.
        layout, points: as in `StreamInfo`.
        held_tests: of a policy stream, attempts that begin where held-out demonstrations did; () if there are none.
    """

    name: str
    version: int
    setting: Setting
    tasks: Sequence[Task]
    tests: Sequence[Test]
    classes: int
    seed: int = 0
    class_names: tuple[str, ...] = ()
    kind: str = "classification"
    meta: Mapping[str, Any] = field(default_factory=dict)
    texts: tuple[tuple[str, ...], ...] = ()
    controls: tuple[Control, ...] = ()
    layout: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    points: int = 0
    held_tests: Sequence[Test] = ()

    def __post_init__(self) -> None:
        if len(self.tasks) != len(self.tests):
            raise UsageError(f"stream {self.name}: {len(self.tasks)} tasks but {len(self.tests)} test sets.")
        if not len(self.tasks):
            raise UsageError(f"stream {self.name} has no tasks.")
        if self.texts and (len(self.texts) != self.classes or not all(self.texts)):
            raise UsageError(f"stream {self.name} has {self.classes} classes, but prompts for {len(self.texts)}.")
        listed = self.tasks if isinstance(self.tasks, (list, tuple)) else ()
        if any(task.train.transform != self.tasks[0].train.transform for task in listed):
            # a replay memory mixes stored samples of several tasks, and turns them into inputs in one way
            raise UsageError(f"stream {self.name}: its tasks prepare their samples by different transforms; use one.")

    def __len__(self) -> int:
        return len(self.tasks)

    def __repr__(self) -> str:
        about = f"{len(self)} tasks, {self.classes} classes, {self.setting.name}"
        return f"Stream({self.name} v{self.version}: {about}, {sum(self.test_sizes):,} test cases)"

    def __iter__(self) -> Iterator[Task]:
        return iter(self.tasks)

    @property
    def info(self) -> StreamInfo:
        """What a strategy is told before the first task."""
        shape = self.tasks[0].train.input_shape
        return StreamInfo(self.name, shape, self.classes, self.setting, self.kind, self.layout, self.points)

    @property
    def test_sizes(self) -> list[int]:
        """Test cases per task."""
        return [len(test) for test in self.tests]

    def shown(self, index: int) -> Task:
        """Task `index` as the setting lets a strategy see it."""
        task = self.tasks[index]
        if not self.setting.task_id_at_training:
            task = dataclasses.replace(task, index=None, name="", meta={})  # an angle or a year tells the task too
        if not self.setting.boundaries:
            task = dataclasses.replace(task, classes=tuple(range(self.classes)))
        return dataclasses.replace(task, texts=self._texts(task.classes))

    def query(self, index: int, seen: int) -> Query:
        """What a strategy is told about the test samples of task `index` after it has learnt `seen` tasks."""
        space = self.setting.label_space
        if space == "all":
            classes = tuple(range(self.classes))
        elif space == "task":
            classes = tuple(sorted(self.tasks[index].classes))
        else:
            classes = tuple(sorted({c for task in self.tasks[:seen] for c in task.classes}))
        told = index if self.setting.task_id_at_test else None
        return Query(classes, self.classes, self._texts(classes), told)

    def _texts(self, classes: tuple[int, ...]) -> tuple[tuple[str, ...], ...]:
        return tuple(self.texts[c] for c in classes) if self.texts else ()

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over every decoded sample and label of every split, what is done to samples, and all prompts."""
        total = hashlib.sha256()
        for task, test in zip(self.tasks, self.tests, strict=True):
            total.update(repr(task.classes).encode())
            for part in (task.train, task.val, test):
                total.update(part.digest().encode() if part is not None else b"-")
        if self.texts:
            total.update(repr(self.texts).encode())
        for control in self.controls:
            total.update(f"{control.name} {control.texts} {control.test.digest()}".encode())
        return total.hexdigest()

    def on_validation(self) -> Stream:
        """The same tasks, judged on their validation data: settings are chosen without a look at any test.

        Another fingerprint, so that nothing of it is ranked; and no controls, which are tests, too.
        """
        meta = {**self.meta, "scored_on": "validation"}
        if self.kind == "policy":
            if not self.held_tests:
                raise UsageError(
                    f"stream {self.name} is judged by attempts, and holds none out to be scored on. Leave it out."
                )
            return dataclasses.replace(self, tests=self.held_tests, meta=meta)
        held = [task.val for task in self.tasks]
        if any(val is None for val in held):
            raise UsageError(
                f"stream {self.name} holds no validation data out to be scored on. Set stream.val_fraction=0.2."
            )
        tests = [LabelledTest(dataclasses.replace(val, augment=None)) for val in held]
        return dataclasses.replace(self, tests=tests, meta=meta, controls=())

    def with_setting(self, setting: str | Setting) -> Stream:
        """The same data under another setting, by name or as a `Setting`."""
        if isinstance(setting, str):
            if setting not in SETTINGS:
                raise unknown("setting", setting, SETTINGS)
            setting = SETTINGS[setting]
        return dataclasses.replace(self, setting=setting)


def _identity(function: Callable) -> str:
    """What a digest says of a transform: a dataclass by its fields, anything else by its name."""
    if dataclasses.is_dataclass(function) and not isinstance(function, type):
        return repr(function)
    return getattr(function, "__qualname__", type(function).__qualname__)


def _numpy(array: Tensor | np.ndarray) -> np.ndarray:
    return array if isinstance(array, np.ndarray) else array.cpu().numpy()
