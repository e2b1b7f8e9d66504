"""Is a submission what it claims to be? Checks that anybody can repeat, each passed or failed with its reason.

Level "recompute" reads files alone: form, benchmark, and evidence whose bits add up to every count. It shows that a
submission agrees with itself; only a re-run shows that it is honest.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..base.errors import InvalidError
from .rules import Finding, find_manifest
from .store import DIGEST, Find, load_stored
from .submission import Submission, make_submission, read_evidence, validate

CHECKS = {  # name to the findings that fail it
    "limits": ("E101", "E102", "E103", "E104"),
    "benchmark": ("E105", "E106", "E107", "E108"),
    "data": ("E109",),
    "private": ("E110",),
    "evidence present": ("E111", "W303"),
    "evidence digests": ("E112", "E113"),
    "counts": ("E114",),
}


@dataclass(frozen=True)
class Check:
    """One question and its answer; the reason is a line."""

    name: str
    passed: bool
    reason: str


@dataclass(frozen=True)
class Report:
    """All answers of one level, and the findings that are no failure but should be read."""

    id: str
    level: str
    checks: list[Check]
    notes: list[Finding]

    @property
    def passed(self) -> bool:
        """Whether every check did."""
        return all(check.passed for check in self.checks)

    def __str__(self) -> str:
        lines = [f"{'ok  ' if c.passed else 'FAIL'}  {c.name:<18}  {c.reason}" for c in self.checks]
        verdict = "passed" if self.passed else "failed"
        return "\n".join([*lines, *(f"note  {note}" for note in self.notes), f"{self.level}: {verdict}"])


def verify(folder: str | Path, find: Find = find_manifest) -> Report:
    """Check a stored submission or a run's folder at level "recompute".

    Args:
        folder: holds `submission.json` (checked against the folder's name where that is a digest) or `record.json`.
        find: manifest of a benchmark by name and version.
    """
    folder = Path(folder)
    try:
        submission = _read(folder)
        evidence = read_evidence(folder, submission.record)
    except InvalidError as error:
        return Report("", "recompute", [Check("form", False, str(error))], [])
    benchmark = submission.record.benchmark
    manifest = find(benchmark.name, benchmark.version) if benchmark.version else None
    findings = validate(submission, manifest, evidence)
    checks = [Check("form", True, f"schema {submission.schema_version}, id {submission.id[:12]}")]
    if benchmark.version and manifest is None:
        reason = f"{ascii(benchmark.name)} v{benchmark.version} is not installed here"
        checks.append(Check("manifest", False, reason))
    for name, codes in CHECKS.items():
        failed = [finding for finding in findings if finding.code in codes]
        if not failed and name in ("evidence digests", "counts") and len(evidence) < len(submission.record.complete):
            reason = "not checked: there is evidence for " + (f"{len(evidence)} seeds only" if evidence else "no seed")
            checks.append(Check(name, False, reason))
            continue
        checks.append(Check(name, not failed, str(failed[0]) if failed else _reason(name, submission)))
    failing = {code for codes in CHECKS.values() for code in codes}
    return Report(submission.id, "recompute", checks, [f for f in findings if f.code not in failing])
    # levels "prefix" and "full", which run the strategy again, start here: they take this report and add checks


def _read(folder: Path) -> Submission:
    if DIGEST.fullmatch(folder.name):
        return load_stored(folder)
    if (folder / "submission.json").exists():
        return Submission.load(folder)
    return make_submission(folder, "local")


def _reason(name: str, submission: Submission) -> str:
    record = submission.record
    if record.benchmark.version == 0 and name in ("benchmark", "data"):
        return "an open board, which its first submission fixes"
    cells = sum(count is not None for run in record.runs if run.evidence for row in run.correct for count in row)
    return {
        "limits": f"{len(record.runs)} seeds, {len(record.stream.tasks)} tasks",
        "benchmark": f"{record.benchmark.name} v{record.benchmark.version}, {record.stream.setting}",
        "data": f"fingerprint {record.stream.fingerprint[:12]}",
        "private": "no access token in any text",
        "evidence present": "for every complete seed",
        "evidence digests": "length and SHA-256 as the record names them",
        "counts": f"all {cells:,} cells equal the bits of the evidence",
    }[name]
