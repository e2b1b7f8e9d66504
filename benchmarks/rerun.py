"""Check a record by running it again, whole or the first tasks of it.

Rows 0 to k of a transfer matrix depend on tasks 1 to k alone, so a prefix costs about k/T of a run and checks k+1 rows
exactly. It vouches for those rows, not for the later ones.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..base.errors import MismatchError, UsageError
from ..evaluation.record import RunRecord
from ..streams import registry as streams
from .launch import RunSpec
from .protocol import names
from .workers import Tell


@dataclass(frozen=True)
class Comparison:
    """A seed's re-run against the record, over rows 0..`tasks`.

    Attributes:
        cells: compared. different: of these, unequal. largest: greatest difference, in correct answers.
    """

    seed: int
    tasks: int
    cells: int
    different: int
    largest: int

    @property
    def exact(self) -> bool:
        """Whether every count came out the same."""
        return self.different == 0


def rerun(
    record: RunRecord,
    seed: int,
    tasks: int | None = None,
    data: str | None = None,
    device: str = "auto",
    tell: Tell | None = None,
) -> Comparison:
    """Run a seed of the record again, up to `tasks` tasks, with the thread count it was run with.

    Args:
        device: "auto" is the kind of device that the record was made on; another kind rounds otherwise.
    """
    from ..evaluation.run import run_seed
    from ..evaluation.threads import threads

    if record.benchmark.version == 0 and record.benchmark.name not in {*streams.entries, *names()}:
        raise UsageError(
            f"{record.benchmark.name} came from a file of its author's; a re-run needs an installed stream."
        )
    if record.strategy.source.startswith("user"):
        raise UsageError(
            f"{record.strategy.name} came from a file of its author's; a re-run needs an installed strategy."
        )
    if device == "auto":
        device = record.provenance.device.partition(":")[0] or "auto"
    spec = RunSpec(record.strategy.name, record.benchmark.name, dict(record.benchmark.settings), data, device=device)
    header = spec.header()
    for part in ("benchmark", "stream", "strategy"):
        here, there = getattr(header, part), getattr(record, part)
        if here != there:
            fields = [f for f in type(here).model_fields if getattr(here, f) != getattr(there, f)]
            raise MismatchError(
                f"the {part} here is not the record's: {', '.join(fields)} differ. "
                "Check Carryover out at the record's version."
            )
    old = next((run for run in record.runs if run.seed == seed), None)
    if old is None:
        raise UsageError(f"the record has no seed {seed}; it has {', '.join(map(str, record.seeds))}.")
    tasks = min(tasks or len(record.stream.tasks), len(record.stream.tasks))
    with threads(max(1, old.measured.threads)):
        new, _ = run_seed(
            spec.make(),
            spec.stream(),
            seed,
            device=spec.resolved_device(),
            until=tasks,
            listener=lambda progress: tell(progress.share) if tell else None,
        )
    pairs = [
        (a, b)
        for before, after in zip(old.correct[: tasks + 1], new.correct, strict=False)
        for a, b in zip(before, after, strict=True)
    ]
    # a cell that one side has and the other has not is a difference, too
    gaps = [abs((a or 0) - (b or 0)) for a, b in pairs if a != b]
    return Comparison(seed, tasks, len(pairs), len(gaps), max(gaps, default=0))
