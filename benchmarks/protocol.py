"""A benchmark: a stream with its options, a training budget, a network, seeds, and tuned settings per strategy.

title = "GEM: MNIST rotations"
version = 1                      # raised when a change can move numbers
summary = "..."                  # one line for `carryover list`
source = "Lopez-Paz and Ranzato (2017), section 4"
stream = "rotated-mnist"
seeds = [0, 1, 2, 3, 4]
scores = ["acc", "bwt"]          # metrics that its page shows; the first one ranks

[options]                        # of the stream
n_tasks = 20

[protocol]                       # settings that every strategy shares; overriding one leaves the ranked division
epochs = 1

[strategies.gem]                 # tuned on validation data or taken from the source
lr = 0.1

[manifest]                       # what a submission is checked against
fingerprint = "..."
test_sizes = [...]
weights = "..."                  # SHA-256 of the pre-trained weights, where there are any

[[published]]                    # a row of a paper's table, shown under the ranking and never ranked
method = "GEM"
source = "Lopez-Paz and Ranzato (2017), table 1"
url = "https://arxiv.org/..."
scores = { acc = 80.0 }          # in percent, under names of metrics that the page shows
note = "..."                     # what it had that entries here have not, or the other way round
"""

from __future__ import annotations

import dataclasses
import math
import tomllib
from dataclasses import dataclass, field
from inspect import Parameter, signature
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError

from ..base.errors import InvalidError, UsageError, unknown
from ..base.files import read_bytes
from ..base.registry import NAME
from ..base.urls import check_url
from ..evaluation import metrics
from ..streams import registry as streams

FOLDER = Path(__file__).parent
LIMIT = 2**20  # bytes of a TOML file
SCORES = ("acc", "bwt", "fwt_lopez_paz", "forgetting_chaudhry")  # of a page whose benchmark names none
Seed = Annotated[int, Field(ge=0, le=2**31, strict=True)]
Line = Annotated[str, Field(min_length=1, max_length=300)]
Percent = Annotated[float, Field(strict=True, allow_inf_nan=False)]


@dataclass(frozen=True)
class Manifest:
    """What every record of the benchmark must agree with; None where it was not pinned."""

    fingerprint: str | None = None
    test_sizes: list[int] | None = None
    weights: str | None = None  # SHA-256 of the pre-trained weights that every strategy starts from


@dataclass(frozen=True)
class Published:
    """What a paper reports of a method on this benchmark. Nothing of it was run here.

    Attributes:
        scores: in percent, by the names of metrics.
        note: what the authors had that entries here have not, or the other way round.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    method: Line
    source: Line
    url: Annotated[str, AfterValidator(check_url)]
    scores: Annotated[dict[str, Percent], Field(min_length=1)]
    note: Annotated[str, Field(max_length=300)] = ""


@dataclass(frozen=True)
class Benchmark:
    """One frozen protocol. Version 0 is a stream run outside any."""

    name: str
    stream: str
    title: str = ""
    version: int = Field(default=1, ge=0)
    summary: str = ""
    source: str = ""
    seeds: Annotated[list[Seed], Field(min_length=1, max_length=10_000)] = field(
        default_factory=lambda: [0, 1, 2, 3, 4]
    )
    scores: Annotated[list[str], Field(min_length=1, max_length=8)] = field(default_factory=lambda: list(SCORES))
    options: dict[str, Any] = field(default_factory=dict)
    protocol: dict[str, Any] = field(default_factory=dict)
    strategies: dict[str, dict[str, Any]] = field(default_factory=dict)
    manifest: Manifest = field(default_factory=Manifest)
    published: list[Published] = field(default_factory=list)

    def settings(self, strategy: str) -> dict[str, Any]:
        """What the benchmark sets for a strategy: the shared protocol, then the strategy's own."""
        return self.protocol | self.strategies.get(strategy, {})

    def deviations(self, overrides: dict[str, Any]) -> list[str]:
        """Frozen keys that a user's overrides change, `stream.` ones included."""
        frozen = {f"stream.{name}": value for name, value in self.options.items()} | self.protocol
        changed = [name for name, value in overrides.items() if name in frozen and frozen[name] != value]
        added = [name for name in overrides if name.startswith("stream.") and name not in frozen]
        return sorted(changed + added) if self.version else []

    @property
    def embedded(self) -> bool:
        """Whether it runs without a download."""
        return self.stream in streams.entries and bool(streams.entry(self.stream).options.get("embedded"))


def names() -> list[str]:
    """Benchmarks that come with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load_benchmark(target: str) -> Benchmark:
    """A benchmark by name or by path to a TOML file; a stream's name or address gives an unfrozen benchmark of it."""
    if target.endswith(".toml"):
        # frozen is what is installed; a file of the user's may change under the same name
        return dataclasses.replace(read_benchmark(Path(target).expanduser()), version=0)
    if target in names():
        return read_benchmark(FOLDER / f"{target}.toml")
    if ".py" in target or target in streams.entries:
        return Benchmark(name=_plain(target), stream=target, version=0)
    raise unknown("benchmark or stream", target, {*names(), *streams.entries})


def read_benchmark(path: Path) -> Benchmark:
    """Parse and check a benchmark file; the first thing wrong answers in one line."""
    table = read_toml(path)
    known = {f.name for f in dataclasses.fields(Benchmark)} - {"name"}
    for key in table:
        if key not in known:
            raise unknown(f"key in {path}:", key, known)
    if not NAME.fullmatch(path.stem):
        raise InvalidError(f"{path}: a benchmark's file name is its name, lower-case-with-dashes.")
    try:
        benchmark = TypeAdapter(Benchmark).validate_python({"name": path.stem} | table)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise InvalidError(f"{path}: {place}: {first['msg']}.") from None
    for part in (benchmark.options, benchmark.protocol, *benchmark.strategies.values()):
        check_settings(part, f"{path}: ")
    _check_scores(benchmark.scores, path)
    for row in benchmark.published:
        _check_published(row, benchmark.scores, path)
    return benchmark


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file's table; anything wrong with the file answers in one line."""
    try:
        return tomllib.loads(read_bytes(path, LIMIT).decode())
    except UnicodeDecodeError as error:
        raise InvalidError(f"{path}: not UTF-8 at byte {error.start}.") from None
    except (ValueError, RecursionError) as error:  # beside TOML's own: numbers too long, nesting too deep
        raise InvalidError(f"{path}: not TOML: {error}.") from None


def check_settings(settings: dict[str, Any], where: str) -> None:
    """Refuse what a record cannot hold: a setting is a finite number, text, true, false, null, or a list of these."""
    for name, value in settings.items():
        for one in value if isinstance(value, list) else [value]:
            if not _plain_value(one) or not _plain_value(name) or len(name) > 200:
                raise UsageError(
                    f"{where}{name[:60]}={str(value)[:60]}: a setting is a finite number, text, true, false, null, or "
                    "a list of these."
                )


def _check_scores(scores: list[str], path: Path) -> None:
    """A page computes scores from what a record counts, and ranks by the first, of what its evidence shows again."""
    for place, name in enumerate(scores):
        if name not in metrics.registry.entries:
            raise unknown(f"metric in {path}: scores:", name, metrics.registry.entries)
        needs = signature(metrics.registry.load(name)).parameters
        counted = ("R", "n", "curves") if place else ("R", "n")
        more = [key for key, p in needs.items() if p.default is Parameter.empty and key not in counted]
        if more:
            why = "counts are all that a page has" if place else "a page ranks by what evidence shows again"
            raise UsageError(f"{path}: scores: {name} needs {' and '.join(more)}, and {why}.")
    if len(set(scores)) < len(scores):
        raise UsageError(f"{path}: scores: one is named twice.")
    if metrics.registry.load(scores[0]).difference:
        raise UsageError(
            f"{path}: scores: {scores[0]} is a difference, by which who learns nothing may be the first. "
            "Name an accuracy first."
        )


def _check_published(row: Published, scores: list[str], path: Path) -> None:
    for name, value in row.scores.items():
        where = f"{path}: published: {row.method}: {name}"
        if name not in metrics.registry.entries:
            raise unknown(f"metric in {path}: published: {row.method}:", name, metrics.registry.entries)
        if name not in scores:
            raise UsageError(f"{where} is not among the scores that the page shows: add it to `scores`.")
        low = -100 if metrics.registry.load(name).difference else 0
        if not low <= value <= 100:
            raise UsageError(f"{where}={value} is not between {low} and 100 %.")


def _plain_value(value: Any) -> bool:
    if isinstance(value, str):
        return not any(0xD800 <= ord(c) < 0xE000 for c in value)  # what a shell passed on and no file can hold
    if type(value) is float:
        return math.isfinite(value)
    return value is None or type(value) is bool or (type(value) is int and abs(value) < 2**63)


def _plain(target: str) -> str:
    """A stream's address as a name: `path/to/file.py:MyStream` becomes mystream."""
    return target.rpartition(":")[2].lower().replace("_", "-") if ".py" in target else target
