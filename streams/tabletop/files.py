"""What is shown of a task, as the expert makes it or in LIBERO's HDF5 files, from which the same stream is learnt.

A file holds what LIBERO's hold as far as this world has it: `joint_states` is where the gripper is, `gripper_states`
whether it holds something, `entities` the tokens of all slots, `agentview_rgb` the table from above if it was asked
for; `bddl_file_content` is the task's text form. `sources.libero.hdf5.read_demonstrations` reads both.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...base.errors import InvalidError, UsageError, unknown
from ...base.files import replacing
from ..core import Stream
from ..sources.libero.hdf5 import read_demonstrations
from ..sources.libero.writing import write_demonstrations
from .attempts import VERSION, VIEW
from .camera import render
from .demonstrations import Demonstrations, demonstrate
from .observe import FLAT, ROBOT, flat
from .starts import COUNT, starts
from .suites import SUITES
from .tasks import TaskSpec, write
from .world import STATE, World

ACTIONS = 3
ROBOT_KEYS = ("joint_states", "gripper_states")  # in this order the robot's vector


@dataclass(frozen=True, eq=False)
class Shown:
    """Episodes of one task as a policy sees them, one after another, L steps in all.

    Attributes:
        actions: [L, 3]. lengths: [D] steps of each episode. first: [D, 51] the states that they begin in.
        seen: [L, 363] the robot, then slot after slot. pictures: [L, 3, S, S] uint8; None without a camera.
    """

    actions: Tensor
    lengths: Tensor
    first: Tensor
    seen: Tensor
    pictures: Tensor | None = None


def made(task: TaskSpec, count: int, seed: int, camera: int = 0) -> Shown:
    """As the expert demonstrates it. With a camera, pictures of so many pixels a side."""
    return _shown(demonstrate(task, count, seed), camera)


def read(folder: str | Path, suite: str, task: TaskSpec, count: int, seed: int, camera: int = 0) -> Shown:
    """The first demonstrations of a file that `export` wrote.

    Raises:
        StorageError: it is not there. UsageError: it holds fewer, or was made with another seed. InvalidError: it is
            damaged, or another task's.
    """
    path = task_file(folder, suite, task)
    views = (VIEW,) if camera else ()
    found = read_demonstrations(path, views, (*ROBOT_KEYS, "entities"), count=None)
    again = f"Export {suite} again"
    if found.bddl != write(task):
        raise InvalidError(f"{path} shows another task than {task.name}, or one of another version. {again}.")
    has = [0 if part is None else part.shape[1] for part in (found.actions, found.proprio, found.initial)]
    if has != [ACTIONS, FLAT, STATE]:
        wanted = f"[{ACTIONS}, {FLAT}, {STATE}]"
        raise InvalidError(f"{path}: actions, observations and states have {has} numbers, not {wanted}. {again}.")
    if found.images is not None and found.images.shape[2:] != (3, camera, camera):
        side = found.images.shape[-1]
        raise UsageError(f"{path} holds pictures of {side} pixels a side. Set stream.camera_size={side}.")
    if len(found) < count:
        raise UsageError(f"{path} holds {len(found)} demonstrations. Set stream.demonstrations={len(found)}.")
    first = torch.from_numpy(found.initial[:count]).float()
    if not first.equal(starts(task, "demonstrations", count, seed)):  # attempts would be of one seed, these of another
        raise UsageError(f"{path} was not made with seed {seed}. Set stream.seed to that of the export.")
    lengths = torch.from_numpy(found.lengths[:count])
    rows = int(lengths.sum())
    actions, seen = (torch.from_numpy(part[:rows]) for part in (found.actions, found.proprio))
    pictures = torch.from_numpy(found.images[:rows][:, 0]) if found.images is not None else None
    return Shown(actions, lengths, first, seen, pictures)


def export(stream: Stream, folder: str | Path) -> list[Path]:
    """Write what a stream of the table-top is learnt from, and 50 initial states of each task beside it.

    FOLDER/libero_object_mini/put_the_soup_in_the_basket_demo.hdf5, ..._init.npy [50, 51] float64, and so on. What the
    stream observes by a camera is in its files, too. Returns the paths.

    Raises:
        UsageError: another stream. StorageError: no room, no permission, no h5py.
    """
    if stream.name not in SUITES:
        raise unknown("stream of the table-top", stream.name, SUITES)
    paths = []
    for test in stream.tests:
        (task,) = test.tasks
        found = demonstrate(task, stream.meta["demonstrations"], stream.seed)
        path = task_file(folder, stream.name, task)
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, found, _shown(found, test.camera), stream.seed)
        initial = path.with_name(f"{path.stem.removesuffix('_demo')}_init.npy")
        with replacing(initial) as temporary, temporary.open("wb") as file:
            np.save(file, starts(task, "evaluation", COUNT, stream.seed).double().numpy())
        paths += [path, initial]
    return paths


def task_file(folder: str | Path, suite: str, task: TaskSpec) -> Path:
    """FOLDER/libero_90_mini/TABLE_SCENE7_open_the_drawer_demo.hdf5; the scene stands first where there are several."""
    _, *scene, _ = task.name.split("/")
    told = [f"TABLE_{one.replace('-', '').upper()}" for one in scene] + task.instruction.split()
    return Path(folder) / suite.replace("-", "_") / f"{'_'.join(told)}_demo.hdf5"


def _shown(found: Demonstrations, camera: int) -> Shown:
    rows = torch.zeros(len(found.states), dtype=torch.int64)
    pictures = render(World([found.task], rows, found.states), camera) if camera else None
    first = found.states[found.lengths.cumsum(0) - found.lengths]
    return Shown(found.actions, found.lengths, first, flat(found.robot, found.entities), pictures)


def _write(path: Path, found: Demonstrations, shown: Shown, seed: int) -> None:
    place, holds, entities = shown.seen.split([ROBOT - 1, 1, FLAT - ROBOT], 1)
    observed = {**dict(zip(ROBOT_KEYS, (place, holds), strict=True)), "entities": entities}
    observed |= {"robot_states": found.robot} | ({} if shown.pictures is None else {VIEW: shown.pictures})
    write_demonstrations(
        path,
        shown.actions.numpy(),
        {key: part.numpy() for key, part in observed.items()},
        shown.lengths.tolist(),
        states=found.states.numpy(),
        language=found.task.instruction,
        bddl=write(found.task),
        attributes={"env_name": "tabletop", "env_args": json.dumps({"version": VERSION, "seed": seed})},
    )
