"""LIBERO's suites: which files each has, and the demonstrations of all its tasks, images decoded once."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ....base.errors import InvalidError, StorageError, unknown
from .. import data_root, own_cache
from ..decoded import PIECE, stored
from ..needs import Need, need
from .demonstrations import CAMERAS, PROPRIO, Demonstrations, Pairing
from .hdf5 import read_demonstrations
from .names import SUITES

FOLDER = "libero"  # under the folder of data sets
ACTION = 7
HOME = "https://huggingface.co/datasets/yifengzhu-hf/LIBERO-datasets"


def task_file(suite: str, task: str) -> str:
    """Path of a task's demonstrations below the folder of data sets: libero/libero_goal/turn_on_the_stove_demo.hdf5."""
    return f"{FOLDER}/{suite.replace('-', '_')}/{task}_demo.hdf5"


def suite_need(suite: str, root: Path, tasks: Sequence[str] | None = None) -> Need:
    """Whether the files of a suite, or of some of its tasks, are there."""
    if suite not in SUITES:
        raise unknown("suite of LIBERO", suite, SUITES)
    get = f"put the folder {suite.replace('-', '_')} of {HOME} into {FOLDER}"
    return need(suite, root, (tuple(task_file(suite, task) for task in tasks or SUITES[suite]),), get)


def load_suite(
    suite: str,
    data: str | Path | None = None,
    images: Sequence[str] = CAMERAS,
    proprio: Sequence[str] = PROPRIO,
    pairing: Pairing = "seen",
    tasks: Sequence[str] | None = None,
) -> tuple[Demonstrations, ...]:
    """The demonstrations of a suite's tasks in LIBERO's order, 50 each; images are memory maps.

    The images of a task are decoded once, into an array on disk in the folder "decoded" of the data sets, or of the
    user's cache where that cannot be written. It takes about as much room as the file.

    Args:
        suite: of `names.SUITES`.
        images, proprio, pairing: as for `hdf5.read_demonstrations`.
        tasks: some of them, in an order of one's own.

    Raises:
        UsageError: an unknown suite. StorageError: files are missing; the message says where they are to be had.
        InvalidError: a file is damaged.
    """
    root = data_root(data)
    told = suite_need(suite, root, tasks)
    tasks = tasks or SUITES[suite]
    if told.lacks:
        lacks = f"{len(told.lacks)} of its {len(tasks)} files, such as {root / told.lacks[0]}"
        raise StorageError(f"{suite} lacks {lacks}: {told.get}.")
    found = []
    for task in tasks:
        path = root / task_file(suite, task)
        one = read_demonstrations(path, images, proprio, pairing)
        if one.actions.shape[1] != ACTION:
            has = f"actions of {one.actions.shape[1]} numbers, not of {ACTION}"
            raise InvalidError(f"{path} has {has}: it is not LIBERO's. Instead, {told.get}.")
        if images:
            one = dataclasses.replace(one, images=_map(f"{suite}/{task}", path, one, pairing, root))
        found.append(one)
    return tuple(found)


def _map(name: str, path: Path, one: Demonstrations, pairing: Pairing, root: Path) -> np.ndarray:
    """The images of a task as a memory map, row by row with the actions."""
    header = {
        "actions": hashlib.sha256(one.actions.tobytes() + one.lengths.tobytes()).hexdigest(),
        "bytes": path.stat().st_size,
        "cameras": list(one.cameras),
        "version": 1,
    }
    pieces = (one.images[start : start + PIECE] for start in range(0, len(one.actions), PIECE))
    file = f"{name}-{pairing}-{'-'.join(one.cameras)}.npy"
    return stored(name, file, header, one.images.shape, pieces, [root / "decoded", own_cache() / "decoded"])
