"""A run's folder: `record.json`, `evidence/seed-N.bits`, and `seeds/` while seeds are on their way.

Of streams whose attempts can be watched there is also `films/seed-N.safetensors`, which no record speaks of.

Each seed leaves `seeds/N.json` when it is done and `seeds/N.safetensors` (its checkpoint) until then, so that seeds can
run in separate processes; `gather` folds them into the one record. Killed at any point, the folder is still right.
Processes that share a folder fold their seeds one after the other.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from ..base.errors import InvalidError, StorageError, UsageError
from ..base.files import canonical, read_json, sha256, write_atomic
from .record import LIMIT, RunRecord, SeedRun, evidence_path, validated

try:
    import fcntl
except ImportError:  # Windows: there, let one process at a time work in a folder
    fcntl = None


class RunFolder:
    """The folder of one strategy on one stream."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def checkpoint(self, seed: int) -> Path:
        """Where a seed saves itself while it runs."""
        return self.path / "seeds" / f"{seed}.safetensors"

    def films(self, seed: int) -> Path:
        """Where a seed leaves films of its attempts."""
        return self.path / "films" / f"seed-{seed}.safetensors"

    def _seed_file(self, seed: int) -> Path:
        return self.path / "seeds" / f"{seed}.json"

    def put(self, run: SeedRun, evidence: bytes | None, identity: str) -> None:
        """A seed is done: evidence first, then its result, then the checkpoint goes.

        Args:
            identity: of the run, as `identity_of` its header; `gather` refuses a seed of another.
        """
        with self._alone():
            if evidence is not None:
                write_atomic(evidence_path(self.path, run.seed), evidence)
            value = {"identity": identity, "run": run.model_dump(mode="json")}
            write_atomic(self._seed_file(run.seed), canonical(value))
            self.checkpoint(run.seed).unlink(missing_ok=True)

    def record(self) -> RunRecord | None:
        """The record as far as it is gathered."""
        return RunRecord.load(self.path) if (self.path / "record.json").exists() else None

    def done(self) -> set[int]:
        """Seeds that need not be run again."""
        record = self.record()
        return {int(path.stem) for path in self._loose()} | (set(record.seeds) if record else set())

    def _begun(self) -> bool:
        """Whether any seed has left something here."""
        return bool(self.done()) or any((self.path / "seeds").glob("*.safetensors"))

    def admit(self, header: RunRecord, seeds: Sequence[int], resume: bool) -> list[int]:
        """The seeds that are still to be run here; refuses a folder that holds something else, or needs --resume."""
        if self.path.exists() and not self.path.is_dir():
            raise UsageError(f"{self.path} is a file; --out names a folder.")
        record = self.record() or (self._header() if self._begun() else None)
        if record is not None and _identity(record) != _identity(header):
            raise UsageError(
                f"{self.path} holds {record.strategy.name} on {record.benchmark.name} with "
                f"{_difference(record, header)}. Choose another --out."
            )
        if record is not None and record.provenance.code not in (None, header.provenance.code):
            raise UsageError(
                f"{self.path} was begun with other code of Carryover's, and seeds of both do not belong in one record. "
                "Check that version out, or choose another --out."
            )
        for path in self._loose():  # what is damaged is said now, not after hours
            self._seed(path, identity_of(header))
        begun = self.done() | {s for s in seeds if self.checkpoint(s).exists()}
        if begun & set(seeds) and not resume:
            raise UsageError(
                f"{self.path} already holds seed {min(begun & set(seeds))} of this run. Add --resume to keep what is "
                "there and run the rest, or choose another --out."
            )
        missing = [seed for seed in seeds if seed not in self.done()]
        if record is None:
            write_atomic(self.path / "seeds" / "header.json", header.to_bytes())
        return missing

    def gather(self) -> RunRecord:
        """Fold finished seeds into `record.json` and clear `seeds/` when nothing is on its way any more."""
        with self._alone():
            record = self.record() or self._header()
            if record is None:
                raise StorageError(f"{self.path} holds no run.")
            loose = self._loose()
            record = record.merged([self._seed(path, identity_of(record)) for path in loose])
            record = validated(RunRecord, record.model_dump(mode="json"), self.path)
            if record.runs:
                record.save(self.path)
            # one by one, not the whole folder: another process may be saving a checkpoint there
            for path in loose:
                self.checkpoint(int(path.stem)).unlink(missing_ok=True)  # left by a kill between result and unlink
                path.unlink()
                for torn in path.parent.glob(f".{path.stem}.*.tmp"):
                    torn.unlink(missing_ok=True)
            if not any((self.path / "seeds").glob("*.safetensors")):
                (self.path / "seeds" / "header.json").unlink(missing_ok=True)
                with suppress(OSError):  # not empty, or gone already
                    (self.path / "seeds").rmdir()
                    self.path.rmdir()
        return record

    def _loose(self) -> list[Path]:
        """Finished seeds that are not in the record yet."""
        return sorted(path for path in (self.path / "seeds").glob("*.json") if path.stem.isdecimal())

    def _seed(self, path: Path, identity: str) -> SeedRun:
        """One of them; damaged or foreign ones answer with the mend."""
        mend = "Remove it to run the seed again."
        try:
            value = read_json(path, LIMIT)
            run = validated(SeedRun, value["run"], path)
            if value["identity"] == identity and run.seed == int(path.stem):
                return run
        except (KeyError, TypeError):
            raise InvalidError(f"{path} is not a seed's result. {mend}") from None
        except InvalidError as error:
            raise InvalidError(f"{error} {mend}") from None
        raise InvalidError(f"{path} belongs to another run, started in the same folder. {mend}")

    def _header(self) -> RunRecord | None:
        path = self.path / "seeds" / "header.json"
        return RunRecord.parse(read_json(path, LIMIT), path) if path.exists() else None

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """No other process folds or puts here meanwhile. The lock is on the folder and ends with the process."""
        self.path.mkdir(parents=True, exist_ok=True)
        if fcntl is None:
            yield
            return
        handle = os.open(self.path, os.O_RDONLY)
        try:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def identity_of(record: RunRecord) -> str:
    """SHA-256 of what makes two runs the same run: benchmark, stream, strategy."""
    return sha256(canonical([part.plain() for part in _identity(record)]))


def _identity(record: RunRecord) -> tuple:
    return record.benchmark, record.stream, record.strategy


def _difference(old: RunRecord, new: RunRecord) -> str:
    """What sets two runs apart, in a few words."""
    for name, before, after in zip(("benchmark", "stream", "strategy"), _identity(old), _identity(new), strict=True):
        if before == after:
            continue
        if name != "stream" and before.name == after.name:
            old_settings, new_settings = (
                part.settings if name == "benchmark" else part.config for part in (before, after)
            )
            keys = sorted(old_settings.keys() | new_settings.keys())
            changed = [k for k in keys if old_settings.get(k) != new_settings.get(k)]
            if changed:
                was = ", ".join(f"{k}={old_settings[k]}" if k in old_settings else f"no {k}" for k in changed)
                return f"other settings: {was}"
        fields = [f for f in type(before).model_fields if getattr(before, f) != getattr(after, f)]
        if fields == ["source"]:
            return "another version of its code"
        return f"another {name} ({', '.join(fields)})"
    return "other contents"
