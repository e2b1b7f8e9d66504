"""What a benchmark demands of a record, and the findings where a record falls short.

Codes are stable: E refuses, N sorts the submission into a division that is shown and not ranked, W is a warning that
people should see.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..base.errors import CarryoverError, InvalidError
from ..base.files import canonical, sha256
from ..base.registry import NAME
from ..benchmarks.protocol import SCORES, Published
from ..evaluation.record import RunRecord, count_evidence, evidence_bytes
from .text import texts

EVIDENCE_LIMIT = 32 * 2**20  # bytes of one seed's evidence
TASKS, SEEDS, LEAVES, NUMBER = 1000, 100, 500, 10**30
MIN_SEEDS = 3  # complete seeds below which an interval, and so a rank, means nothing

SECRET = re.compile(r"\b(gh[pousr]_\w{20,}|github_pat_\w{20,}|hf_\w{20,}|sk-[\w-]{20,}|AKIA[0-9A-Z]{16})")
HOME = re.compile(r"(/home/|/Users/|\\Users\\)\w")


@dataclass(frozen=True)
class Manifest:
    """What a board demands of a record. None is what a benchmark does not pin: the board's first record fixes it.

    Attributes:
        seeds: that a complete submission has; empty where any will do.
        protocol: frozen settings, those of the stream as `stream.key`.
        scores: metrics that the board shows; the first one ranks.
        published: what papers report, shown and never ranked.
    """

    name: str
    version: int
    title: str
    summary: str
    stream: str
    setting: str | None = None
    test_sizes: list[int] | None = None
    fingerprint: str | None = None
    weights: str | None = None
    seeds: list[int] = field(default_factory=list)
    protocol: dict[str, Any] = field(default_factory=dict)
    scores: list[str] = field(default_factory=lambda: list(SCORES))
    published: list[Published] = field(default_factory=list)

    @property
    def tasks(self) -> int | None:
        """Number of tasks."""
        return None if self.test_sizes is None else len(self.test_sizes)

    @classmethod
    def of(cls, first: RunRecord) -> Manifest:
        """Of the open board that a record founds."""
        name, version = board_key(first)
        summary = "An open board: its first submission fixed the stream, and no seeds are prescribed."
        return cls(name, version, first.stream.name, summary, first.stream.name).filled(first)

    def filled(self, first: RunRecord) -> Manifest:
        """With what is not pinned taken from the board's first record."""
        stream = first.stream
        return dataclasses.replace(
            self,
            setting=self.setting or stream.setting,
            test_sizes=self.test_sizes or stream.test_sizes,
            fingerprint=self.fingerprint or stream.fingerprint,
            weights=self.weights or (self.version and _weights(first)[0]) or None,
        )


def board_key(record: RunRecord) -> tuple[str, int]:
    """Name and version of the board a record belongs to; the name is safe in a path.

    A frozen benchmark has a board of its own. Other runs meet on a board per stream, setting and fingerprint.
    """
    if record.benchmark.version:
        if not NAME.fullmatch(record.benchmark.name):
            raise InvalidError(f"the benchmark name {ascii(record.benchmark.name)} is not lower-case-with-dashes.")
        return record.benchmark.name, record.benchmark.version
    stream = record.stream
    return f"{_slug(stream.name, 36)}-{_slug(stream.setting, 12)}-{stream.fingerprint[:12]}", 0


def find_manifest(name: str, version: int) -> Manifest | None:
    """Of an installed benchmark; None for version 0 and for versions that are not installed."""
    from ..benchmarks import load_benchmark

    try:
        frozen = load_benchmark(name) if version and NAME.fullmatch(name) else None
    except CarryoverError:
        return None
    if frozen is None or frozen.version != version:
        return None
    return Manifest(
        name=name,
        version=version,
        title=frozen.title or name,
        summary=frozen.summary,
        stream=frozen.stream,
        setting=frozen.options.get("setting"),
        test_sizes=frozen.manifest.test_sizes,
        fingerprint=frozen.manifest.fingerprint,
        weights=frozen.manifest.weights,
        seeds=frozen.seeds,
        protocol=frozen.protocol | {f"stream.{key}": value for key, value in frozen.options.items()},
        scores=frozen.scores,
        published=frozen.published,
    )


# -- findings --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Finding:
    """One thing to know about a submission. The code is stable: E refuses, N is not ranked, W warns."""

    code: str
    name: str
    message: str

    def __str__(self) -> str:
        return f"{self.code} {self.name}: {self.message}"


def check(record: RunRecord, manifest: Manifest | None, evidence: Mapping[int, bytes] | None = None) -> list[Finding]:
    """Everything to know about a record, sorted by code.

    Args:
        manifest: what the benchmark demands; None where the submission would open a board of its own.
        evidence: bytes by seed, as `read_evidence` gives them; None leaves the evidence unchecked.
    """
    found = list(_limits(record))
    if not found:  # what follows computes with the numbers
        found += _against(record, manifest) if manifest is not None else []
        found += _divisions(record, manifest)
        found += _suspicions(record, manifest)
        found += _evidence(record, evidence) if evidence is not None else []
    return sorted(found, key=lambda finding: finding.code)


def division(findings: list[Finding]) -> Literal["ranked", "open", "incomplete", "invalid"]:
    """Where the findings put a submission."""
    codes = {finding.code for finding in findings}
    if any(code.startswith("E") for code in codes):
        return "invalid"
    return "open" if codes & {"N202", "N203", "N204", "N205", "N206"} else "incomplete" if "N201" in codes else "ranked"


def refuse(findings: list[Finding], where: str | Path) -> None:
    """Raise InvalidError with the first E finding, if there is one."""
    errors = [finding for finding in findings if finding.code.startswith("E")]
    if errors:
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        raise InvalidError(f"{where}: {errors[0]}{more}")


def counted_seeds(record: RunRecord, manifest: Manifest | None) -> list[int]:
    """Seeds that count: the complete ones, and of a frozen benchmark only those that it names."""
    named = set(manifest.seeds) if manifest is not None and manifest.seeds else None
    return [run.seed for run in record.complete if named is None or run.seed in named]


def _limits(record: RunRecord) -> Iterator[Finding]:
    sizes = record.stream.test_sizes
    settings = [*record.strategy.config.values(), *record.benchmark.settings.values()]
    leaves = sum(len(v) if isinstance(v, list) else 1 for v in settings)
    if not 1 <= len(record.runs) <= SEEDS or not 1 <= len(sizes) <= TASKS or leaves > LEAVES:
        yield Finding(
            "E101",
            "limits",
            f"{len(record.runs)} seeds, {len(sizes)} tasks and {leaves} settings; at least 1 seed and 1 task, "
            f"at most {SEEDS}, {TASKS} and {LEAVES}.",
        )
    if min(sizes, default=1) < 1 or evidence_bytes(sizes) > EVIDENCE_LIMIT:
        yield Finding("E102", "test-sizes", "a task has no test cases, or all together have too many to check.")
    for run in record.runs:
        if not 0 <= run.seed < 2**63:
            yield Finding("E103", "seed", f"the seed {ascii(run.seed)[:30]} is not between 0 and 2^63.")
        if max(run.cost.train_flops, run.cost.eval_flops) > NUMBER:
            yield Finding("E104", "costs", f"the costs of seed {ascii(run.seed)[:30]} are beyond any machine.")
    if record.benchmark.version and not NAME.fullmatch(record.benchmark.name):
        yield Finding("E105", "benchmark", f"the name {ascii(record.benchmark.name)} is not lower-case-with-dashes.")


def _against(record: RunRecord, manifest: Manifest) -> Iterator[Finding]:
    """The record's shape and data against the manifest's, never against its own."""
    stream = record.stream
    if board_key(record) != (manifest.name, manifest.version):
        name, version = board_key(record)
        yield Finding(
            "E105",
            "benchmark",
            f"this is {name} v{version}, but the board is {manifest.name} v{manifest.version}.",
        )
    named = stream.name == manifest.stream or not manifest.version  # an open board goes by the data, whatever its name
    if not named or manifest.setting not in (None, stream.setting):
        yield Finding(
            "E106",
            "stream",
            f"the record saw {ascii(stream.name)} under {ascii(stream.setting)}; the benchmark is "
            f"{manifest.stream} under {manifest.setting or 'any setting'}.",
        )
    sizes = manifest.test_sizes or stream.test_sizes
    if len(stream.tasks) != len(sizes):
        yield Finding("E107", "task-count", f"{len(stream.tasks)} tasks; the benchmark has {len(sizes)}.")
    elif stream.test_sizes != sizes:
        at = next(i for i, n in enumerate(sizes) if n != stream.test_sizes[i])
        yield Finding(
            "E108",
            "test-size",
            f"task {at + 1} was tested on {stream.test_sizes[at]} cases; the benchmark has {sizes[at]}.",
        )
    if manifest.fingerprint not in (None, stream.fingerprint):
        yield Finding(
            "E109",
            "fingerprint",
            f"the data were {stream.fingerprint[:12]}...; the benchmark's are {manifest.fingerprint[:12]}...",
        )


def _divisions(record: RunRecord, manifest: Manifest | None) -> Iterator[Finding]:
    complete = counted_seeds(record, manifest)
    named = list(manifest.seeds) if manifest is not None else []
    missing = [seed for seed in named if seed not in record.seeds]
    if missing:
        yield Finding("N201", "incomplete", f"the seeds {_listed(missing)} are missing.")
    for run in record.runs:
        if run.status != "complete" and (not named or run.seed in named):
            yield Finding("N201", "incomplete", f"seed {run.seed} is {run.status}.")
    if len(complete) < MIN_SEEDS:
        yield Finding("N201", "incomplete", f"{len(complete)} complete seeds; a rank needs {MIN_SEEDS}.")
    departures = _departures(record, manifest)
    if departures and record.benchmark.version:  # an open board has no protocol to depart from
        yield Finding("N202", "open-division", f"departs from the protocol in {_listed(departures)}.")
    if any(run.usage.test_batch for run in record.runs):
        yield Finding("N203", "test-batch", "test samples were answered for together, and a batch tells its task.")
    if record.stream.scored_on != "test":
        yield Finding("N206", "not-the-test", f"it was scored on {record.stream.scored_on} data.")
    if any(run.usage.success_reads for run in record.runs):
        yield Finding("N205", "chosen-by-test", "it chose its weights by the successes in the test itself.")
    started = _weights(record)
    if len(started) > 1:
        yield Finding("N204", "weights", "the seeds started from different pre-trained weights.")
    elif manifest is not None and manifest.weights and started != [manifest.weights]:
        began = f"the weights {started[0][:12]}..." if started and started[0] else "no pre-trained weights"
        yield Finding("N204", "weights", f"it started from {began}; the benchmark has {manifest.weights[:12]}...")


def _weights(record: RunRecord) -> list[str | None]:
    """SHA-256 of the pre-trained weights that seeds started from, each once."""
    told = [run.usage.pretrained and run.usage.pretrained.sha256 for run in record.runs]
    return list(dict.fromkeys(told)) or [None]


def _departures(record: RunRecord, manifest: Manifest | None) -> list[str]:
    """Frozen settings that were changed: those that the record admits, and those that it shows."""
    frozen = manifest.protocol if manifest is not None and manifest.version else None
    shown = [
        key
        for key, value in record.benchmark.settings.items()
        if frozen and (frozen[key] != value if key in frozen else key.startswith("stream."))
    ]
    return sorted({*record.benchmark.deviations, *shown})


def _suspicions(record: RunRecord, manifest: Manifest | None) -> Iterator[Finding]:
    first: dict[str, int] = {}
    for run in record.complete:
        twin = first.setdefault(sha256(canonical(run.correct)), run.seed)
        if twin != run.seed:
            yield Finding("W301", "same-matrix", f"the seeds {twin} and {run.seed} have the same counts in every cell.")
    if record.stream.label_space == "seen":
        for run in record.runs:
            cell = _foreseen(run.correct, record.stream.classes)
            if cell is not None:
                yield Finding(
                    "W302",
                    "foresight",
                    f"seed {run.seed}: right answers on task {cell[1] + 1} after {cell[0]} tasks, before any of its "
                    "classes could be answered.",
                )
    bare = [run.seed for run in record.complete if run.evidence is None]
    if bare:
        yield Finding("W303", "no-evidence", f"the seeds {_listed(bare)} come without evidence; nobody can recount.")
    if manifest is not None and manifest.seeds:
        extra = [seed for seed in record.seeds if seed not in manifest.seeds]
        if extra:
            yield Finding("W304", "extra-seeds", f"the seeds {_listed(extra)} are shown and not counted.")
    if record.provenance.dirty:
        yield Finding("W305", "dirty", "the code had changes that no commit holds.")
    if not record.stream.task_id_at_test and any(run.usage.task_id_reads for run in record.runs):
        yield Finding("W306", "task-id", "the task id was read at test, which the setting withholds.")
    for _, text in texts(record.model_dump(mode="json")):
        if SECRET.search(text):
            yield Finding("E110", "secret", "a text looks like an access token; remove it and revoke the token.")
        elif HOME.search(text):
            yield Finding("W307", "private-path", f"{ascii(text[:60])} names a home folder.")


def _evidence(record: RunRecord, evidence: Mapping[int, bytes]) -> Iterator[Finding]:
    """Length, digest and popcounts of every evidence file that the record names."""
    sizes = record.stream.test_sizes
    need = evidence_bytes(sizes)
    for run in record.runs:
        if run.evidence is None:
            continue
        where, data = f"seed {run.seed}", evidence.get(run.seed)
        if data is None:
            yield Finding("E111", "evidence-missing", f"{where}: the record names evidence, but there is no file.")
        elif len(data) != need or run.evidence.bytes != need:
            yield Finding(
                "E112",
                "evidence-length",
                f"{where}: {len(data):,} bytes, {run.evidence.bytes:,} by the record, {need:,} by the test sizes.",
            )
        elif sha256(data) != run.evidence.sha256:
            yield Finding("E113", "evidence-digest", f"{where}: the SHA-256 is not the one that the record names.")
        else:
            yield from _recount(run.correct, data, sizes, where)


def _recount(correct: list[list[int | None]], data: bytes, sizes: list[int], where: str) -> Iterator[Finding]:
    counted = count_evidence(data, sizes)
    for i, row in enumerate(correct):
        for j, claimed in enumerate(row):
            if claimed is not None and claimed != counted[i, j]:
                yield Finding(
                    "E114",
                    "evidence-counts",
                    f"{where}, after {i} tasks, on task {j + 1}: {claimed} right by the record, {counted[i, j]} by "
                    "the evidence.",
                )
                return  # one line for a seed; the rest of a forged matrix adds nothing


def _foreseen(correct: list[list[int | None]], classes: list[list[int]]) -> tuple[int, int] | None:
    """(tasks learnt, task index) of a cell that is right on classes no task had revealed yet."""
    seen: set[int] = set()
    for i, row in enumerate(correct):
        for j in range(i, len(row)):
            if row[j] and not seen.intersection(classes[j]):
                return i, j
        if i < len(classes):
            seen.update(classes[i])
    return None


def _slug(text: str, length: int) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:length].strip("-") or "stream"


def _listed(items: list[Any]) -> str:
    shown = ", ".join(str(item) for item in items[:8])
    return shown + (f" and {len(items) - 8} more" if len(items) > 8 else "")
