"""Photos decoded once into a memory map of equal squares, which every later run opens instead of decoding again."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

import numpy as np

from ...base.errors import CarryoverError, InvalidError, StorageError
from ...base.files import canonical, read_json, sync_folder, write_atomic
from ...base.machine import cores
from .pictures import Picture, contents

SIDE = 256  # pixels
PIECE = 256  # images decoded before they are written
EVERY = 10.0  # seconds between lines of progress
HEADER_LIMIT = 2**16  # bytes


def decoded(name: str, pictures: Sequence[Picture], folders: Sequence[Path], side: int = SIDE) -> np.ndarray:
    """Pixels [N, 3, side, side] uint8 of the pictures in their order, a read-only memory map.

    Each image is made RGB, its short side resized to `side` (bicubic) and the middle square taken, all by Pillow. The
    map is `NAME-SIDE.npy` in the first of `folders` that has one of these pictures, else it is made in the first that
    can be written; `NAME-SIDE.json` beside it says what it was made from. A map that is damaged, or of other pictures,
    is made anew.

    Raises:
        InvalidError: an image that cannot be decoded; nothing is left behind. StorageError: no room, no permission.
    """
    header = {
        "images": len(pictures),
        "pictures": contents(pictures),
        "recipe": f"RGB, short side to {side} pixels (bicubic), middle {side}x{side}",
        "version": 1,
    }
    shape = (len(pictures), 3, side, side)
    return stored(name, f"{name}-{side}.npy", header, shape, _squares(pictures, side), folders)


def stored(
    name: str, file: str, header: dict, shape: tuple[int, ...], pieces: Iterator[np.ndarray], folders: Sequence[Path]
) -> np.ndarray:
    """Images [N, ...] uint8 as a read-only memory map: one of `folders` has it, or it is made from `pieces`, once.

    Args:
        name: of messages.
        file: the map's, ending in .npy; a .json beside it holds the header.
        header: what the map is made from; a map with another header is made anew.
        pieces: gives the images in order, some at a time; nothing is drawn from it if the map is there.
    """
    paths = [folder / file for folder in folders]
    for path in paths:
        found = _opened(path, header, shape)
        if found is not None:
            return found
    path = next((path for path in paths if _writable(path.parent)), paths[0])
    _make(path, name, shape, pieces)
    write_atomic(path.with_suffix(".json"), canonical(header))
    found = _opened(path, header, shape)
    if found is None:
        raise StorageError(f"{path} was written but does not read back; is the disk sound?")
    return found


def square(picture: Picture, side: int = SIDE) -> np.ndarray:
    """Pixels [3, side, side] uint8 of one picture."""
    from PIL import Image

    try:
        with picture.open() as image:
            image = image.convert("RGB")
            w, h = image.size
            w, h = (side, side * h // w) if w <= h else (side * w // h, side)
            image = image.resize((w, h), Image.Resampling.BICUBIC)
            left, top = round((w - side) / 2), round((h - side) / 2)
            return np.ascontiguousarray(np.asarray(image.crop((left, top, left + side, top + side))).transpose(2, 0, 1))
    except CarryoverError:
        raise
    except Exception as error:  # decoders raise whatever they like on a broken file
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InvalidError(f"{picture.where} cannot be decoded: {reason}. Fetch it again.") from None


def _opened(path: Path, header: dict, shape: tuple[int, ...]) -> np.ndarray | None:
    """The map, if it is whole and was made from what the header says."""
    try:
        if read_json(path.with_suffix(".json"), HEADER_LIMIT) != header:
            return None
        found = np.lib.format.open_memmap(path, mode="r")
        whole = found.offset + found.nbytes == path.stat().st_size
    except (CarryoverError, OSError, ValueError):  # not there, cut short, or no array
        return None
    return found if whole and found.shape == shape and found.dtype == np.uint8 else None


def _make(path: Path, name: str, shape: tuple[int, ...], pieces: Iterator[np.ndarray]) -> None:
    """Write the map under a temporary name, then rename it: a reader sees a whole one or none."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    count, size, done = shape[0], math.prod(shape), 0
    tell = _Progress(f"{name}: decoding {count:,} images, once, into {path} ({size / 1e9:.1f} GB)")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file, closing(pieces):
            np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
            for piece in pieces:
                file.write(np.ascontiguousarray(piece))
                done += len(piece)
                tell(f"{name}: {done:,} of {count:,} images decoded")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        reason = f"cannot be written: {error.strerror}. It needs {size / 1e9:.1f} GB"
        raise StorageError(f"{path} {reason}; --data names another folder of data sets.") from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _squares(pictures: Sequence[Picture], side: int) -> Iterator[np.ndarray]:
    """Pixels [n, 3, side, side] of n pictures after the other, decoded on all cores."""
    pool = ThreadPoolExecutor(cores())
    try:
        for start in range(0, len(pictures), PIECE):
            yield np.stack(list(pool.map(lambda picture: square(picture, side), pictures[start : start + PIECE])))
    finally:
        pool.shutdown(cancel_futures=True)


class _Progress:
    """Lines on a terminal now and then, and silence elsewhere. Lines, since a live display may be above them."""

    def __init__(self, first: str) -> None:
        self.told = -EVERY
        self(first)

    def __call__(self, line: str) -> None:
        if sys.stderr.isatty() and time.monotonic() - self.told >= EVERY:
            self.told = time.monotonic()
            print(line, file=sys.stderr, flush=True)


def _writable(folder: Path) -> bool:
    """Whether the folder is there to be written, or could be made."""
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    return os.access(there, os.W_OK)
