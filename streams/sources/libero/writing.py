"""Demonstrations written in LIBERO's HDF5 layout, so that one loader reads LIBERO's suites and our own."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ....base.errors import UsageError
from ....base.files import replacing
from .demonstrations import Pairing
from .hdf5 import UPSIDE_DOWN, needs_h5py


def write_demonstrations(
    path: str | Path,
    actions: np.ndarray,
    observations: Mapping[str, np.ndarray],
    lengths: Sequence[int],
    *,
    states: np.ndarray | None = None,
    pairing: Pairing = "seen",
    language: str = "",
    bddl: str = "",
    attributes: Mapping[str, str] | None = None,
) -> None:
    """Write D demonstrations, N steps in all, whole or not at all; the same arrays make the same bytes.

    Row t of the observations and of the states is what was there when actions[t] was chosen. As the layout has it the
    other way round (see the folder's docstring), a step of zeros is put before each demonstration, whose outcome is the
    first observation, and the last observation stands twice: `read_demonstrations` gives back the rows as they are
    given here. With pairing="stored" rows are written as they stand.

    Args:
        path: TASK_demo.hdf5; the reader makes the language from it.
        actions: [N, A].
        observations: by key, such as "joint_states": [N, P]; images, such as "agentview_rgb": [N, 3, H, W] uint8,
            upright. "robot_states" are put beside the others, as LIBERO has them.
        lengths: [D] steps of each demonstration.
        states: [N, S] of the simulator; the first of each demonstration is its `init_state`.
        language: for `problem_info`, which LIBERO does not read.
        bddl: the goal file's text.
        attributes: more of the group "data": env_name, bddl_file_name, env_args, ...

    Raises:
        UsageError: lengths that do not agree. StorageError: no room, no permission, no h5py.
    """
    path = Path(path)
    needs_h5py(path)
    parts = {"actions": actions, **observations, **({} if states is None else {"states": states})}
    for key, part in parts.items():
        if len(part) != sum(lengths):
            raise UsageError(f"{key} has {len(part)} rows, but the lengths make {sum(lengths)}.")
    if not len(lengths) or min(lengths) < 1:
        raise UsageError("lengths names the steps of each demonstration, one at least.")
    info = {"problem_name": path.stem, "domain_name": "robosuite", "language_instruction": language}
    told = {
        "env_name": "",
        "problem_info": json.dumps(info),
        "macros_image_convention": UPSIDE_DOWN,
        "bddl_file_name": f"{path.stem.removesuffix('_demo')}.bddl",
        "bddl_file_content": bddl,
        "env_args": "{}",
        **(attributes or {}),
    }
    ends = np.cumsum(lengths)
    with replacing(path) as temporary:
        _write(temporary, told, [slice(e - n, e) for e, n in zip(ends, lengths, strict=True)], parts, pairing)


def _write(path: Path, told: dict[str, str], episodes: list[slice], parts: dict[str, np.ndarray], pairing: str) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs.update(told)
        rows = [_episode(data.create_group(f"demo_{d}"), at, parts, pairing) for d, at in enumerate(episodes)]
        data.attrs["num_demos"], data.attrs["total"] = len(rows), sum(rows)


def _episode(demo: Any, at: slice, parts: dict[str, np.ndarray], pairing: str) -> int:
    """Write one demonstration; the number of its steps in the file."""
    for key, part in parts.items():
        part = np.asarray(part[at])
        if key == "states":
            demo.attrs["init_state"] = part[0].astype(np.float64)
        if pairing == "seen":
            part = _after_a_still_step(key, part)
        inside = key in ("actions", "states", "robot_states")
        _put(demo, key if inside else f"obs/{key}", part)
    count = len(demo["actions"])
    last = (np.arange(count) == count - 1).astype(np.uint8)
    _put(demo, "rewards", last)
    _put(demo, "dones", last)
    demo.attrs["num_samples"] = count
    demo.attrs["model_file"] = ""
    return count


def _after_a_still_step(key: str, part: np.ndarray) -> np.ndarray:
    """One row more: observations come after their step, states before it."""
    if key == "actions":
        return np.concatenate([np.zeros_like(part[:1]), part])
    return np.concatenate([part[:1], part] if key == "states" else [part, part[-1:]])


def _put(demo: Any, key: str, part: np.ndarray) -> None:
    if part.ndim == 4:
        part = part[:, :, ::-1].transpose(0, 2, 3, 1)  # [L, H, W, 3], from the bottom up
    elif part.dtype.kind == "f":
        part = part.astype(np.float64)
    demo.create_dataset(key, data=np.ascontiguousarray(part), track_times=False)
