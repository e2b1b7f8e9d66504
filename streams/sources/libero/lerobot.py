"""Demonstrations in the LeRobot copies at Hugging Face (layout v3.0): Parquet files of frames, with PNG inside.

`HuggingFaceVLA/libero` holds the forty tasks of the suites of ten, 1,693 demonstrations: those that succeeded when
they were replayed at 256 x 256, without the steps at which nothing moved. Its states are the gripper's place (3) and
turn (3, axis-angle) and the two fingers. Frames were taken before their action, so that rows are pairs as they stand.
Videos (`lerobot/libero`) are not read: they are lossy.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from ....base.errors import CarryoverError, InvalidError, StorageError, UsageError, unknown
from ....base.files import canonical, read_json
from .. import own_cache
from ..decoded import PIECE, stored
from ..needs import Need, need
from .demonstrations import CAMERAS, Demonstrations

COLUMNS = dict(zip(CAMERAS, ("observation.images.image", "observation.images.image2"), strict=True))
INSTEAD = "Take HuggingFaceVLA/libero, whose frames are PNG in Parquet files"
LIMIT = 2**24  # bytes of info.json
FOLDER = "libero/lerobot"  # under the folder of data sets


def lerobot_need(root: Path) -> Need:
    """Whether the copy is there, by the files that name its tasks."""
    home = "https://huggingface.co/datasets/HuggingFaceVLA/libero"
    form = [f"{FOLDER}/meta/{name}" for name in ("info.json", "tasks.parquet")]
    return need("libero-lerobot", root, (form,), f"put {home} into {FOLDER}")


def read_lerobot(folder: str | Path, task: str, images: Sequence[str] = CAMERAS) -> Demonstrations:
    """The demonstrations of a task; proprio [N, 8] as above; images [N, V, 3, H, W], upright and not mirrored.

    Images are decoded once, into a memory map in the user's cache folder (2.7 GB a task at 256 x 256).

    Args:
        folder: the copy: meta/info.json, meta/tasks.parquet, meta/episodes/, data/.
        task: its language, such as "turn on the stove".
        images: cameras by their names in LIBERO, of `COLUMNS`; () for none.

    Raises:
        StorageError: files are missing. UsageError: another task, camera, or layout. InvalidError: damage.
    """
    folder = Path(folder)
    _checked(folder, images)
    tasks = _tasks(folder)
    if task not in tasks:
        raise unknown("task", task, tasks)
    episodes = _episodes(folder, task)
    files = sorted({path for path, _ in episodes.values()})
    rows = [_frames(path, tasks[task]) for path in files]
    table = {key: np.concatenate([one[key] for one in rows]) for key in rows[0]}
    numbers, lengths = np.unique(table["episode_index"], return_counts=True)
    wanted = {number: length for number, (_, length) in episodes.items()}
    found = dict(zip(numbers.tolist(), lengths.tolist(), strict=True))
    if found != wanted or not _in_order(table):
        lost = sum(wanted.values()) - sum(found.values())
        raise InvalidError(f"{folder}: of {task!r} {lost} frames are missing, or out of order. Download it again.")
    pixels = _pixels(folder, task, tasks[task], images, files, table) if images else None
    return Demonstrations(
        language=task,
        actions=table["action"].astype(np.float32),
        proprio=table["observation.state"].astype(np.float32),
        lengths=lengths,
        images=pixels,
        cameras=tuple(images),
    )


def _checked(folder: Path, images: Sequence[str]) -> None:
    """Whether it is a copy that can be read."""
    info = read_json(folder / "meta" / "info.json", LIMIT)
    version, features = str(info.get("codebase_version")), info.get("features", {})
    if not version.startswith("v3."):
        raise UsageError(f"{folder} is in LeRobot's layout {version}, not v3.0. {INSTEAD}.")
    for camera in images:
        if camera not in COLUMNS:
            raise unknown("camera", camera, COLUMNS)
        kind = features.get(COLUMNS[camera], {}).get("dtype")
        if kind != "image":
            has = "MP4 videos" if kind == "video" else "nothing"
            raise UsageError(f"{folder} has {has} as {COLUMNS[camera]}, which is not read. {INSTEAD}.")


def _tasks(folder: Path) -> dict[str, int]:
    """Number of a task by its language, which is the index of a data frame, whatever its name."""
    table = _read(folder / "meta" / "tasks.parquet")
    names = next(column for name, column in table.items() if name != "task_index")
    return dict(zip(names, table["task_index"], strict=True))


def _episodes(folder: Path, task: str) -> dict[int, tuple[Path, int]]:
    """File and length by number, of a task's demonstrations."""
    found: dict[int, tuple[Path, int]] = {}
    columns = ["episode_index", "tasks", "length", "data/chunk_index", "data/file_index"]
    for path in sorted((folder / "meta" / "episodes").rglob("*.parquet")):
        for number, tasks, length, chunk, file in zip(*_read(path, columns).values(), strict=True):
            if task in tasks:
                found[number] = folder / "data" / f"chunk-{chunk:03}" / f"file-{file:03}.parquet", length
    if not found:
        raise InvalidError(f"{folder}/meta/episodes names no demonstration of {task!r}. Download it again.")
    return found


def _frames(path: Path, task: int) -> dict[str, np.ndarray]:
    """Rows of a file that are of a task, by column."""
    columns = ["episode_index", "frame_index", "task_index", "observation.state", "action"]
    table = {key: np.array(column) for key, column in _read(path, columns).items()}
    return {key: column[table["task_index"] == task] for key, column in table.items()}


def _in_order(table: dict[str, np.ndarray]) -> bool:
    """Whether demonstrations follow each other, each frame by frame from 0."""
    episode, frame = table["episode_index"], table["frame_index"]
    begins = np.append(True, episode[1:] != episode[:-1])
    follows = np.append(True, (episode[1:] > episode[:-1]) | (frame[1:] == frame[:-1] + 1))
    return bool(follows.all() and (frame[begins] == 0).all())


def _pixels(
    folder: Path, task: str, number: int, images: Sequence[str], files: list[Path], table: dict[str, np.ndarray]
) -> np.ndarray:
    columns = [COLUMNS[camera] for camera in images]
    sizes = [(str(path.relative_to(folder)), path.stat().st_size) for path in files]
    header = {
        "actions": hashlib.sha256(table["action"].tobytes()).hexdigest(),
        "cameras": list(images),
        "files": hashlib.sha256(canonical(sizes)).hexdigest(),
        "version": 1,
    }
    with closing(_decoded(files, columns, number, 1)) as frames:
        shape = (len(table["action"]), *next(frames).shape[1:])
    pieces = _decoded(files, columns, number, PIECE)
    file = f"libero-lerobot-{task.replace(' ', '_')}-{'-'.join(images)}.npy"
    return stored(f"libero: {task}", file, header, shape, pieces, [own_cache() / "decoded"])


def _decoded(files: list[Path], columns: list[str], number: int, piece: int) -> Iterator[np.ndarray]:
    """Images [n, V, 3, H, W] of a task, from so many frames at a time. They are all of one size."""
    import pyarrow.parquet

    sizes: set[tuple[int, ...]] = set()

    for path in files:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(piece, columns=["task_index", *columns]):
                rows = [row for row in batch.to_pylist() if row["task_index"] == number]
                pixels = [_image(row[column]["bytes"], path) for row in rows for column in columns]
                sizes |= {one.shape for one in pixels}
                if len(sizes) > 1:
                    raise InvalidError(f"{path} holds images of several sizes, {sorted(sizes)}. Download it again.")
                if rows:
                    yield np.stack(pixels).reshape(len(rows), len(columns), *pixels[0].shape)


def _image(data: bytes, path: Path) -> np.ndarray:
    """Pixels [3, H, W], the mirroring undone."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image.convert("RGB"))[:, ::-1].transpose(2, 0, 1)
    except Exception as error:  # decoders raise whatever they like on a broken file
        raise InvalidError(f"{path} holds an image that cannot be decoded: {error}. Download it again.") from None


def _read(path: Path, columns: list[str] | None = None) -> dict[str, list[Any]]:
    """Columns of a Parquet file."""
    import pyarrow.parquet

    if not path.is_file():
        raise StorageError(f"{path} does not exist. {INSTEAD}, whole.")
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            return file.read(columns).to_pydict()
    except CarryoverError:
        raise
    except Exception as error:  # Arrow's, of a damaged file
        reason = " ".join(str(error).split())
        raise InvalidError(f"{path} is no whole Parquet file: {reason}. Download it again.") from None
