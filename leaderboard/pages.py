"""What the pages say: boards, rows, numbers with unit and interval, heat maps. The templates only set it in type.

Everything is computed here from counts, at every build; nothing that a submission says about itself is believed.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any

from ..base.errors import InvalidError
from ..evaluation.provenance import override
from ..evaluation.record import RunRecord, SeedRun
from .chart import Point, Scatter, scatter
from .rules import Finding, Manifest, counted_seeds, division
from .store import Board, Entry, Find
from .submission import read_evidence, validate

FIRST = ("acc", "bwt", "fwt_lopez_paz", "forgetting_chaudhry")
SCORES = {  # name to label, unit and whether the sign matters
    "acc": ("ACC", "%", False),
    "bwt": ("BWT", "pp", True),
    "fwt_lopez_paz": ("FWT", "pp", True),
    "forgetting_chaudhry": ("Forgetting", "pp", False),
    "aia": ("AIA", "%", False),
    "la": ("Learning accuracy", "%", False),
    "acc_pooled": ("ACC, pooled", "%", False),
    "worst_task": ("Worst task", "%", False),
}
LEVELS = ("self-reported", "committed", "recomputed", "prefix re-run", "verified by re-run")
WIDE = 60  # tasks beyond which a heat map does not fit a page
LEADERS = 4  # heat maps on a board's page
DIVISIONS = ("ranked", "open", "incomplete", "withdrawn", "invalid")


@dataclass(frozen=True)
class Score:
    """A metric over seeds as people read it: in percent or points, with the half width of its 95 % interval."""

    label: str
    unit: str
    value: float | None
    half: float | None
    signed: bool = False
    better: str = "higher"

    @property
    def text(self) -> str:
        """Such as `72.4` or `−9.1`; a dash where the metric is not defined."""
        return "–" if self.value is None else number(self.value, signed=self.signed)

    @property
    def spread(self) -> str:
        """Such as `± 0.8`; empty where there are too few seeds."""
        return "" if self.half is None else f"± {self.half:.1f}"

    @property
    def low(self) -> float:
        """Lower end of the interval, in the unit."""
        return (self.value or 0.0) - (self.half or 0.0)

    @property
    def high(self) -> float:
        """Upper end of the interval, in the unit."""
        return (self.value or 0.0) + (self.half or 0.0)


@dataclass(frozen=True)
class Cell:
    """One cell of a heat map: its number, the class that colours it, and the sentence behind it."""

    text: str
    look: str
    title: str


@dataclass(frozen=True)
class Heat:
    """A transfer matrix: rows are (label, cells), row 0 before any training."""

    title: str
    note: str
    rows: list[tuple[str, list[Cell]]]


@dataclass(frozen=True)
class Row:
    """One submission on its board."""

    entry: Entry
    manifest: Manifest
    findings: list[Finding]
    division: str

    @property
    def id(self) -> str:
        """The full submission id."""
        return self.entry.id

    @property
    def record(self) -> RunRecord:
        """The record as submitted."""
        return self.entry.submission.record

    @property
    def name(self) -> str:
        """The method's name."""
        return self.entry.submission.method.name

    @property
    def href(self) -> str:
        """The run's page, from the site's root."""
        return f"runs/{self.id}.html"

    @cached_property
    def counted(self) -> list[SeedRun]:
        """Runs of the seeds that count."""
        seeds = set(counted_seeds(self.record, self.manifest))
        return [run for run in self.record.runs if run.seed in seeds]

    @cached_property
    def scores(self) -> dict[str, Score]:
        """The metrics of `SCORES` over the counted seeds."""
        return {name: _score(name, self._summary.get(name)) for name in SCORES}

    @property
    def per_seed(self) -> list[tuple[int, list[str]]]:
        """Counted seeds and their metrics, in the order of `SCORES`."""
        columns = [self.values(name) for name in SCORES]
        signs = [signed for _, _, signed in SCORES.values()]
        return [
            (run.seed, [_percent(c.get(run.seed), sign) for c, sign in zip(columns, signs, strict=True)])
            for run in self.counted
        ]

    def values(self, name: str) -> dict[int, float]:
        """A metric by counted seed, as a fraction."""
        column = self._summary[name]["per_seed"] if self.counted else []
        return dict(zip([run.seed for run in self.counted], column, strict=True))

    @cached_property
    def _summary(self) -> dict[str, dict[str, Any]]:
        if not self.counted:
            return {}
        from ..evaluation.statistics import summarise

        # built anew: a copy of a model would carry the cached matrix of all seeds along
        parts = {key: getattr(self.record, key) for key in ("benchmark", "stream", "strategy", "provenance")}
        return summarise(RunRecord(runs=self.counted, **parts), list(SCORES))

    @property
    def flops(self) -> float:
        """Training FLOPs, mean over the counted seeds (all seeds where none counts)."""
        return self._mean("train_flops")

    @property
    def stored(self) -> float:
        """Bytes kept between tasks beyond the network: replayed samples and other state; the most of any seed."""
        return max((r.cost.replay_bytes + r.cost.state_bytes for r in self.record.runs), default=0)

    @property
    def params(self) -> float:
        """Parameters of the network."""
        return max((r.cost.params_total for r in self.record.runs), default=0)

    @property
    def level(self) -> int:
        """Step of the evidence ladder, an index into `LEVELS`; this build has recounted what it has evidence for."""
        if self.entry.status.level in ("full", "prefix"):
            return 4 if self.entry.status.level == "full" else 3
        if any(finding.code == "W303" for finding in self.findings):
            return 0
        return 1 if self.record.provenance.dirty else 2

    @property
    def command(self) -> str:
        """What a reader types to get the same counts; quoted, for names come from strangers."""
        record = self.record
        seeds = ",".join(str(seed) for seed in record.seeds)
        chosen = [part for item in record.benchmark.settings.items() for part in ("--set", override(*item))]
        return shlex.join(["carryover", "run", record.strategy.name, record.benchmark.name, "--seeds", seeds, *chosen])

    def _mean(self, cost: str) -> float:
        runs = self.counted or self.record.runs
        return sum(getattr(run.cost, cost) for run in runs) / max(1, len(runs))


@dataclass(frozen=True)
class BoardPage:
    """One benchmark: its rules, and its submissions by division, best first."""

    manifest: Manifest
    rows: dict[str, list[Row]]
    ranks: dict[str, tuple[int, int]]  # id to the interval of its rank

    @property
    def slug(self) -> str:
        """Name of the page's file, without its ending."""
        return f"{self.manifest.name}-v{self.manifest.version}"

    @property
    def href(self) -> str:
        """The page, from the site's root."""
        return f"benchmarks/{self.slug}.html"

    @property
    def everything(self) -> list[Row]:
        """All submissions."""
        return [row for name in DIVISIONS for row in self.rows[name]]

    @property
    def ranked(self) -> list[Row]:
        """Submissions with a rank, best first."""
        return self.rows["ranked"]

    @property
    def groups(self) -> list[tuple[str, list[Row]]]:
        """Tie groups: entries whose rank intervals begin at the same place, with the label of the rank."""
        found = []
        for _, group in groupby(self.ranked, key=lambda row: self.ranks[row.id][0]):
            found.append(list(group))
        return [(rank_label(self.ranks[rows[0].id]), rows) for rows in found]

    @property
    def leaders(self) -> list[Row]:
        """Whose heat maps stand on the page."""
        return self.ranked[:LEADERS]

    @property
    def changed(self) -> str:
        """Day of the latest event."""
        return max((e.at[:10] for row in self.everything for e in row.entry.status.history), default="")

    @cached_property
    def chart(self) -> Scatter | None:
        """Accuracy against training compute of the ranked entries."""
        points = []
        for row in self.ranked:
            acc = row.scores["acc"]
            if acc.value is not None:
                points.append(Point(row.name, row.href, row.flops, acc.value, acc.low, acc.high))
        return scatter(points)

    def rank(self, row: Row) -> str:
        """Such as `1–3`."""
        return rank_label(self.ranks[row.id])

    def units(self) -> dict[str, tuple[float, str]]:
        """Scale and unit of the columns with costs, one for a whole column so that numbers compare at a glance."""
        rows = self.everything
        return {
            "flops": unit((r.flops for r in rows), ((1e15, "PFLOP"), (1e12, "TFLOP"), (1e9, "GFLOP"))),
            "stored": unit((r.stored for r in rows), ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))),
            "params": unit((r.params for r in rows), ((1e9, "G"), (1e6, "M"), (1e3, "k"))),
        }


def collect(board: Board, find: Find) -> list[BoardPage]:
    """Every board with an accepted submission, frozen benchmarks first; counts are checked against the evidence."""
    entries = [entry for entry in board.entries() if entry.status.state != "stored"]
    pages = [_page(key, list(group), find) for key, group in groupby(entries, key=lambda entry: entry.board)]
    return sorted(pages, key=lambda page: (page.manifest.version == 0, page.manifest.title, page.slug))


def _page(key: tuple[str, int], entries: list[Entry], find: Find) -> BoardPage:
    from ..evaluation.statistics import rank_intervals

    records = [entry.submission.record for entry in entries]
    first = next((record for record in records if not record.benchmark.deviations), records[0])
    frozen = find(*key) if key[1] else None
    manifest = frozen.filled(first) if frozen else Manifest.of(first)
    rows: dict[str, list[Row]] = {name: [] for name in DIVISIONS}
    for entry in entries:
        findings = validate(entry.submission, manifest, read_evidence(entry.path, entry.submission.record))
        damaged = [finding for finding in findings if finding.code in ("E111", "E112", "E113", "E114")]
        if damaged:
            raise InvalidError(f"{entry.path}: {damaged[0]} The store is damaged; `fsck` lists everything.")
        place = "withdrawn" if entry.status.state == "withdrawn" else division(findings)
        rows[place].append(Row(entry, manifest, findings, place))
    ranked = rows["ranked"]
    intervals = rank_intervals([row.values("acc") for row in ranked])
    ranks = {row.id: interval for row, interval in zip(ranked, intervals, strict=True)}
    # among equals, who came first stands first
    first = {row.id: row.entry.status.accepted for row in ranked}
    ranked.sort(key=lambda row: (ranks[row.id][0], -(row.scores["acc"].value or 0.0), first[row.id], row.id))
    return BoardPage(manifest, rows, ranks)


# -- heat maps -------------------------------------------------------------------------------------------------------


def mean_heat(row: Row) -> Heat | None:
    """Mean over the counted seeds; None where no seed counts or the matrix is too wide for a page."""
    runs, sizes = row.counted, row.record.stream.test_sizes
    if not runs or len(sizes) > WIDE:
        return None
    values = [
        [sum(run.correct[i][j] for run in runs) / (len(runs) * n) for j, n in enumerate(sizes)]
        for i in range(len(sizes) + 1)
    ]
    acc = row.scores["acc"]
    return _heat(row.name, f"ACC {acc.text} {acc.spread} %, mean of {len(runs)} seeds", values, {})


def seed_heats(row: Row) -> list[Heat]:
    """One for each seed, with the counts behind the numbers."""
    sizes = row.record.stream.test_sizes
    if len(sizes) > WIDE:
        return []
    found = []
    for run in row.record.runs:
        values = [[None if c is None else c / n for c, n in zip(r, sizes, strict=True)] for r in run.correct]
        counts = {(i, j): f", {c} of {sizes[j]}" for i, r in enumerate(run.correct) for j, c in enumerate(r)}
        last = [value for value in values[-1] if value is not None]
        note = f"ACC {100 * sum(last) / len(last):.1f} %" if len(last) == len(sizes) else run.status
        found.append(_heat(f"Seed {run.seed}", note, values, counts))
    return found


def _heat(
    title: str, note: str, values: Sequence[Sequence[float | None]], counts: Mapping[tuple[int, int], str]
) -> Heat:
    narrow = len(values) - 1 > 12
    rows = []
    for i, row in enumerate(values):
        when = "before training" if i == 0 else f"after task {i}"
        cells = []
        for j, value in enumerate(row):
            stage = " own" if j == i - 1 else " ahead" if j >= i else ""
            if value is None:
                cells.append(Cell("–", "none" + stage, f"{when}, on task {j + 1}: not measured"))
                continue
            text = f"{100 * value:.0f}" if narrow or value == 1 else f"{100 * value:.1f}"
            about = f"{when}, on task {j + 1}: {100 * value:.1f} %{counts.get((i, j), '')}"
            cells.append(Cell(text, f"h{round(20 * value)}{stage}", about))
        rows.append(("start" if i == 0 else str(i), cells))
    return Heat(title, note, rows)


# -- numbers ---------------------------------------------------------------------------------------------------------


def number(value: float, signed: bool = False, digits: int = 1) -> str:
    """With a true minus sign; the sign of a positive one where it matters, and none on a rounded zero."""
    text = f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"
    if float(text) == 0:
        return f"{0:.{digits}f}"
    return text.replace("-", "−")


def quantity(value: float, scale: float = 1.0) -> str:
    """Three significant digits without an exponent."""
    value = value / scale
    if value == 0:
        return "0"
    if value < 0.001:
        return "<0.001"
    digits = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3
    return f"{value:,.{digits}f}"


def unit(values: Any, steps: Sequence[tuple[float, str]]) -> tuple[float, str]:
    """The largest step that the largest value reaches; the smallest where none is reached."""
    largest = max(values, default=0.0)
    return next((step for step in steps if largest >= step[0]), steps[-1])


def rank_label(rank: tuple[int, int]) -> str:
    """Such as `2` or `1–3`."""
    low, high = rank
    return str(low) if low == high else f"{low}–{high}"


def _percent(value: float | None, signed: bool) -> str:
    return "–" if value is None or value != value else number(100 * value, signed)


def _score(name: str, summary: Mapping[str, Any] | None) -> Score:
    label, shown, signed = SCORES[name]
    if summary is None or summary["mean"] is None or summary["mean"] != summary["mean"]:
        return Score(label, shown, None, None, signed)
    interval = summary["ci95"]
    half = None if interval is None else 50 * (interval[1] - interval[0])
    return Score(label, shown, 100 * summary["mean"], half, signed, summary["better"])
