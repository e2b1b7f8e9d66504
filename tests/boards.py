"""Runs that never ran: records with plausible counts and evidence that adds up to them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from carryover.base.files import sha256
from carryover.evaluation.record import RunRecord, evidence_path, pack_evidence
from carryover.leaderboard.rules import Manifest
from carryover.leaderboard.store import Board
from carryover.leaderboard.submission import make_submission

SIZES = [40, 40, 30, 50]
FINGERPRINT = "ab" * 32
BENCH = Manifest(
    name="toy-digits",
    version=1,
    title="Toy digits, four tasks",
    summary="Eight classes of small digits arrive two at a time.",
    stream="toy-digits",
    setting="cil",
    test_sizes=SIZES,
    fingerprint=FINGERPRINT,
    seeds=[0, 1, 2, 3, 4],
)


def find(name: str, version: int) -> Manifest | None:
    """The one benchmark that is installed here."""
    return BENCH if (name, version) == (BENCH.name, BENCH.version) else None


def make_value(
    folder: Path,
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4),
    skill: float = 0.9,
    memory: float = 0.8,
    sizes: list[int] = SIZES,
    noise: float = 0.02,
    **changes: object,
) -> dict:
    """A record as JSON, and its evidence in the folder.

    Args:
        skill: accuracy on a task that was just learnt.
        memory: share of an accuracy that survives each later task.
        changes: replace top-level parts of the record, or merge into them where both are objects.
    """
    tasks, runs = len(sizes), []
    (folder / "evidence").mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        draw = np.random.RandomState([seed, int(1000 * skill), int(1000 * memory)])
        rows = []
        for i in range(tasks + 1):
            parts = []
            for j, n in enumerate(sizes):
                level = (skill + draw.normal(0, noise)) * memory ** (i - 1 - j) if j < i else 0.0
                right = np.zeros(n, bool)
                right[: int(round(np.clip(level, 0, 1) * n))] = True
                parts.append(draw.permutation(right))
            rows.append(np.concatenate(parts))
        data = pack_evidence(rows)
        evidence_path(folder, seed).write_bytes(data)
        ends = np.cumsum(sizes)[:-1]
        runs.append(
            {
                "seed": seed,
                "status": "complete",
                "correct": [[int(part.sum()) for part in np.split(row, ends)] for row in rows],
                "evidence": {"sha256": sha256(data), "bytes": len(data)},
                "cost": {
                    "train_flops": int(2e10 * skill / memory**3),
                    "eval_flops": 10**9,
                    "params_total": 89_610,
                    "params_trained": 89_610,
                    "replay_bytes": 12_800,
                },
            }
        )
    value = {
        "benchmark": {"name": "toy-digits", "version": 1},
        "stream": {
            "name": "toy-digits",
            "version": 1,
            "seed": 0,
            "setting": "cil",
            "task_id_at_test": False,
            "label_space": "seen",
            "fingerprint": FINGERPRINT,
            "tasks": [f"digits {2 * j} and {2 * j + 1}" for j in range(tasks)],
            "classes": [[2 * j, 2 * j + 1] for j in range(tasks)],
            "test_sizes": list(sizes),
        },
        "strategy": {"name": "replay", "config": {"lr": 0.05, "buffer": 200}},
        "runs": runs,
        "provenance": {"carryover": "0.1.0", "commit": "c" * 40, "dirty": False, "created": "2026-01-01T00:00:00Z"},
    }  # fmt: skip
    for key, change in changes.items():
        merge = isinstance(change, dict) and isinstance(value.get(key), dict)
        value[key] = {**value[key], **change} if merge else change
    return value


def make_run(folder: Path, **changes: object) -> Path:
    """A run's folder with `record.json` and evidence; see `make_value`."""
    RunRecord.parse(make_value(folder, **changes), folder).save(folder)
    return folder


def enter(board: Board, folder: Path, who: str = "ada", name: str = "Replay", day: int = 1, **changes: object) -> str:
    """Make a run, submit it, and give back its id."""
    method = {key: changes.pop(key) for key in ("description", "links") if key in changes}
    submission = make_submission(make_run(folder, **changes), who, name, **method)
    return board.submit(submission, folder, find, at=f"2026-02-{day:02d}T12:00:00Z").id


def other(**changes: object) -> Manifest:
    """The benchmark with something changed."""
    return replace(BENCH, **changes)
