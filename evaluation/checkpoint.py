"""Checkpoints: one safetensors file, written whole or not at all, read without running any code.

Tensors are stored as tensors; the structure around them (dicts, lists, numbers) as JSON in the file's header, with a
SHA-256 over both, so that a damaged file is refused instead of silently trained on.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ..base.errors import InvalidError, StorageError
from ..base.files import write_atomic


def save_state(path: Path, state: Any) -> None:
    """Write nested dicts (keys str or int) and lists of tensors and plain values."""
    tensors: dict[str, Tensor] = {}
    skeleton = json.dumps(_take_apart(state, tensors))
    header = {"state": skeleton, "sha256": _digest(skeleton, tensors)}
    write_atomic(path, save(tensors, metadata=header))


def load_state(
    path: Path, what: str = "checkpoint", mend: str = "Remove it to start this seed from the beginning."
) -> Any:
    """What `save_state` wrote, tensors on the CPU. A truncated or altered file answers in one line."""
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        if header["sha256"] != _digest(header["state"], tensors):
            raise InvalidError(f"the {what} {path} is damaged: its contents do not match its SHA-256. {mend}")
        return _put_together(json.loads(header["state"]), tensors)
    except FileNotFoundError:
        raise StorageError(f"the {what} {path} does not exist.") from None
    except OSError as error:
        raise StorageError(f"the {what} {path} cannot be read: {error.strerror or error}.") from None
    except (SafetensorError, json.JSONDecodeError, KeyError, ValueError, TypeError):
        raise InvalidError(f"the {what} {path} is truncated or not a {what}. {mend}") from None


def _take_apart(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Replace tensors by references; tag dicts, so that integer keys survive JSON."""
    if isinstance(value, Tensor):
        name = f"{len(tensors):06d}"
        # a clone of its own: a view would drag its whole storage along
        tensors[name] = value.detach().to("cpu", copy=True).contiguous()
        return {"tensor": name}
    if isinstance(value, dict):
        return {"dict": [[key, _take_apart(item, tensors)] for key, item in value.items()]}
    if isinstance(value, (list, tuple)):
        return [_take_apart(item, tensors) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"a checkpoint holds tensors, numbers, strings, lists and dicts, not {type(value).__name__}")


def _put_together(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_put_together(item, tensors) for item in value]
    if isinstance(value, dict):
        if "tensor" in value:
            return tensors[value["tensor"]]
        return {key: _put_together(item, tensors) for key, item in value["dict"]}
    return value


def _digest(skeleton: str, tensors: dict[str, Tensor]) -> str:
    total = hashlib.sha256(skeleton.encode())
    for name in sorted(tensors):
        total.update(f"{name}{tensors[name].dtype}{list(tensors[name].shape)}".encode())
        total.update(tensors[name].contiguous().reshape(-1).view(torch.uint8).numpy())
    return total.hexdigest()
