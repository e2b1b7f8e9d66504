"""LIBERO: a robot learns task after task from demonstrations with two cameras, and is judged in the simulator.

Liu et al., "LIBERO: Benchmarking Knowledge Transfer for Lifelong Robot Learning" (NeurIPS 2023, arXiv 2306.03310): its
suites, its 21 orders, 50 demonstrations of each task, windows of 10 steps, and 20 attempts from fixed initial states,
which have 600 steps and succeed if the goal holds after one of them. What differs: the last tenth of demonstrations is
held out, to choose weights by (`selection`), where LIBERO takes the checkpoint with the most successes; an action goes
with what was seen before it (`pairing`); a window ends at the action that is predicted, see `sources.libero.windows`;
colours are shaken sample by sample, see `camera_augment`; and where furniture stands is drawn for each attempt, see
`sources.libero.worlds`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypedDict, Unpack

import torch
from torch import Tensor

from ..base.errors import InvalidError, StorageError, UsageError
from ..base.files import read_bytes, sha256
from ..base.seeds import derive
from .core import DIL, Stream, Task
from .named import stream
from .simulated import Attempts
from .sources import data_root
from .sources.libero import names
from .sources.libero.demonstrations import CAMERAS, Demonstrations
from .sources.libero.initial import read_initial_states
from .sources.libero.language import told
from .sources.libero.lerobot import FOLDER, lerobot_need, read_lerobot
from .sources.libero.simulator import goal_file, simulator_needs, states_file, versions
from .sources.libero.suites import ACTION, load_suite, suite_need
from .sources.libero.windows import parted
from .sources.libero.worlds import needs_renderer
from .tabletop.suites import ORDERS

POINTS = 10  # of a learning curve, beside the one before learning
HORIZON = 600
LEROBOT = {"libero-spatial": 280, "libero-object": 280, "libero-goal": 300, "libero-10": 520, "libero-90": 400}


class Options(TypedDict, total=False):
    """Of every suite.

    n_tasks: the first so many of the order. order: 0 to 20, LIBERO's; 90 tasks come in order 0 alone. seed: draws where
    furniture stands, within a centimetre or two. source: LIBERO's own files, or the copies at Hugging Face (hdf5,
    lerobot). demonstrations: the first so many of each task; val_fraction of them, the last, are held out. pairing:
    an action with what was seen before it, or with its own outcome (seen, stored). history: observations in an input.
    cameras: agentview_rgb, eye_in_hand_rgb, or none. augment: colours and places of the pictures are shaken in
    training. language: what is told of a task (words, one-hot, bert, clip). attempts: of each task's test, from the
    first so many of 50 states. horizon: steps of an attempt, or LeRobot's number. settle: what is done before the first
    (libero, lerobot).
    """

    n_tasks: int | None
    order: int
    seed: int
    source: Literal["hdf5", "lerobot"]
    demonstrations: int | None
    val_fraction: float
    pairing: Literal["seen", "stored"]
    history: int
    cameras: list[Literal["agentview_rgb", "eye_in_hand_rgb"]]
    augment: bool
    language: Literal["words", "one-hot", "bert", "clip"]
    attempts: int
    horizon: int | Literal["lerobot"]
    settle: Literal["libero", "lerobot"]


def _suite(
    name: str,
    data: str | Path | None,
    *,
    n_tasks: int | None = None,
    order: int = 0,
    seed: int = 0,
    source: str = "hdf5",
    demonstrations: int | None = None,
    val_fraction: float = 0.1,
    pairing: str = "seen",
    history: int = 10,
    cameras: list[str] | tuple[str, ...] = CAMERAS,
    augment: bool = True,
    language: str = "words",
    attempts: int = 20,
    horizon: int | str = HORIZON,
    settle: str = "libero",
) -> Stream:
    """A suite's tasks in one of LIBERO's orders."""
    tasks = _ordered(name, order, n_tasks)
    steps = LEROBOT[name] if horizon == "lerobot" else horizon
    if not (1 <= attempts <= 50 and 1 <= steps <= 10_000 and 1 <= history <= 100):
        raise UsageError("attempts must be from 1 to 50, horizon from 1 to 10000, and history from 1 to 100.")
    if source == "lerobot" and (name == "libero-90" or pairing == "stored"):
        raise UsageError(
            "source=lerobot has neither libero-90 nor pairing=stored. Leave them out, or take source=hdf5."
        )
    cameras = tuple(camera for camera in CAMERAS if camera in cameras)
    _complete(name, tasks, source, cameras, data_root(data))
    instructions = [names.language(task) for task in tasks]
    part, said = told(instructions, language)
    states = [_states(name, task, attempts) for task in tasks]
    simulator = versions()
    shown = _shown(name, tasks, source, cameras, pairing, data)
    side = shown[0].images.shape[-1] if cameras else 0
    learnt, tests, counts = [], [], []
    for t, (task, one) in enumerate(zip(tasks, shown, strict=True)):
        parts = parted(one, said[t], demonstrations, val_fraction, history, augment)
        counts.append(len(one) if demonstrations is None else demonstrations)
        meta = {"instruction": instructions[t], "file": task}
        learnt.append(Task(t, instructions[t], tuple(range(ACTION)), *parts, meta))
        seeds = tuple(derive("libero reset", name, task, seed, k) for k in range(attempts))
        goal = sha256(read_bytes(goal_file(name, task)))  # which a copy of the sources may have in another form
        about = (cameras, side, source, history, steps, settle, repr(simulator | {"goal": goal}))
        tests.append(Attempts(name, task, states[t], seeds, said[t], *about))
    meta = {
        "order": order, "source": source, "demonstrations": counts, "pairing": pairing, "horizon": steps,
        "settle": settle, "simulator": simulator,
        "language": {"name": language, "sha256": sha256(said.numpy().tobytes())},
    }  # fmt: skip
    layout = {camera: (3, side, side) for camera in cameras}
    layout |= {"robot": (shown[0].proprio.shape[1],), part: (said.shape[1],)}
    return Stream(name, 1, DIL, learnt, tests, ACTION, seed, kind="policy", meta=meta, layout=layout, points=POINTS)


def _ordered(name: str, order: int, n_tasks: int | None) -> list[str]:
    """The first tasks in an order."""
    known = names.SUITES[name]
    orders = ORDERS if len(known) == 10 else (tuple(range(len(known))),)
    if not 0 <= order < len(orders):
        raise UsageError(f"{name} has the orders 0 to {len(orders) - 1}; got order={order}.")
    if n_tasks is not None and not 1 <= n_tasks <= len(known):
        raise UsageError(f"n_tasks must be from 1 to {len(known)}; got {n_tasks}.")
    return [known[i] for i in orders[order]][:n_tasks]


def _complete(name: str, tasks: list[str], source: str, cameras: tuple[str, ...], root: Path) -> None:
    """Whether all that learning and the attempts will need is there, before anything is decoded, let alone learnt."""
    first = lerobot_need(root) if source == "lerobot" else suite_need(name, root, tasks)
    for one in (first, *simulator_needs()):
        if not one.there:
            more = f" and {len(one.lacks) - 1} more" if len(one.lacks) > 1 else ""
            what = root / one.lacks[0] if one is first else one.lacks[0]  # the simulator's are not below the root
            raise StorageError(f"{name} lacks {what}{more}: {one.get}.")
    if cameras:
        needs_renderer()


def _states(name: str, task: str, attempts: int) -> Tensor:
    """[attempts, S] float64, the first ones."""
    path = states_file(name, task)
    found = read_initial_states(path)
    if len(found) < attempts:
        raise InvalidError(f"{path} holds {len(found)} states, fewer than attempts={attempts}. Ask for fewer.")
    return torch.from_numpy(found[:attempts])


def _shown(
    name: str, tasks: list[str], source: str, cameras: tuple[str, ...], pairing: str, data: str | Path | None
) -> Sequence[Demonstrations]:
    """Demonstrations of each task, all their pictures of one size."""
    if source == "lerobot":
        folder = data_root(data) / FOLDER
        found = [read_lerobot(folder, names.language(task), cameras) for task in tasks]
    else:
        found = load_suite(name, data, cameras, pairing=pairing, tasks=tasks)
    sizes = {one.images.shape[-2:] for one in found if one.images is not None}
    if len({*sizes, *(size[::-1] for size in sizes)}) > 1:
        raise InvalidError(
            f"the pictures of {name} are not all square and of one size: {sorted(sizes)}. Download again."
        )
    return found


@stream("libero-spatial", embedded=False, setting="dil", needs="libero-spatial, hf-libero, libero-assets")
def libero_spatial(*, data: str | Path | None = None, **options: Unpack[Options]) -> Stream:
    """Ten tasks for a robot in MuJoCo: which of two bowls goes on the plate is told by where it stands.

    LIBERO-Spatial: 50 demonstrations and 20 attempts a task. Needs `pip install "carryover[libero]"`.
    """
    return _suite("libero-spatial", data, **options)


@stream("libero-object", embedded=False, setting="dil", needs="libero-object, hf-libero, libero-assets")
def libero_object(*, data: str | Path | None = None, **options: Unpack[Options]) -> Stream:
    """Ten tasks for a robot in MuJoCo: which of ten things goes into the basket.

    LIBERO-Object: 50 demonstrations and 20 attempts a task. Needs `pip install "carryover[libero]"`.
    """
    return _suite("libero-object", data, **options)


@stream("libero-goal", embedded=False, setting="dil", needs="libero-goal, hf-libero, libero-assets")
def libero_goal(*, data: str | Path | None = None, **options: Unpack[Options]) -> Stream:
    """Ten tasks for a robot in MuJoCo: ten things to do on one table, drawers and a stove among them.

    LIBERO-Goal: 50 demonstrations and 20 attempts a task. Needs `pip install "carryover[libero]"`.
    """
    return _suite("libero-goal", data, **options)


@stream("libero-10", embedded=False, setting="dil", needs="libero-10, hf-libero, libero-assets")
def libero_10(*, data: str | Path | None = None, **options: Unpack[Options]) -> Stream:
    """Ten tasks for a robot in MuJoCo, each in two steps, in different rooms.

    LIBERO-10 (LIBERO-Long): 50 demonstrations and 20 attempts a task. Needs `pip install "carryover[libero]"`.
    """
    return _suite("libero-10", data, **options)


@stream("libero-90", embedded=False, setting="dil", needs="libero-90, hf-libero, libero-assets")
def libero_90(*, data: str | Path | None = None, **options: Unpack[Options]) -> Stream:
    """Ninety tasks for a robot in MuJoCo, in twenty rooms.

    LIBERO-90: 50 demonstrations and 20 attempts a task. Needs `pip install "carryover[libero]"`.
    """
    return _suite("libero-90", data, **options)
