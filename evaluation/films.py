"""Films of a run: the first attempt of every task, right after the task was learnt and after the last one.

A cell of the matrix counts attempts; a film shows one of them. Films are made while attempts are scored anyway, kept in
`films/seed-N.safetensors` beside the record, and are no part of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..base.errors import InvalidError, MismatchError, StorageError
from ..streams.core import Stream
from ..streams.film import Film
from .checkpoint import load_state, save_state
from .folder import RunFolder
from .record import RunRecord


@dataclass(frozen=True)
class Take:
    """A film of the first attempt at a task (0-based) after `row` tasks were learnt."""

    row: int
    task: int
    success: bool
    film: Film

    def state_dict(self) -> dict[str, Any]:
        """For checkpoints and files."""
        return {
            "row": self.row,
            "task": self.task,
            "success": self.success,
            "shots": self.film.shots,
            "scene": self.film.scene,
        }

    @classmethod
    def of(cls, state: dict[str, Any]) -> Take:
        """The same again."""
        return cls(state["row"], state["task"], state["success"], Film(state["shots"], state["scene"]))


def due(seen: int, tasks: int) -> list[int]:
    """Tasks that are filmed after `seen` of all tasks: the one just learnt; in the end, every one."""
    return list(range(tasks)) if seen == tasks else list(range(seen))[-1:]


def save_films(path: Path, stream: Stream, takes: Sequence[Take]) -> None:
    """Write the films of a seed, whole or not at all."""
    save_state(path, {"stream": stream.fingerprint, "takes": [take.state_dict() for take in takes]})


def load_films(folder: Path, record: RunRecord) -> tuple[int, list[Take]]:
    """The first seed of a record of which there are films in its folder, and these.

    Raises:
        StorageError: there are none. InvalidError: the file is damaged. MismatchError: it belongs to another stream.
    """
    seed = next((seed for seed in record.seeds if RunFolder(folder).films(seed).exists()), None)
    if seed is None:
        raise StorageError(
            f"{folder} holds no films. A run keeps some where attempts can be watched, as in libero-object-mini."
        )
    path, mend = RunFolder(folder).films(seed), "Remove it, and run the seed again for another."
    state = load_state(path, "film file", mend)
    try:
        if state["stream"] != record.stream.fingerprint:
            raise MismatchError(f"{path} is of another stream than the record in its folder. {mend}")
        return seed, [Take.of(take) for take in state["takes"]]
    except (KeyError, TypeError):
        raise InvalidError(f"{path} is not a film file. {mend}") from None
