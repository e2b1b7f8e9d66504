"""What a run leaves behind, and the only thing that metrics, plots and the leaderboard read.

A record holds integers: per seed, the matrix of *correct counts*, (T+1) x T, row i after task i, row 0 before any
training; a cell that was not measured is null, never 0. Nothing in it is an aggregate, so nothing in it can
contradict the counts. `result_digest` covers all that the same seed must reproduce; what no two runs share (seconds,
memory, host) stands apart in `measured` and `provenance`.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..base.errors import InvalidError
from ..base.files import canonical, read_bytes, read_json, sha256, write_atomic

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import torch

SCHEMA = "1.0"
LIMIT = 16 * 2**20  # bytes of a record file
Count = Annotated[int, Field(ge=0, le=2**53)]
Big = Annotated[int, Field(ge=0, le=10**300)]  # operations exceed 2**53 on large runs; a mean of them is a float
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Text = Annotated[str, Field(max_length=200)]
Scalar = bool | int | float | str | None


class Model(BaseModel):
    """Strict, frozen, and nothing beyond the declared fields; NaN and infinities are not numbers here."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)

    def plain(self) -> dict[str, Any]:
        """For JSON and digests, without what is at its default: a field added later leaves old bytes as they are."""
        return self.model_dump(mode="json", exclude_defaults=True)


class BenchmarkRef(Model):
    """Which protocol was run. `version` 0 marks a run outside any frozen benchmark."""

    name: Text
    version: Count
    settings: dict[Text, Scalar | list[Scalar]] = {}  # what the user set beside it, `stream.` ones included
    deviations: list[Text] = []  # frozen keys among them; such a run is not ranked


class StreamRef(Model):
    """What arrived: enough to tell whether two runs saw the same thing."""

    name: Text
    version: Count
    seed: int
    setting: Text
    task_id_at_test: bool
    label_space: Text
    fingerprint: Digest
    tasks: list[Text]
    classes: list[list[Count]]  # class ids that each task reveals, in task order: the class order
    test_sizes: list[Count]
    train_sizes: list[Count] = []
    controls: dict[Text, Count] = {}  # tests outside the stream, and their sizes
    scored_on: Text = "test"  # or "validation", for choosing settings


class StrategyRef(Model):
    """Who learnt, with every setting that a score depends on."""

    name: Text
    source: Text = "carryover"
    config: dict[str, Scalar | list[Scalar]] = {}


class Evidence(Model):
    """Digest of the bit-packed per-example correctness, which stands in a file beside the record."""

    sha256: Digest
    bytes: Count


class Cost(Model):
    """What the run took, in exact integers that do not depend on the machine's speed.

    FLOPs count a multiply-add as two, matrix products, convolutions and attention only, as torch's counter does.
    `stored_bytes` is what the strategy keeps beyond its network: `replay_bytes` of samples and the rest.
    """

    train_flops: Big = 0
    eval_flops: Big = 0
    samples_seen: Count = 0  # training samples drawn from the stream, repeats included
    steps: Count = 0
    params_total: Count = 0
    params_trained: Count = 0
    replay_samples: Count = 0
    replay_bytes: Count = 0
    state_bytes: Count = 0  # other state kept between tasks: anchors, Fisher information, old networks


class Pretrained(Model):
    """Weights that were learnt elsewhere: which, from what, and what of the stream's classes they may have seen."""

    name: Text
    sha256: Digest
    normalise: Text = ""
    data: Text = ""
    overlap: Text = ""


class Usage(Model):
    """What the strategy was seen to use, against what the setting allows."""

    drawn: list[Count] = []  # training samples drawn from each task; over its size, the passes
    task_id_reads: Count = 0  # at test
    pretrained: Pretrained | None = None
    outside: dict[Text, Digest] = {}  # data from outside the stream that it learnt from, by setting
    success_reads: Count = 0  # of its own successes in a task's test while it learnt it: not ranked
    test_batch: Count | None = None  # test samples predicted together, where a prediction depended on it: not ranked


class Measured(Model):
    """What depends on the machine and the moment; never part of a result."""

    train_ms: Count = 0
    train_cpu_ms: Count = 0  # of the process, all threads together; 0 in records that did not measure it
    eval_ms: Count = 0
    peak_host_bytes: Count = 0
    peak_device_bytes: Count = 0
    threads: Count = 1  # to be used again for the same result, bit for bit
    resumed: Count = 0  # how often the run was picked up from a checkpoint


class SeedRun(Model):
    """One seed's pass over the stream."""

    seed: int
    status: Literal["complete", "diverged", "partial"]
    correct: list[list[Count | None]]
    evidence: Evidence | None = None
    controls: list[list[Count]] = []  # for each row that was taken, correct answers of each control
    curves: list[list[Count]] = []  # of each task, correct answers on its own test before and while it was learnt
    diagnostics: dict[str, list[float | None]] = {}  # what the strategy reports of itself, a number per task
    cost: Cost = Cost()
    usage: Usage = Usage()
    measured: Measured = Measured()

    @property
    def measured_rows(self) -> int:
        """Rows of the matrix that were taken; as many as tasks were learnt, and the row before any training."""
        return sum(any(count is not None for count in row) for row in self.correct)

    def result_digest(self) -> str:
        """SHA-256 over everything that the same seed must reproduce."""
        return sha256(canonical({name: value for name, value in self.plain().items() if name != "measured"}))


class Provenance(Model):
    """Where the record comes from. Collected by allow-list: no host names, no paths, no environment."""

    carryover: Text = ""
    code: Digest | None = None  # SHA-256 over the package's source files
    commit: Text | None = None
    dirty: bool | None = None
    command: list[Text] = []
    python: Text = ""
    torch: Text = ""
    platform: Text = ""
    device: Text = ""
    created: Text = ""  # UTC, ISO 8601


class RunRecord(Model):
    """A strategy on a stream, over seeds.

    `record.matrix` is the stack of accuracies [S, T+1, T]; `record.metrics()`, `record.to_frame()` and
    `record.plot()` are derived from it on demand.
    """

    schema_version: Literal["1.0"] = SCHEMA
    benchmark: BenchmarkRef
    stream: StreamRef
    strategy: StrategyRef
    runs: list[SeedRun]
    provenance: Provenance = Provenance()

    @model_validator(mode="after")
    def _consistent(self) -> RunRecord:
        sizes, tasks = self.stream.test_sizes, len(self.stream.tasks)
        if len(sizes) != tasks or len(self.stream.classes) != tasks:
            raise ValueError(f"{tasks} tasks but {len(sizes)} test sizes and {len(self.stream.classes)} class lists")
        if min(sizes, default=0) < 1:
            raise ValueError("a stream has at least one task, and every task test cases")
        if len({run.seed for run in self.runs}) != len(self.runs):
            raise ValueError("a seed occurs twice")
        for run in self.runs:
            _check_counts(run, sizes)
            _check_controls(run, list(self.stream.controls.values()))
            _check_curves(run, sizes)
        return self

    # -- reading and writing ------------------------------------------------------------------------------------

    @classmethod
    def load(cls, path: str | Path) -> RunRecord:
        """Read a record file, or the `record.json` of a run's folder; anything wrong answers in one line."""
        path = Path(path)
        if path.is_dir():
            path = path / "record.json"
        return cls.parse(read_json(path, LIMIT), path)

    @classmethod
    def parse(cls, value: Any, where: str | Path) -> RunRecord:
        """A record from parsed JSON."""
        return validated(cls, value, where)

    def to_bytes(self) -> bytes:
        """Canonical JSON; `parse` of it gives the record back."""
        return canonical(self.plain())

    def plain(self) -> dict[str, Any]:
        """The schema's version is always told."""
        return {"schema_version": self.schema_version, **super().plain()}

    def save(self, folder: str | Path) -> Path:
        """Write `record.json` atomically into a folder; the evidence files stand beside it."""
        path = Path(folder) / "record.json"
        write_atomic(path, self.to_bytes() + b"\n")
        return path

    def result_digest(self) -> str:
        """SHA-256 over benchmark, stream, strategy and every seed's result; the same for the same seeds."""
        return sha256(canonical([self.benchmark.plain(), self.stream.plain(), self.strategy.plain()]
                                + [run.result_digest() for run in self.runs]))  # fmt: skip

    def merged(self, runs: Iterable[SeedRun]) -> RunRecord:
        """The record with more seeds; a seed that is there already is kept as it is."""
        known = {run.seed: run for run in self.runs}
        for run in runs:
            known.setdefault(run.seed, run)
        merged = self.model_copy(update={"runs": [known[seed] for seed in sorted(known)]})
        for derived in ("matrix", "curves"):  # they were of the fewer seeds
            merged.__dict__.pop(derived, None)
        return merged

    # -- reading the result -------------------------------------------------------------------------------------

    @property
    def seeds(self) -> list[int]:
        """Seeds in the record."""
        return [run.seed for run in self.runs]

    @property
    def complete(self) -> list[SeedRun]:
        """Runs that went through the whole stream."""
        return [run for run in self.runs if run.status == "complete"]

    @cached_property
    def matrix(self) -> torch.Tensor:
        """Accuracies [S, T+1, T] float64, fractions; NaN where not measured. Row 0 is before any training."""
        import torch

        counts = [[[float("nan") if c is None else c for c in row] for row in run.correct] for run in self.runs]
        shape = (len(self.runs), len(self.stream.tasks) + 1, len(self.stream.tasks))
        stack = torch.tensor(counts, dtype=torch.float64).reshape(shape)
        return stack / torch.tensor(self.stream.test_sizes, dtype=torch.float64)

    @cached_property
    def curves(self) -> torch.Tensor | None:
        """Learning curves [S, T, E] of the complete runs, fractions; None if there are none."""
        import torch

        if not self.complete or not all(run.curves for run in self.complete):
            return None
        counts = torch.tensor([run.curves for run in self.complete], dtype=torch.float64)
        return counts / torch.tensor(self.stream.test_sizes, dtype=torch.float64)[:, None]

    def metrics(self, *names: str) -> dict[str, Any]:
        """Metrics over the complete seeds by name: mean, 95 % interval, per seed, unit. All that apply by default."""
        from .statistics import summarise

        return summarise(self, names)

    def to_frame(self) -> pd.DataFrame:
        """One row per seed, time and task: seed, after (0 is before training), task, correct, n, accuracy."""
        import pandas as pd

        sizes, names = self.stream.test_sizes, self.stream.tasks
        rows = [
            (
                run.seed,
                after,
                task,
                names[task],
                correct,
                sizes[task],
                None if correct is None else correct / sizes[task],
            )
            for run in self.runs
            for after, row in enumerate(run.correct)
            for task, correct in enumerate(row)
        ]
        return pd.DataFrame(rows, columns=["seed", "after", "task", "name", "correct", "n", "accuracy"])

    def plot(self, folder: str | Path | None = None) -> Any:
        """The transfer-matrix heat map; written as PNG and SVG where a folder is given. Returns the figure."""
        from .plots import plot_record

        return plot_record(self, folder)

    def __repr__(self) -> str:
        from .statistics import describe

        return describe(self)

    __str__ = __repr__


def evidence_bytes(test_sizes: list[int]) -> int:
    """Length of an evidence file: one bit per row and test case, rows padded together to a whole byte."""
    return ((len(test_sizes) + 1) * sum(test_sizes) + 7) // 8


def pack_evidence(rows: list[np.ndarray]) -> bytes:
    """Bit-packed correctness: rows of [sum of test sizes] bool, one after the other, most significant bit first."""
    import numpy as np

    return np.packbits(np.concatenate(rows)).tobytes()


def unpack_evidence(data: bytes, test_sizes: list[int]) -> np.ndarray:
    """[T+1, sum of test sizes] bool from an evidence file's bytes; a wrong length is refused."""
    import numpy as np

    if len(data) != evidence_bytes(test_sizes):
        raise InvalidError(f"evidence has {len(data)} bytes; these test sizes need {evidence_bytes(test_sizes)}.")
    rows, total = len(test_sizes) + 1, sum(test_sizes)
    return np.unpackbits(np.frombuffer(data, np.uint8), count=rows * total).astype(bool).reshape(rows, total)


def count_evidence(data: bytes, test_sizes: list[int]) -> np.ndarray:
    """[T+1, T] correct answers by an evidence file's bytes."""
    import numpy as np

    starts = np.cumsum([0, *test_sizes[:-1]])
    return np.add.reduceat(unpack_evidence(data, test_sizes), starts, axis=1, dtype=np.int64)


def check_evidence(folder: Path, record: RunRecord) -> None:
    """Evidence files must have the digest the record names, and their popcounts must be the record's counts."""
    sizes = record.stream.test_sizes
    for run in record.runs:
        path = evidence_path(folder, run.seed)
        if run.evidence is None:
            continue
        data = read_bytes(path, limit=64 * 2**20)
        if sha256(data) != run.evidence.sha256:
            raise InvalidError(f"{path} is not the evidence that the record names (its SHA-256 differs).")
        counted = count_evidence(data, sizes)
        for i, row in enumerate(run.correct):
            for j, claimed in enumerate(row):
                if claimed is not None and claimed != counted[i, j]:
                    raise InvalidError(
                        f"{path}: seed {run.seed}, after task {i}, on task {j}: the record claims {claimed} correct, "
                        f"the evidence shows {counted[i, j]}."
                    )


def evidence_path(folder: Path, seed: int) -> Path:
    """Where the evidence of a seed stands in a run's folder."""
    return Path(folder) / "evidence" / f"seed-{seed}.bits"


def validated(model: type[Model], value: Any, where: str | Path) -> Any:
    """Pydantic validation whose failure is one line: the first thing wrong, and where."""
    try:
        # JSON mode: the value came from JSON, where a list is a list and an integer an integer
        return model.model_validate(value)
    except ValidationError as error:
        first, more = error.errors()[0], error.error_count() - 1
        place = ".".join(str(part) for part in first["loc"]) or "record"
        rest = f" (and {more} more)" if more else ""
        message = first["msg"].removeprefix("Value error, ").replace("\n", " ")
        raise InvalidError(f"{where}: {place}: {message}{rest}.") from None
    except RecursionError:
        raise InvalidError(f"{where}: nested too deeply.") from None


def _check_counts(run: SeedRun, sizes: list[int]) -> None:
    """Shape (T+1) x T, counts within the test sizes, and no hole in a run that calls itself complete."""
    where = f"seed {run.seed}"
    if len(run.correct) != len(sizes) + 1:
        raise ValueError(f"{where}: {len(run.correct)} rows, but {len(sizes)} tasks need {len(sizes) + 1}")
    for i, row in enumerate(run.correct):
        if len(row) != len(sizes):
            raise ValueError(f"{where}: row {i} has {len(row)} cells, but there are {len(sizes)} tasks")
        for j, (count, n) in enumerate(zip(row, sizes, strict=True)):
            if count is not None and count > n:
                raise ValueError(f"{where}: {count} correct of {n} in row {i}, task {j}")
            if count is None and run.status == "complete":
                raise ValueError(f"{where}: complete, but row {i}, task {j} was not measured")


def _check_curves(run: SeedRun, sizes: list[int]) -> None:
    """One for each task that was begun, of one length, and no count beyond its test's size."""
    lengths = {len(curve) for curve in run.curves}
    whole = run.status == "complete"
    if len(run.curves) > len(sizes) or (whole and run.curves and (len(run.curves) < len(sizes) or len(lengths) > 1)):
        raise ValueError(f"seed {run.seed}: {len(run.curves)} learning curves of {sorted(lengths)} points")
    for task, (curve, size) in enumerate(zip(run.curves, sizes, strict=False)):
        if any(count > size for count in curve):
            raise ValueError(f"seed {run.seed}: the learning curve of task {task} does not fit its test of {size}")


def _check_controls(run: SeedRun, sizes: list[int]) -> None:
    """A row of them for every row of the matrix that was taken, and no count beyond its size."""
    if (sizes or run.controls) and len(run.controls) != run.measured_rows:
        raise ValueError(f"seed {run.seed}: {len(run.controls)} rows of controls for {run.measured_rows} rows taken")
    for i, row in enumerate(run.controls):
        if len(row) != len(sizes) or any(count > n for count, n in zip(row, sizes, strict=False)):
            raise ValueError(f"seed {run.seed}: row {i} of the controls does not fit their sizes {sizes}")
