"""Meta-World's simulator (Yu et al., CoRL 2019, arXiv 1910.10897; version 3), and its scripted experts' demonstrations.

Nothing here renders: an observation is 39 numbers, and a step is 0.25 to 0.6 ms of one core, mostly Python's.
Demonstrations are recorded when they are first asked for and kept in the folder of data sets. MuJoCo's last digits
differ among its versions, and perhaps machines; contacts make much of a last digit. A file therefore names versions.
"""

from __future__ import annotations

import hashlib
import sys
import time
import warnings
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...base.errors import CarryoverError, InvalidError, StorageError
from ...base.files import read_bytes, write_atomic
from ...base.seeds import derive, frozen_random
from . import data_root

OBSERVED, ACTIONS = 39, 4  # numbers of an observation and of an action
TREMBLE = 0.2  # deviation of what is added to an executed x, y and z, in full actions
PATIENCE = 4  # so many episodes are tried for each that is wanted
EVERY = 10.0  # seconds between lines of progress
FIELDS = {"observations", "actions", "lengths", "tried"}


class World:
    """One simulated robot with the things of one task. It is started again and again, as it takes 20 MB and 0.1 s."""

    def __init__(self, task: str) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.env = _package("metaworld.env_dict").ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE[f"{task}-v3-goal-observable"](
                seed=0  # without one it draws from the global generator
            )
        self.env.seeded_rand_vec, self.env._freeze_rand_vec = True, False  # starts are drawn, by what it is seeded with

    def start(self, seed: int) -> None:
        """Things and the goal where the seed puts them."""
        self.env.seed(seed)
        self.seen = self.env.reset()[0]  # [39] float64
        self.steps, self.success = 0, False

    def step(self, action: np.ndarray) -> None:
        """Action [4]: x, y, z of the hand and the fingers' force, each from -1 to 1. A success lasts."""
        self.seen, _, _, _, info = self.env.step(np.clip(action, -1, 1))
        self.steps, self.success = self.steps + 1, self.success or bool(info["success"])


@cache
def world(task: str, number: int = 0) -> World:
    """One of the worlds of a task, made once a process."""
    return World(task)


def expert(task: str) -> Any:
    """Meta-World's own policy of a task: [39] to [4]."""
    return _package("metaworld.policies").ENV_POLICY_MAP[f"{task}-v3"]().get_action


def versions() -> dict[str, str]:
    """Of the packages that an attempt's end depends on."""
    _package("metaworld.env_dict")
    return {name: version(name) for name in ("metaworld", "mujoco")}


def start_seed(task: str, purpose: str, seed: int, number: int) -> int:
    """What a world is started with: a function of (task, purpose, seed, number)."""
    return derive("metaworld start", task, purpose, seed, number)


@dataclass(frozen=True, eq=False)
class Recording:
    """Successful episodes of a task's expert, one after another, L steps in all.

    Attributes:
        observations: [L, 39] float32, before each step. actions: [L, 4] what the expert wanted, within [-1, 1].
        lengths: [D] steps of each episode; the last one succeeds. tried: how many episodes that took.
    """

    observations: Tensor
    actions: Tensor
    lengths: Tensor
    tried: int

    @property
    def dropped(self) -> int:
        """Episodes without success, which are not here."""
        return self.tried - len(self.lengths)


def record(task: str, count: int, purpose: str, seed: int, horizon: int) -> Recording:
    """The first `count` successes of the expert with a trembling hand: what it wanted is the label, as in DART.

    Noise on the executed x, y and z takes it to where a learner will stray (Laskey et al., 2017, arXiv 1703.09327).
    """
    place, policy, tell = world(task), expert(task), _Progress()
    seen, wanted, lengths, tried = [], [], [], 0
    while len(lengths) < count:
        if tried == PATIENCE * count + PATIENCE:
            raise InvalidError(
                f"task {task}: the expert succeeded in {len(lengths)} of {tried} episodes of {horizon} steps; "
                "give it a longer horizon."
            )
        place.start(start_seed(task, purpose, seed, tried))
        noise = frozen_random("metaworld noise", task, purpose, seed, tried).standard_normal((horizon, ACTIONS))
        steps = []
        while place.steps < horizon and not place.success:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of experts that ask for more than a full action
                action = np.clip(policy(place.seen), -1, 1)
            steps.append((place.seen, action))
            place.step(action + TREMBLE * noise[place.steps] * (1, 1, 1, 0))
        tried += 1
        if place.success:
            lengths.append(len(steps))
            seen += [s for s, _ in steps]
            wanted += [a for _, a in steps]
        tell(f"{task}: {len(lengths):,} of {count:,} demonstrations recorded, once")
    return Recording(_floats(seen), _floats(wanted), torch.tensor(lengths), tried)


def recorded(task: str, count: int, purpose: str, seed: int, horizon: int, data: str | Path | None = None) -> Recording:
    """The same from the folder of data sets, where it is kept; a file that is damaged, or of other versions, is remade.

    Raises:
        StorageError: Meta-World is not installed, or the file cannot be written.
    """
    about = {"task": task, "count": str(count), "purpose": purpose, "seed": str(seed), "horizon": str(horizon)}
    about |= {"noise": str(TREMBLE), **versions()}
    path = data_root(data) / "metaworld" / f"{task}-{purpose}-{count}-h{horizon}-s{seed}.safetensors"
    found = _read(path, about)
    if found is None:
        found = record(task, count, purpose, seed, horizon)
        _write(path, found, about)
    return found


def _write(path: Path, made: Recording, about: dict[str, str]) -> None:
    from safetensors.torch import save

    parts = {**vars(made), "tried": torch.tensor(made.tried)}
    write_atomic(path, save(parts, about | {"sha256": _digest(parts)}))


def _read(path: Path, about: dict[str, str]) -> Recording | None:
    """The file's recording, if it is whole and is about what it should be."""
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load

    with suppress(CarryoverError, SafetensorError, OSError):
        parts = load(read_bytes(path))
        with safe_open(path, "pt") as file:
            told = file.metadata()
        if set(parts) == FIELDS and told == about | {"sha256": _digest(parts)}:
            return Recording(parts["observations"], parts["actions"], parts["lengths"], int(parts["tried"]))
    return None


def _digest(parts: dict[str, Tensor]) -> str:
    total = hashlib.sha256()
    for name in sorted(FIELDS):
        total.update(f"{name}{tuple(parts[name].shape)}".encode() + parts[name].numpy().tobytes())
    return total.hexdigest()


def _floats(rows: list[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(rows).astype(np.float32))


def _package(name: str) -> Any:
    """A module of Meta-World."""
    from importlib import import_module

    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("metaworld", "mujoco", "gymnasium"):
            raise
        raise StorageError('Meta-World is not installed. Run: pip install "carryover[robot]".') from None


class _Progress:
    """Lines on a terminal now and then, and silence elsewhere."""

    def __init__(self) -> None:
        self.told = time.monotonic()

    def __call__(self, line: str) -> None:
        if sys.stderr.isatty() and time.monotonic() - self.told >= EVERY:
            self.told = time.monotonic()
            print(line, file=sys.stderr, flush=True)
