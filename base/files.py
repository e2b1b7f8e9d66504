"""Files that are whole or absent: canonical JSON, strict reading, atomic writing."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .errors import InvalidError, StorageError


def canonical(value: Any) -> bytes:
    """The one byte string of a JSON value: sorted keys, UTF-8, no spaces. Hashes are taken over this."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def sha256(data: bytes) -> str:
    """Hexadecimal SHA-256."""
    return hashlib.sha256(data).hexdigest()


def read_bytes(path: Path, limit: int | None = None) -> bytes:
    """The file's bytes; a missing, unreadable or oversized file answers in one line.

    Args:
        limit: bytes; the size is checked before anything is read.
    """
    try:
        if path.is_dir():
            raise StorageError(f"{path} is a folder, not a file.")
        size = path.stat().st_size
        if limit is not None and size > limit:
            raise InvalidError(f"{path} has {size:,} bytes, more than the {limit:,} allowed.")
        return path.read_bytes()
    except FileNotFoundError:
        raise StorageError(f"{path} does not exist.") from None
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}.") from None


def parse_json(data: bytes, where: str | Path, depth: int = 32) -> Any:
    """JSON without its traps: duplicate keys, NaN, Infinity, overflowing numbers and absurd nesting are refused."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in pairs]
        if len(set(keys)) != len(keys):
            twice = next(key for key in keys if keys.count(key) > 1)
            raise InvalidError(f"{where}: the key {twice!r} occurs twice in one object.")
        return dict(pairs)

    def constant(text: str) -> Any:
        raise InvalidError(f"{where}: {text} is not a JSON number.")

    def finite(text: str) -> float:
        value = float(text)
        if value in (float("inf"), float("-inf")):
            raise InvalidError(f"{where}: the number {text[:20]} is out of range.")
        return value

    if _nesting(data) > depth:
        raise InvalidError(f"{where}: nested deeper than {depth} levels.")
    try:
        return json.loads(data.decode(), object_pairs_hook=unique, parse_constant=constant, parse_float=finite)
    except UnicodeDecodeError as error:
        raise InvalidError(f"{where}: not UTF-8 at byte {error.start}.") from None
    except json.JSONDecodeError as error:
        raise InvalidError(f"{where}: not JSON: {error.msg} at line {error.lineno}, column {error.colno}.") from None
    except ValueError:  # an integer of more digits than Python converts
        raise InvalidError(f"{where}: holds a number that is too long.") from None


def read_json(path: Path, limit: int | None = None) -> Any:
    """`parse_json` of a file."""
    return parse_json(read_bytes(path, limit), path)


def write_atomic(path: Path, data: bytes) -> None:
    """Write so that a reader, or a crash at any moment, sees either the old file or the whole new one."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Where to write a file that takes the place of `path` once it is whole, and leaves nothing if it never is.

    The temporary file stands beside the target and is named after the process, so that two writers do not share it.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        reason = error.strerror or " ".join(str(error).split())  # HDF5's errors have no number
        raise StorageError(f"{path} cannot be written: {reason}.") from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make a rename in this folder survive a power cut, where the system can."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _nesting(data: bytes) -> int:
    """The deepest level of brackets outside strings: cheap, and safe on input that would overflow a parser."""
    depth = deepest = 0
    inside = escaped = False
    for byte in data:
        if inside:
            if escaped:
                escaped = False
            elif byte == 0x5C:
                escaped = True
            elif byte == 0x22:
                inside = False
        elif byte == 0x22:
            inside = True
        elif byte in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"]}":
            depth -= 1
    return deepest
