"""From labelled data to a stream: split the classes, permute or rotate the pixels, or put data sets in a row.

    stream = split(from_arrays(x, y), n_tasks=5, name="mine")

Everything that is drawn (class order, angles, permutations, subsets, validation splits) depends on (purpose, seed,
task) alone, so that the same call gives the same bytes anywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, TypedDict, get_args

import numpy as np
import torch
from torch import Tensor

from ..base.errors import UsageError, unknown
from ..base.seeds import frozen_random
from .affine import pixels, rotate
from .assemble import Part, assemble, at_least_one
from .core import CIL, DIL, TIL, Setting, Stream
from .labelled import Labelled

ClassOrder = Literal["natural", "seeded"] | list[int]
Interpolation = Literal["bilinear", "nearest"]


class Options(TypedDict, total=False):
    """What every named stream can be told beside `n_tasks`; see the builders."""

    seed: int
    train_per_task: int | None
    disjoint: bool
    val_fraction: float
    normalise: bool


# Of streams of related tasks, after GPM (Saha, Garg and Roy 2021), TRGP and CUBER (Lin et al. 2022): one head for all
# tasks, the task told at test, and few new samples for each task, so that there is something to gain from the others.
RELATED = {"setting": TIL, "disjoint": True}


class SplitOptions(Options, total=False):
    """Of `split`."""

    class_order: ClassOrder


class PermutedOptions(Options, total=False):
    """Of `permuted`."""

    identity_first: bool
    distinct: int | None


class RotatedOptions(Options, total=False):
    """Of `rotated`."""

    angles: list[float] | None
    max_angle: float
    interpolation: Interpolation


def split(
    labelled: Labelled,
    n_tasks: int | None = None,
    *,
    name: str,
    setting: Setting | str = CIL,
    seed: int = 0,
    class_order: ClassOrder = "natural",
    sizes: Sequence[int] | None = None,
    train_per_task: int | None = None,
    disjoint: bool = False,
    val_fraction: float = 0.0,
    normalise: bool = False,
    version: int = 1,
) -> Stream:
    """Tasks that reveal the classes piece by piece. Class ids stay those of the data set.

    Args:
        n_tasks: equal pieces; or give `sizes`, the number of classes of each task.
        class_order: as numbered, drawn by the seed, or a list of all class ids.
        train_per_task: so many random training samples for each task instead of all.
        disjoint: draw them so that no two tasks have a sample in common.
        val_fraction: of a task's training samples (after `train_per_task`), held out as its validation data.
        normalise: inputs less the mean of all training pixels, over their deviation, by channel.
    """
    order = _class_order(labelled.classes, class_order, seed)
    ends = np.cumsum(_sizes(labelled.classes, n_tasks, sizes))
    train_y, test_y = labelled.train_y.cpu().numpy(), labelled.test_y.cpu().numpy()
    parts = []
    for start, end in zip([0, *ends[:-1]], ends, strict=True):
        classes = tuple(order[start:end])
        train, test = (np.flatnonzero(np.isin(y, classes)) for y in (train_y, test_y))
        parts.append(Part(_title(classes, labelled.class_names), classes, labelled, train, test))
    return assemble(parts, name, version, setting, seed, train_per_task, disjoint, val_fraction, normalise,
                    labelled.classes, labelled.class_names, {"class_order": order})  # fmt: skip


def permuted(
    labelled: Labelled,
    n_tasks: int,
    *,
    name: str,
    setting: Setting | str = DIL,
    seed: int = 0,
    identity_first: bool = False,
    distinct: int | None = None,
    train_per_task: int | None = None,
    disjoint: bool = False,
    val_fraction: float = 0.0,
    normalise: bool = False,
    version: int = 1,
) -> Stream:
    """Tasks with all classes, each under a pixel permutation of its own (channels move together).

    Args:
        identity_first: leave the first task as it is. Lopez-Paz and Ranzato (2017) permute it too.
        distinct: so many permutations, visited in turn: task t has permutation t % distinct. None means all distinct.
        train_per_task, disjoint, val_fraction, normalise: as in `split`.
    """
    at_least_one("n_tasks", n_tasks)
    classes = tuple(range(labelled.classes))
    places = int(np.prod(labelled.train_x.shape[-2:] if labelled.train_x.ndim == 4 else labelled.train_x.shape[1:]))
    if distinct is not None:
        at_least_one("distinct", distinct)
    parts = []
    for t in range(n_tasks):
        visit, k = divmod(t, distinct or n_tasks)
        plain = identity_first and k == 0
        order = frozen_random("permutation", seed, k).permutation(places)
        change = None if plain else lambda x, order=order: _permute(x, order)
        title = ("identity" if plain else f"permutation {k}") + (f", visit {visit + 1}" if visit else "")
        parts.append(Part(title, classes, labelled, change=change))
    meta = {"identity_first": identity_first} | ({"distinct": distinct} if distinct else {})
    return assemble(parts, name, version, setting, seed, train_per_task, disjoint, val_fraction, normalise,
                    labelled.classes, labelled.class_names, meta)  # fmt: skip


def rotated(
    labelled: Labelled,
    n_tasks: int,
    *,
    name: str,
    setting: Setting | str = DIL,
    seed: int = 0,
    angles: Sequence[float] | None = None,
    max_angle: float = 180.0,
    interpolation: Interpolation = "bilinear",
    train_per_task: int | None = None,
    disjoint: bool = False,
    val_fraction: float = 0.0,
    normalise: bool = False,
    version: int = 1,
) -> Stream:
    """Tasks with all classes, each turned by an angle of its own, in degrees counter-clockwise.

    Angle t is uniform in the t-th of `n_tasks` equal bins of [0, max_angle), as in Lopez-Paz and Ranzato (2017), whose
    code takes the nearest pixel. Both ways are computed in integers, the same on every machine.

    Args:
        angles: one per task, instead of drawing them.
        interpolation: "bilinear" or "nearest".
        train_per_task, disjoint, val_fraction, normalise: as in `split`.
    """
    at_least_one("n_tasks", n_tasks)
    pixels(labelled.train_x)
    if not 0 < max_angle <= 360:
        raise UsageError(f"max_angle must be above 0 and at most 360 degrees; got {max_angle}.")
    if interpolation not in get_args(Interpolation):
        raise unknown("interpolation", str(interpolation), get_args(Interpolation))
    if angles is None:
        width = max_angle / n_tasks
        angles = [(t + frozen_random("angle", seed, t).random_sample()) * width for t in range(n_tasks)]
    if len(angles) != n_tasks:
        raise UsageError(f"angles has {len(angles)} entries for {n_tasks} tasks.")
    if not np.isfinite(angles).all():
        raise UsageError(f"angles must be finite numbers of degrees; got {list(angles)}.")
    classes = tuple(range(labelled.classes))
    parts = [
        Part(
            f"rotation {a:.1f}°",
            classes,
            labelled,
            change=lambda x, a=a: rotate(x, a, interpolation == "nearest"),
            meta={"angle": float(a)},
        )
        for a in angles
    ]
    return assemble(parts, name, version, setting, seed, train_per_task, disjoint, val_fraction, normalise,
                    labelled.classes, labelled.class_names, {"angles": [float(a) for a in angles]})  # fmt: skip


def from_tasks(
    tasks: Mapping[str, Labelled] | Iterable[tuple[str, Labelled]],
    *,
    name: str,
    setting: Setting | str | None = None,
    seed: int = 0,
    shared_classes: bool = False,
    train_per_task: int | None = None,
    disjoint: bool = False,
    val_fraction: float = 0.0,
    normalise: bool = False,
    version: int = 1,
) -> Stream:
    """One data set per task, in the order given.

    Args:
        setting: CIL, or DIL with `shared_classes`.
        shared_classes: every data set has the same classes (domains of one problem); otherwise each adds its own,
            numbered on from those before.
        train_per_task, disjoint, val_fraction, normalise: as in `split`.
    """
    named = list(tasks.items() if isinstance(tasks, Mapping) else tasks)
    if not named:
        raise UsageError(f"stream {name}: give at least one (name, Labelled) pair.")
    parts, names, total = [], [], 0
    for title, labelled in named:
        first = named[0][1]
        if tuple(labelled.train_x.shape[1:]) != tuple(first.train_x.shape[1:]):
            raise UsageError(
                f"stream {name}: {title!r} has samples of shape {list(labelled.train_x.shape[1:])}, "
                f"but {named[0][0]!r} of {list(first.train_x.shape[1:])}; load both with one size=."
            )
        if shared_classes and (labelled.classes, labelled.class_names) != (first.classes, first.class_names):
            raise UsageError(f"stream {name}: {title!r} has other classes than {named[0][0]!r}; they cannot be shared.")
        shift = 0 if shared_classes else total
        classes = tuple(range(shift, shift + labelled.classes))
        parts.append(Part(title, classes, labelled, shift=shift))
        total = shift + labelled.classes
        if not (shared_classes and names):
            names += labelled.class_names or [str(c) for c in range(labelled.classes)]
    setting = setting or (DIL if shared_classes else CIL)
    return assemble(parts, name, version, setting, seed, train_per_task, disjoint, val_fraction, normalise, total,
                    tuple(names), {"first_class": [part.shift for part in parts]})  # fmt: skip


def _permute(x: Tensor, order: np.ndarray) -> Tensor:
    """Samples with their places (the last two axes of images, else all axes but the first) in another order."""
    places = x.reshape(len(x), -1, len(order)).numpy()
    return torch.from_numpy(np.take(places, order, axis=2)).reshape(x.shape)  # several times faster than torch's


def _class_order(classes: int, order: ClassOrder, seed: int) -> list[int]:
    if isinstance(order, str) and order == "natural":
        return list(range(classes))
    if isinstance(order, str) and order == "seeded":
        return [int(c) for c in frozen_random("class order", seed).permutation(classes)]
    if isinstance(order, str) or sorted(order) != list(range(classes)):
        raise UsageError(
            f"class_order is 'natural', 'seeded' or a list of every class id 0..{classes - 1}; got {order!r}."
        )
    return [int(c) for c in order]


def _sizes(classes: int, n_tasks: int | None, sizes: Sequence[int] | None) -> list[int]:
    if sizes is None:
        if n_tasks is None:
            raise UsageError("give n_tasks or sizes.")
        at_least_one("n_tasks", n_tasks)
        if classes % n_tasks:
            fits = [n for n in range(1, classes + 1) if classes % n == 0]
            raise UsageError(
                f"{classes} classes do not divide into n_tasks={n_tasks}; it can be one of {fits}, or give sizes."
            )
        return [classes // n_tasks] * n_tasks
    if n_tasks not in (None, len(sizes)) or min(sizes, default=0) < 1 or sum(sizes) != classes:
        raise UsageError(
            f"sizes must be positive and add up to the {classes} classes, one per task; got {list(sizes)}."
        )
    return list(sizes)


def _title(classes: tuple[int, ...], names: tuple[str, ...]) -> str:
    """Class names where they fit in a heading, otherwise the first and the last."""
    shown = [names[c] if names else str(c) for c in classes]
    title = ", ".join(shown)
    return title if len(title) <= 60 else f"{shown[0][:40]} … {shown[-1][:40]} ({len(classes)} classes)"
