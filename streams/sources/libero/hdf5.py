"""Demonstrations in LIBERO's HDF5 files, data/demo_0/{actions, obs/agentview_rgb, ...}, as its scripts write them."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from ....base.errors import CarryoverError, InvalidError, StorageError
from ...rows import Rows
from .demonstrations import CAMERAS, PROPRIO, Demonstrations, Pairing, paired
from .names import language

COUNT = 50  # demonstrations of a task
UPSIDE_DOWN = "opengl"  # the image convention of LIBERO's files; the other is "opencv"
AGAIN = "Download it again"


def read_demonstrations(
    path: str | Path,
    images: Sequence[str] = CAMERAS,
    proprio: Sequence[str] = PROPRIO,
    pairing: Pairing = "seen",
    count: int | None = COUNT,
) -> Demonstrations:
    """The demonstrations of a file TASK_demo.hdf5, in the order of their numbers. Images stay in the file.

    Args:
        images: cameras, by their names in the file; () for none.
        proprio: observations that make up a row of `proprio`, in this order.
        pairing: which observation goes with an action; see `demonstrations.paired`.
        count: how many there should be: another number is warned of. None for any.

    Raises:
        StorageError: the file, or h5py, is not there. InvalidError: it is cut short, or lacks something.
    """
    path = Path(path)
    with opened(path) as file:
        data = _part(file, "data", path)
        names = numbered(data)
        if not names:
            raise InvalidError(f"{path} holds no demonstrations (data/demo_0, ...). {AGAIN}.")
        if count is not None and len(names) != count:
            warnings.warn(f"{path} holds {len(names)} demonstrations, not {count}.", stacklevel=2)
        demos = [_part(data, name, path) for name in names]
        actions = [_matrix(demo, "actions", None, path) for demo in demos]
        lengths = [len(a) for a in actions]
        least = 1 if pairing == "stored" else 2
        if min(lengths) < least:
            short = names[lengths.index(min(lengths))]
            raise InvalidError(f"{path}: {short} has {min(lengths)} steps, and {least} make a row. {AGAIN}.")
        robot = [
            np.concatenate([_matrix(demo, f"obs/{key}", n, path) for key in proprio] or [np.empty((n, 0))], 1)
            for demo, n in zip(demos, lengths, strict=True)
        ]
        initial = [demo.attrs["init_state"] for demo in demos if "init_state" in demo.attrs]
        text = data.attrs.get("bddl_file_content", "")
        shown, done = paired(lengths, pairing)
        return Demonstrations(
            language=language(path.stem.removesuffix("_demo")),
            actions=np.concatenate(actions)[done].astype(np.float32),
            proprio=np.concatenate(robot)[shown].astype(np.float32),
            lengths=np.array(lengths) - (least - 1),
            images=Rows(Frames(path, images, file), shown) if images else None,
            cameras=tuple(images),
            bddl=text.decode() if isinstance(text, bytes) else str(text),
            initial=np.stack(initial).astype(np.float64) if len(initial) == len(demos) else None,
        )


class Frames:
    """All stored frames of a file as an array [N, V, 3, H, W] uint8, upright, of which only what is asked for is read.

    The file is opened for each reading, so that a copy in another process reads as well.
    """

    dtype, ndim = np.dtype(np.uint8), 5

    def __init__(self, path: Path, cameras: Sequence[str], file: Any) -> None:
        self.path, self.cameras = path, tuple(cameras)
        data = file["data"]
        self._names = numbered(data)
        convention = data.attrs.get("macros_image_convention", UPSIDE_DOWN)
        self._flipped = (convention.decode() if isinstance(convention, bytes) else convention) == UPSIDE_DOWN
        shapes = [(name, key, _part(data[name], f"obs/{key}", path)) for name in self._names for key in self.cameras]
        side = shapes[0][2].shape[1:3]
        for name, key, stored in shapes:
            wanted = (len(data[name]["actions"]), *side, 3)
            if stored.shape != wanted or stored.dtype != np.uint8:
                has = f"{stored.shape} {stored.dtype}"
                raise InvalidError(f"{path}: {name}/obs/{key} is {has}, not {wanted} uint8. {AGAIN}.")
        self._ends = np.cumsum([len(data[name]["actions"]) for name in self._names])
        self.shape = (int(self._ends[-1]), len(self.cameras), 3, *side)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: int | slice | np.ndarray) -> np.ndarray:
        rows = np.arange(len(self))[key]
        if rows.ndim == 0:
            return self[rows[None]][0]
        found = np.empty((len(rows), *self.shape[1:]), np.uint8)
        demo = np.searchsorted(self._ends, rows, side="right")
        with opened(self.path) as file:
            for d in np.unique(demo):
                at = np.flatnonzero(demo == d)
                wanted, place = np.unique(rows[at] - (self._ends[d - 1] if d else 0), return_inverse=True)
                run = slice(wanted[0], wanted[-1] + 1)
                for v, camera in enumerate(self.cameras):
                    stored = file[f"data/{self._names[d]}/obs/{camera}"]
                    read = stored[run] if len(wanted) == run.stop - run.start else stored[wanted]  # [n, H, W, 3]
                    upright = read[:, ::-1] if self._flipped else read
                    found[at, v] = upright.transpose(0, 3, 1, 2)[place]
        return found


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The file, to be read. What is wrong with it, then or while it is read, is one line."""
    needs_h5py(path)
    import h5py

    if not path.is_file():
        raise StorageError(f"{path} does not exist.")
    try:
        with h5py.File(path, "r", locking="best-effort") as file:  # shared disks may know no locks
            yield file
    except CarryoverError:
        raise
    except (OSError, RuntimeError, KeyError) as error:  # h5py's, of a damaged file
        raise InvalidError(f"{path} is no whole HDF5 file: {' '.join(str(error).split())}. {AGAIN}.") from None


def needs_h5py(path: Path) -> None:
    """One line if it is not installed."""
    if find_spec("h5py") is None:
        raise StorageError(f'{path} needs h5py, which is not installed. Run: pip install "carryover[robot]".')


def numbered(data: Any) -> list[str]:
    """demo_0, demo_1, ... by their numbers, not by their letters."""
    return sorted((name for name in data if re.fullmatch(r"demo_\d+", name)), key=lambda name: int(name[5:]))


def _part(group: Any, name: str, path: Path) -> Any:
    """A group or an array below a group."""
    if name not in group:
        above, _, last = name.rpartition("/")
        beside = ", ".join(group[above] if above and above in group else group)
        where = f"{group.name}/{above}".replace("//", "/").strip("/") or "the file"
        raise InvalidError(
            f"{path}: {where} has no {last}, only {beside or 'nothing'}. Name others, or download it again."
        )
    return group[name]


def _matrix(demo: Any, name: str, rows: int | None, path: Path) -> np.ndarray:
    """An array [rows, ...] of finite numbers."""
    found = np.asarray(_part(demo, name, path))
    if found.ndim != 2 or found.dtype.kind not in "fiu" or (rows is not None and len(found) != rows):
        wanted = f"({'L' if rows is None else rows}, ...)"
        raise InvalidError(f"{path}: {demo.name}/{name} is {found.shape} {found.dtype}, not {wanted}. {AGAIN}.")
    if not np.isfinite(found).all():
        raise InvalidError(f"{path}: {demo.name}/{name} holds a number that is not finite. {AGAIN}.")
    return found
