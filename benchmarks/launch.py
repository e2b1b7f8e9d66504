"""From a request to a record: plan the jobs, one per seed, run them somewhere, gather what they left.

A job is a pure function of its fields, and the files it leaves say that it is done; therefore any set of jobs can be
killed and started again.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..base.errors import CarryoverError, UsageError
from ..base.files import canonical
from ..base.registry import address_digest
from ..evaluation.folder import RunFolder, identity_of
from ..evaluation.provenance import collect
from ..evaluation.record import BenchmarkRef, RunRecord, StrategyRef, StreamRef
from .protocol import Benchmark, check_settings, load_benchmark
from .workers import InProcess, Launcher, Tell, local

if TYPE_CHECKING:
    from ..strategies.core import Strategy
    from ..streams.core import Stream


@dataclass(frozen=True)
class RunSpec:
    """A strategy on a benchmark, and what the user wants otherwise.

    Attributes:
        strategy, target: names, or paths to the user's own; in this process also a class and a `Stream`.
        settings: overrides, `stream.` ones for the stream, the others for the strategy.
        data: folder of downloaded data sets. download: fetch what is missing.
        device: "auto", "cpu", "cuda", "cuda:1".
        threads: per process; 0 measures which count is fastest here. The default is 1, because the count can change
            the last bits of sums, and with them a prediction: the same seed must give the same record on any day.
        every: seconds between checkpoints.
    """

    strategy: str | type[Strategy]
    target: str | Stream
    settings: dict[str, Any] = field(default_factory=dict)
    data: str | None = None
    download: bool = False
    device: str = "auto"
    threads: int = 1
    every: float = 30.0

    def __post_init__(self) -> None:
        check_settings(self.settings, "")
        for name in ("data", "download"):
            if f"stream.{name}" in self.settings:
                raise UsageError(f"stream.{name} is no setting, because no score depends on it: use --{name}.")

    def benchmark(self) -> Benchmark:
        """The benchmark it names."""
        if isinstance(self.target, str):
            return load_benchmark(self.target)
        if not hasattr(self.target, "tests"):
            kind = type(self.target).__name__
            raise UsageError(f"{kind} is not a stream. Make one of labelled data: split(data, n_tasks=5, name=...).")
        return Benchmark(name=self.target.name, stream=self.target.name, version=0)

    def stream(self) -> Stream:
        """The stream, built once per process."""
        benchmark = self.benchmark()
        options = benchmark.options | _part(self.settings, "stream.", inside=True)
        if not isinstance(self.target, str):
            return _under(self.target, options)
        found = benchmark.stream
        return _stream(found, address_digest(found), self.data, self.download, canonical(options).decode())

    def make(self) -> Strategy:
        """A fresh strategy, configured and not yet set up."""
        from ..strategies.config import TrainConfig, has
        from ..strategies.core import load_strategy

        cls = load_strategy(self.strategy)
        frozen, given = self.benchmark().settings(cls.name), _part(self.settings, "stream.", inside=False)
        # options of a model, say, go with the model that they were meant for
        replaced = {name for name, value in given.items() if frozen.get(name, value) != value}
        frozen = {name: value for name, value in frozen.items() if name.partition(".")[0] not in replaced}
        # how gradients are followed says nothing to a learner that follows none
        frozen = {name: v for name, v in frozen.items() if has(cls.Config, name) or not has(TrainConfig, name)}
        return cls(**frozen | given)

    def try_setup(self) -> None:
        """Set the strategy up once, for nothing, so that what does not fit together is said before anything runs."""
        from ..strategies.context import Context

        self.make().setup(self.stream().info, Context(0, self.resolved_device(), trial=True))

    def header(self) -> RunRecord:
        """The record of this run, without seeds."""
        from ..strategies import registry
        from ..strategies.config import flat

        benchmark, stream, strategy = self.benchmark(), self.stream(), self.make()
        announced = isinstance(self.strategy, str) and self.strategy in registry.entries
        deviations = benchmark.deviations(self.settings)
        other_stream = any(name.startswith("stream.") for name in deviations)
        return RunRecord(
            benchmark=BenchmarkRef(
                name=benchmark.name,
                version=0 if other_stream else benchmark.version,  # other data or another question: unfrozen
                settings=self.settings,
                deviations=deviations,
            ),
            stream=StreamRef(
                name=stream.name,
                version=stream.version,
                seed=stream.seed,
                setting=stream.setting.name,
                task_id_at_test=stream.setting.task_id_at_test,
                label_space=stream.setting.label_space,
                fingerprint=stream.fingerprint,
                tasks=[task.name[:200] for task in stream],
                classes=[list(task.classes) for task in stream],
                test_sizes=stream.test_sizes,
                train_sizes=[len(task.train) for task in stream],
                scored_on=stream.meta.get("scored_on", "test"),
                controls={control.name: len(control.test) for control in stream.controls},
            ),
            strategy=StrategyRef(
                name=strategy.name,
                source=registry.entry(self.strategy).source if announced else self._origin(),
                config=flat(strategy.config),
            ),
            runs=[],
            provenance=collect(
                self.resolved_device(),
                self.strategy if isinstance(self.strategy, str) else strategy.name,
                self.target if isinstance(self.target, str) else stream.name,
                self.settings,
            ),
        )

    def _origin(self) -> str:
        """Of a strategy of the user's: the digest of its file, so that an edited one is another strategy."""
        return f"user sha256:{address_digest(self.strategy)}" if isinstance(self.strategy, str) else "user"

    def resolved_device(self) -> str:
        """The device that this run takes here."""
        return resolved_device(self.device)


def resolved_device(device: str) -> str:
    """The device that "auto" stands for here; an impossible one answers in one line."""
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=torch.device(device)).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0].split(". ")[0][:200]
        raise UsageError(f"--device {device!r} cannot be used here: {reason}. Use cpu, or auto.") from None
    return device


@dataclass(frozen=True)
class Request:
    """A spec, the seeds wanted, and the folder where they are to be.

    Attributes:
        resume: the folder may hold part of this very run, which is kept.
        workers: processes that will share this machine's cores.
    """

    spec: RunSpec
    seeds: tuple[int, ...]
    folder: str
    resume: bool = False
    workers: int = 1

    def plan(self, tell: Tell | None = None) -> list[Job]:
        """The jobs still to be done. Everything that can be wrong with the request is found here, before any runs."""
        if not self.seeds or not all(type(seed) is int and seed >= 0 for seed in self.seeds):
            raise UsageError(f"seeds {list(self.seeds)[:10]}: give at least one, each a whole number from 0 on.")
        self.spec.try_setup()
        header = self.spec.header()
        missing = RunFolder(self.folder).admit(header, list(dict.fromkeys(self.seeds)), self.resume)
        count = self.spec.threads or (self._threads() if missing else 1)
        return [Job(self.spec, seed, self.folder, identity_of(header), count) for seed in missing]

    def _threads(self) -> int:
        """What calibration finds, among the counts that leave each of the processes its share of the cores."""
        import torch

        from ..evaluation.threads import calibrate, cores, probe

        step = probe(self.spec.make, self.spec.stream(), torch.device(self.spec.resolved_device()))
        return calibrate(step, most=max(1, cores() // self.workers))


@dataclass(frozen=True)
class Job:
    """One seed of a spec, to be left in a folder. A pure function of its fields.

    Attributes:
        identity: of the run that it belongs to, for the folder.
    """

    spec: RunSpec
    seed: int
    folder: str
    identity: str
    threads: int = 1

    def run(self, tell: Tell) -> None:
        """Do it, here."""
        import torch

        from ..evaluation.run import run_seed
        from ..evaluation.threads import threads

        spec, folder = self.spec, RunFolder(self.folder)
        with threads(self.threads), _memory_lasting(torch.OutOfMemoryError, f"seed {self.seed} of {spec.strategy}"):
            result = run_seed(
                spec.make(),
                spec.stream(),
                self.seed,
                device=spec.resolved_device(),
                checkpoint=folder.checkpoint(self.seed),
                every=spec.every,
                listener=lambda progress: tell(progress.share),
                films=folder.films(self.seed),
            )
        folder.put(*result, self.identity)


class Watch:
    """Hears how a list of jobs goes on. This one keeps silent."""

    def planned(self, jobs: Sequence[Job]) -> None:
        """These are about to run."""

    def progress(self, number: int, share: float) -> None:
        """Job `number` has done this share of its work; 1 when its files are there."""


def run(
    strategy: str | type[Strategy],
    target: str | Stream,
    seeds: int | Iterable[int] | None = None,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    workers: int = 1,
    watch: Watch | None = None,
    data: str | Path | None = None,
    download: bool = False,
    device: str = "auto",
    threads: int = 1,
    every: float = 30.0,
    **settings: Any,
) -> RunRecord:
    """Run a strategy on a benchmark or stream and return the record.

        record = carryover.run("gem", "rotated-digits", seeds=5, lr=0.05)

    Args:
        strategy: a name as `carryover list` prints it, `path/to/file.py:Name`, or a class.
        target: likewise a benchmark or stream, or a `Stream`.
        seeds: a number (0 to n-1) or the seeds themselves; None takes the benchmark's.
        out: folder for record, evidence and checkpoints; None keeps nothing on disk.
        resume: go on in a folder that holds part of this run.
        workers: processes; each seed is one job.
        threads: per process; 0 measures (see RunSpec).
        every: seconds between checkpoints.
        settings: as `--set` takes them; dotted names through a dict, **{"stream.n_tasks": 5}.
    """
    spec = RunSpec(strategy, target, settings, str(data) if data else None, download, device, threads, every)
    if workers > 1 and not (isinstance(strategy, str) and isinstance(target, str)):
        raise UsageError("a class or a Stream cannot go to worker processes: name it by its file, or take workers=1.")
    seeds = spec.benchmark().seeds if seeds is None else seeds
    seeds = tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds)
    with tempfile.TemporaryDirectory() as temporary:
        request = Request(spec, seeds, str(out or temporary), resume, workers)
        return run_all([request], watch, local(min(workers, len(seeds))))[0]


def run_all(
    requests: Sequence[Request], watch: Watch | None = None, launcher: Launcher | None = None
) -> list[RunRecord]:
    """Plan every request, run what is missing, and gather one record each, in order.

    A failing job does not stop the others; its error is raised when all that could be done is done and gathered.
    """
    watch, launcher = watch or Watch(), launcher or InProcess()
    planned, records = False, []
    try:
        with launcher:
            jobs = [job for plan in launcher.map(Request.plan, requests) for job in plan]
            planned = True
            watch.planned(jobs)
            launcher.map(Job.run, jobs, watch.progress)
    finally:  # who interrupts finds what was finished in the record, too
        if planned:
            records = [RunFolder(request.folder).gather() for request in requests]
    return records


@contextmanager
def _memory_lasting(kind: type[Exception], who: str) -> Iterator[None]:
    """Running out of memory is a matter of size, not a bug: one line."""
    try:
        yield
    except (kind, MemoryError, RuntimeError) as error:
        if isinstance(error, (kind, MemoryError)) or "can't allocate memory" in str(error):
            raise CarryoverError(f"{who} ran out of memory. Smaller batches, memories or models need less.") from error
        raise


def _part(settings: dict[str, Any], prefix: str, inside: bool) -> dict[str, Any]:
    """Settings under a prefix, without it; or those not under it."""
    if inside:
        return {name.removeprefix(prefix): value for name, value in settings.items() if name.startswith(prefix)}
    return {name: value for name, value in settings.items() if not name.startswith(prefix)}


# -- what runs once per process ---------------------------------------------------------------------------------------


def _under(stream: Stream, options: dict[str, Any]) -> Stream:
    """A stream of the user's, presented in another way perhaps."""
    from ..streams.named import presented

    shown = {name: options.pop(name) for name in ("setting", "scored_on") if name in options}
    if options:
        raise UsageError(f"{stream.name} is a Stream, not a function: it takes no option {sorted(options)[0]!r}.")
    return presented(stream, **shown)


@lru_cache(maxsize=4)
def _stream(name: str, content: str, data: str | None, download: bool, options: str) -> Stream:
    import json

    from ..streams.named import load_stream

    return load_stream(name, data=data, download=download, **json.loads(options))
