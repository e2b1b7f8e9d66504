"""`carryover verify`: what the files show, and with a re-run what only running shows."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..base.errors import InvalidError, UsageError
from ..evaluation.record import RunRecord
from ..leaderboard.store import Board
from ..leaderboard.submission import Submission
from ..leaderboard.verify import verify
from .console import telling


@dataclass
class Verdict:
    """Lines of (name, passed, reason), and how they sum up."""

    subject: str
    checks: list[tuple[str, bool, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether every check did."""
        return all(passed for _, passed, _ in self.checks)

    def as_dict(self) -> dict[str, Any]:
        """For machines."""
        rows = [{"check": name, "passed": passed, "reason": reason} for name, passed, reason in self.checks]
        return {"subject": self.subject, "passed": self.passed, "checks": rows, "notes": self.notes}

    def __str__(self) -> str:
        lines = [f"{'ok  ' if passed else 'FAIL'}  {name:<18}  {reason}" for name, passed, reason in self.checks]
        return "\n".join([*lines, *(f"note  {note}" for note in self.notes), "passed" if self.passed else "FAILED"])


def verify_board(root: Path) -> Verdict:
    """Rehash a whole board and check every submission on it."""
    board = Board(root)
    problems = board.fsck()
    verdict = Verdict(str(root), [("store", not problems, f"{len(problems)} problems" if problems else "sound")])
    verdict.notes += problems
    for folder in board.folders():
        report = verify(folder)
        failed = [check.reason for check in report.checks if not check.passed]
        verdict.checks.append((folder.name[:12], report.passed, failed[0] if failed else "counts equal the evidence"))
    return verdict


def verify_run(folder: Path, tasks: int | None, seeds: str | None, data: str | None, device: str) -> Verdict:
    """Check a run's folder or a stored submission; `tasks` re-runs that many of each seed, 0 all of them."""
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder; name a run's folder, a stored submission, or a board.")
    if seeds and tasks is None:
        raise UsageError("--seeds names what --rerun runs again: add --rerun 0 for all tasks.")
    report = verify(folder)
    unreadable = next((check for check in report.checks if check.name == "form" and not check.passed), None)
    if unreadable is not None:
        raise InvalidError(unreadable.reason)
    verdict = Verdict(str(folder), [(check.name, check.passed, check.reason) for check in report.checks])
    verdict.notes = [str(note) for note in report.notes]
    if tasks is None or not report.passed:
        return verdict
    from ..benchmarks.rerun import rerun
    from ..benchmarks.sweep import parse_seeds

    stored = (folder / "submission.json").exists()
    record = Submission.load(folder).record if stored else RunRecord.load(folder)
    for seed in parse_seeds(seeds) if seeds else record.seeds[:1]:
        with telling(f"running seed {seed} again") as tell:
            result = rerun(record, seed, tasks or None, data, device, tell)
        reason = f"rows 0 to {result.tasks}: {result.cells - result.different} of {result.cells} cells equal"
        if result.different:
            reason += f", the largest difference is {result.largest} answers"
        verdict.checks.append((f"re-run of seed {seed}", result.exact, reason))
    return verdict
