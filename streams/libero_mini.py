"""The stand-ins for LIBERO's suites: a robot on a table-top learns task after task from demonstrations.

Liu et al., "LIBERO: Benchmarking Knowledge Transfer for Lifelong Robot Learning" (NeurIPS 2023, arXiv 2306.03310). Like
there, a suite varies what has to be learnt (where, what, how, or all of it, in two steps), a task has 50 demonstrations
and 50 fixed initial states, its instruction is all that tells tasks apart, and success is counted in attempts. The
world is our own, two-dimensional and simulated in tensors; see `tabletop`. What goes on beyond LIBERO: the checkpoint
is chosen by demonstrations that are held out, and not by success (`selection`).
"""

from __future__ import annotations

from typing import Literal, TypedDict, Unpack

import torch
from torch import Tensor

from ..base.errors import UsageError
from .core import DIL, Data, Stream, Task
from .named import stream
from .packed import Unpacked, packed
from .tabletop.attempts import Attempts, layout, spoken
from .tabletop.files import Shown, made, read
from .tabletop.observe import ROBOT, TOKEN
from .tabletop.starts import starts
from .tabletop.suites import ORDERS, suite

POINTS = 10  # of a learning curve, beside the one before learning
SWITCH = 1.0  # how much more a frame counts in which the grip changes


class Options(TypedDict, total=False):
    """Of every suite.

    n_tasks: the first so many of the order. order: 0 to 20, LIBERO's; 90 tasks come in order 0 alone. seed: draws
    demonstrations and initial states. demonstrations: of each task; val_fraction of them, the last, are held out.
    attempts: of each task's test, from the first so many of 50 states. history: observations in an input.
    language: an instruction in "words", or the task's number ("one-hot"). observe: things by their "state", or the
    table by a "camera", in pictures of camera_size pixels a side. files: a folder of `carryover data export`, from
    which demonstrations are read in place of making them; the stream is the same.
    """

    n_tasks: int | None
    order: int
    seed: int
    demonstrations: int
    attempts: int
    history: int
    language: Literal["words", "one-hot"]
    val_fraction: float
    observe: Literal["state", "camera"]
    camera_size: int
    files: str | None


def _suite(
    which: str,
    *,
    n_tasks: int | None = None,
    order: int = 0,
    seed: int = 0,
    demonstrations: int = 50,
    attempts: int = 20,
    history: int = 1,
    language: str = "words",
    val_fraction: float = 0.1,
    observe: str = "state",
    camera_size: int = 32,
    files: str | None = None,
) -> Stream:
    """A suite's tasks in one of LIBERO's orders."""
    name = f"libero-{which}-mini"
    known = suite(name)
    orders = ORDERS if len(known) == 10 else (tuple(range(len(known))),)
    if not 0 <= order < len(orders):
        raise UsageError(f"{name} has the orders 0 to {len(orders) - 1}; got order={order}.")
    tasks = [known[i] for i in orders[order]]
    things = max(len(spec.entities) for spec in known)
    if n_tasks is not None and not 1 <= n_tasks <= len(tasks):
        raise UsageError(f"n_tasks must be from 1 to {len(tasks)}; got {n_tasks}.")
    if not (1 <= attempts <= 50 and 2 <= demonstrations <= 10_000 and 1 <= history <= 100):
        raise UsageError("attempts must be from 1 to 50, demonstrations from 2, and history from 1 to 100.")
    if not 0 <= val_fraction < 1:
        raise UsageError(f"val_fraction must be at least 0 and less than 1; got {val_fraction}.")
    if not 16 <= camera_size <= 256:
        raise UsageError(f"camera_size must be from 16 to 256 pixels; got {camera_size}.")
    camera = camera_size if observe == "camera" else 0
    tasks, held_out = tasks[:n_tasks], round(val_fraction * demonstrations)
    if held_out == demonstrations:
        raise UsageError(f"val_fraction={val_fraction} leaves no demonstration to learn from.")
    part, said = spoken(tasks, language)
    actions = (0, 1, 2)
    learnt, tests, held_tests = [], [], []
    for t, spec in enumerate(tasks):
        if files is None:
            shown = made(spec, demonstrations, seed, camera)
        else:
            shown = read(files, name, spec, demonstrations, seed, camera)
        train, val = _frames(shown, said[t], things, history, held_out)
        meta = {"instruction": spec.instruction}
        learnt.append(Task(t, spec.instruction, actions, train, val, meta))
        held_starts = shown.first[demonstrations - held_out :]
        for judged, states in ((tests, starts(spec, "evaluation", attempts, seed)), (held_tests, held_starts)):
            rows = torch.zeros(len(states), dtype=torch.int64)
            judged.append(Attempts((spec,), rows, states, said[t : t + 1], things, history, camera))
    meta = {"order": order, "demonstrations": demonstrations, "horizons": [spec.horizon for spec in tasks]}
    shape = layout(part, said.shape[1], things, camera)
    return Stream(name, 1, DIL, learnt, tests, 3, seed, kind="policy", meta=meta, layout=shape,
                  points=POINTS, held_tests=held_tests if held_out else ())  # fmt: skip


def _frames(shown: Shown, said: Tensor, things: int, history: int, held_out: int) -> tuple[Data, Data | None]:
    """Training frames, and those of the episodes that are held out, the last ones. Pictures are stored as bytes."""
    pixels = 0 if shown.pictures is None else shown.pictures[0].numel()
    seen = shown.seen[:, : ROBOT if pixels else ROBOT + things * TOKEN]
    frames = torch.cat([seen, said.expand(len(seen), -1)], 1)  # [L, D]
    if pixels:
        frames = packed(shown.pictures.flatten(1), frames)
    x, y = [], []
    for rows, actions in zip(*(part.split(shown.lengths.tolist()) for part in (frames, shown.actions)), strict=True):
        back = torch.arange(len(rows))[:, None] + torch.arange(1 - history, 1)  # [l, H]
        x.append(rows[back.clamp(min=0)])
        grip = actions[:, 2] > 0
        before = torch.cat([torch.zeros(1, dtype=torch.bool), grip[:-1]])
        weight = 1 + SWITCH * (grip != before)
        y.append(torch.cat([actions, weight[:, None]], 1))
    count = len(x) - held_out
    unpack = Unpacked(pixels) if pixels else None
    parts = [Data(torch.cat(x[a:b]), torch.cat(y[a:b]), unpack) for a, b in ((0, count), (count, len(x))) if b > a]
    return parts[0], parts[1] if len(parts) > 1 else None


@stream("libero-spatial-mini", embedded=True, setting="dil", needs="")
def libero_spatial_mini(**options: Unpack[Options]) -> Stream:
    """Ten tasks for a robot: which of two bowls goes on the plate is told by where it stands; for `bc-transformer`.

    LIBERO-Spatial in small: 50 demonstrations and 20 attempts a task.
    """
    return _suite("spatial", **options)


@stream("libero-object-mini", embedded=True, setting="dil", needs="")
def libero_object_mini(**options: Unpack[Options]) -> Stream:
    """Ten tasks for a robot: which of ten things goes into the basket; for `bc-transformer`.

    LIBERO-Object in small: 50 demonstrations and 20 attempts a task.
    """
    return _suite("object", **options)


@stream("libero-goal-mini", embedded=True, setting="dil", needs="")
def libero_goal_mini(**options: Unpack[Options]) -> Stream:
    """Ten tasks for a robot: ten things to do on one table, drawers and a stove among them; for `bc-transformer`.

    LIBERO-Goal in small: 50 demonstrations and 20 attempts a task.
    """
    return _suite("goal", **options)


@stream("libero-10-mini", embedded=True, setting="dil", needs="")
def libero_10_mini(**options: Unpack[Options]) -> Stream:
    """Ten tasks for a robot, each in two steps, on different tables; for `bc-transformer`.

    LIBERO-10 (LIBERO-Long) in small: 50 demonstrations and 20 attempts a task.
    """
    return _suite("10", **options)


@stream("libero-90-mini", embedded=True, setting="dil", needs="")
def libero_90_mini(**options: Unpack[Options]) -> Stream:
    """Ninety tasks for a robot on many tables; for `bc-transformer`.

    LIBERO-90 in small: 50 demonstrations and 20 attempts a task.
    """
    return _suite("90", **options)
