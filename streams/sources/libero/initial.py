"""LIBERO's initial states: pickles that torch saved, parsed here instruction by instruction, and never run.

A `.pruned_init` file holds one float64 array, [50, S]. Unpickling would call whatever function the file names. Here the
instructions are interpreted by hand: what an array of floats is made with is understood, all else is refused.
"""

from __future__ import annotations

import io
import math
import pickletools
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ....base.errors import CarryoverError, InvalidError
from ....base.files import read_bytes

LIMIT = 2**26  # bytes
LEGACY = 3  # pickles before the one that matters, in files of torch before 1.6: magic number, version, system
KINDS = {"f4", "f8"}
PUSHED = {
    "BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES",
    "SHORT_BINBYTES", "BINBYTES8",
}  # fmt: skip
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
STORED, FETCHED = {"BINPUT", "LONG_BINPUT", "PUT"}, {"BINGET", "LONG_BINGET", "GET"}
MARK = object()


class _Name(str):
    """A module and a name in it, that the file speaks of."""


def read_initial_states(path: str | Path) -> np.ndarray:
    """States [n, S] float64 of a `.pruned_init` or `.init` file of LIBERO's, or of a `.npy` file.

    Raises:
        StorageError: it is not there. InvalidError: it is damaged, or holds anything but one matrix of floats.
    """
    path = Path(path)
    data = read_bytes(path, LIMIT)
    try:
        states = np.load(io.BytesIO(data), allow_pickle=False) if data[:6] == b"\x93NUMPY" else _saved(data, path)
        if states.ndim != 2 or states.dtype.kind != "f" or not np.isfinite(states).all():
            raise ValueError(f"its array {states.shape} of {states.dtype} is not a matrix of finite floats")
        return states.astype(np.float64)
    except CarryoverError:
        raise
    except Exception as error:  # whatever a damaged file leads to
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InvalidError(
            f"{path} holds no initial states: {reason}. Take LIBERO's own, or an array that numpy.save wrote."
        ) from None


def _saved(data: bytes, path: Path) -> np.ndarray:
    """The array of a file that torch saved, in its zip format or in the one before."""
    if data[:2] == b"PK":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            member = next((one for one in archive.infolist() if one.filename.endswith("/data.pkl")), None)
            if member is None or member.file_size > LIMIT:
                raise ValueError("the archive has no data.pkl of a sound size")
            return _interpreted(pickletools.genops(archive.read(member)), path)
    stream = io.BytesIO(data)
    for _ in range(LEGACY):
        for _ in pickletools.genops(stream):
            pass
    return _interpreted(pickletools.genops(stream), path)


def _interpreted(instructions: Iterator, path: Path) -> np.ndarray:
    """What the instructions leave on the stack, if it is an array."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    for code, value, _ in instructions:
        if code.name in PUSHED:
            stack.append(value)
        elif code.name in CONSTANTS:
            stack.append(CONSTANTS[code.name])
        elif code.name == "GLOBAL":
            stack.append(_Name(value.replace("numpy._core", "numpy.core")))
        elif code.name == "STACK_GLOBAL":
            name, module = stack.pop(), stack.pop()
            stack.append(_Name(f"{module} {name}".replace("numpy._core", "numpy.core")))
        elif code.name == "MARK":
            stack.append(MARK)
        elif code.name == "TUPLE":
            start = max(i for i, one in enumerate(stack) if one is MARK)
            stack[start:] = [tuple(stack[start + 1 :])]
        elif code.name in TUPLES:
            count = TUPLES[code.name]
            stack[-count:] = [tuple(stack[-count:])]
        elif code.name == "REDUCE":
            arguments, name = stack.pop(), stack.pop()
            stack.append(_called(name, arguments, path))
        elif code.name == "BUILD":
            state, half = stack.pop(), stack.pop()
            stack.append(_built(half, state))
            memo = {key: stack[-1] if one is half else one for key, one in memo.items()}
        elif code.name in STORED:
            memo[value] = stack[-1]
        elif code.name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif code.name in FETCHED:
            stack.append(memo[value])
        elif code.name not in ("PROTO", "FRAME", "STOP"):
            raise ValueError(f"it has the instruction {code.name}, which no array of floats needs")
    (array,) = stack
    if not isinstance(array, np.ndarray):
        raise ValueError("it is a pickle of something else than a NumPy array")
    return array


def _called(name: Any, arguments: Any, path: Path) -> Any:
    """What a function would give, of the three that arrays are made with."""
    match name, arguments:
        case _Name("_codecs encode"), (str(text), "latin1"):
            return text.encode("latin1")
        case _Name("numpy dtype"), (str(kind), *_) if kind in KINDS:
            return ["dtype", kind]
        case _Name("numpy.core.multiarray _reconstruct"), (_Name("numpy ndarray"), *_):
            return ["array"]
    named = name if isinstance(name, _Name) else "something without a name"
    raise InvalidError(
        f"{path} would run {named.replace(' ', '.')} when unpickled, and is refused: an array of floats needs no such "
        "thing. Take LIBERO's own file."
    )


def _built(half: Any, state: Any) -> Any:
    """A type with its byte order, or an array with its contents."""
    match half, state:
        case ["dtype", kind], (_, "<" | ">" as order, *_):
            return np.dtype(order + kind)
        case ["array"], (_, tuple(shape), np.dtype() as dtype, bool(by_column), bytes(contents)):
            if math.prod(shape) * dtype.itemsize != len(contents):
                raise ValueError(f"its array {shape} has {len(contents):,} bytes")
            return np.frombuffer(contents, dtype).reshape(shape, order="F" if by_column else "C")
    raise ValueError("it builds something else than an array of floats")
