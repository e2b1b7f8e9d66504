"""What the pages say: boards, rows, numbers with unit and interval, heat maps. The templates only set it in type.

Everything is computed here from counts, at every build; nothing that a submission says about itself is believed.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any

from ..base.errors import InvalidError
from ..benchmarks.protocol import SCORES, Published
from ..evaluation.provenance import override
from ..evaluation.record import RunRecord, SeedRun
from .chart import Point, Scatter, scatter
from .rules import Finding, Manifest, counted_seeds, division
from .scores import Measure, Score, number, quoted
from .store import Board, Entry, Find
from .submission import read_evidence, validate

BESIDE = ("aia", "la", "acc_pooled", "worst_task")  # what a run's page tells beside everybody's and its board's scores
LEVELS = ("self-reported", "committed", "recomputed", "prefix re-run", "verified by re-run")
WIDE = 60  # tasks beyond which a heat map does not fit a page
LEADERS = 4  # heat maps on a board's page
DIVISIONS = ("ranked", "open", "incomplete", "withdrawn", "invalid")


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
    def measures(self) -> list[Measure]:
        """The board's scores, then those that every run has."""
        return [Measure.of(name) for name in dict.fromkeys([*self.manifest.scores, *SCORES, *BESIDE])]

    @cached_property
    def scores(self) -> dict[str, Score]:
        """The `measures` over the counted seeds."""
        return {m.name: Score.of(m, self._summary.get(m.name)) for m in self.measures}

    @property
    def main(self) -> Score:
        """The score that ranks."""
        return self.scores[self.manifest.scores[0]]

    @property
    def per_seed(self) -> list[tuple[int, list[str]]]:
        """Counted seeds and their metrics, in the order of `measures`."""
        columns = [(self.values(m.name), m.signed) for m in self.measures]
        return [(run.seed, [_percent(c.get(run.seed), signed) for c, signed in columns]) for run in self.counted]

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
        return summarise(RunRecord(runs=self.counted, **parts), [m.name for m in self.measures])

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

    @cached_property
    def measures(self) -> list[Measure]:
        """The scores that the page shows; the first one ranks."""
        return [Measure.of(name) for name in self.manifest.scores]

    @property
    def main(self) -> Measure:
        """What ranks."""
        return self.measures[0]

    @property
    def published(self) -> list[tuple[Published, list[str]]]:
        """Rows of papers with their numbers in the order of `measures`, best first."""
        return quoted(self.manifest.published, self.measures)

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
        """The main score against training compute of the ranked entries."""
        points = []
        for row in self.ranked:
            main = row.main
            if main.value is not None:
                points.append(Point(row.name, row.href, row.flops, main.value, main.low, main.high))
        return scatter(points, self.main.better)

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
    ranked, main = rows["ranked"], Measure.of(manifest.scores[0])
    intervals = rank_intervals([row.values(main.name) for row in ranked], better=main.better)
    ranks = {row.id: interval for row, interval in zip(ranked, intervals, strict=True)}
    # among equals, who came first stands first
    first = {row.id: row.entry.status.accepted for row in ranked}
    ranked.sort(key=lambda row: (ranks[row.id][0], main.sort_key(row.main.value), first[row.id], row.id))
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
    main = row.main
    note = f"{main.measure.label} {main.text} {main.spread} %, mean of {len(runs)} seeds"
    return _heat(row.name, note, values, {})


def seed_heats(row: Row) -> list[Heat]:
    """One for each seed, with the counts behind the numbers."""
    from ..evaluation.metrics import compute

    sizes, main = row.record.stream.test_sizes, row.main.measure
    if len(sizes) > WIDE:
        return []
    found = []
    reached = compute(row.record.matrix, main.name, n=sizes)[main.name].tolist()
    for run, score in zip(row.record.runs, reached, strict=True):
        values = [[None if c is None else c / n for c, n in zip(r, sizes, strict=True)] for r in run.correct]
        counts = {(i, j): f", {c} of {sizes[j]}" for i, r in enumerate(run.correct) for j, c in enumerate(r)}
        note = run.status if math.isnan(score) else f"{main.label} {100 * score:.1f} %"
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
