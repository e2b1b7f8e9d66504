"""A run's folder: `record.json`, `evidence/seed-N.bits`, and `seeds/` while seeds are on their way.

Each seed leaves `seeds/N.json` when it is done and `seeds/N.safetensors` (its checkpoint) until then, so that seeds can
run in separate processes; `gather` folds them into the one record. Killed at any point, the folder is still right.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from ..base.errors import UsageError
from ..base.files import canonical, read_json, write_atomic
from .record import LIMIT, RunRecord, SeedRun, evidence_path, validated


class RunFolder:
    """The folder of one strategy on one stream."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def checkpoint(self, seed: int) -> Path:
        """Where a seed saves itself while it runs."""
        return self.path / "seeds" / f"{seed}.safetensors"

    def _seed_file(self, seed: int) -> Path:
        return self.path / "seeds" / f"{seed}.json"

    def put(self, run: SeedRun, evidence: bytes | None) -> None:
        """A seed is done: evidence first, then its result, then the checkpoint goes."""
        if evidence is not None:
            write_atomic(evidence_path(self.path, run.seed), evidence)
        write_atomic(self._seed_file(run.seed), canonical(run.model_dump(mode="json")))
        self.checkpoint(run.seed).unlink(missing_ok=True)

    def record(self) -> RunRecord | None:
        """The record as far as it is gathered."""
        return RunRecord.load(self.path) if (self.path / "record.json").exists() else None

    def done(self) -> set[int]:
        """Seeds that need not be run again."""
        record = self.record()
        loose = {int(path.stem) for path in (self.path / "seeds").glob("*.json") if path.stem.isdigit()}
        return loose | (set(record.seeds) if record else set())

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
                f"{self.path} holds {record.strategy.name} on {record.benchmark.name} with {_difference(record, header)}. "
                "Choose another --out."
            )
        begun = self.done() | {s for s in seeds if self.checkpoint(s).exists()}
        if begun & set(seeds) and not resume:
            raise UsageError(
                f"{self.path} already holds seed {min(begun & set(seeds))} of this run. Add --resume to keep what is "
                "there and run the rest, or choose another --out."
            )
        write_atomic(self.path / "seeds" / "header.json", header.to_bytes())
        return [seed for seed in seeds if seed not in self.done()]

    def gather(self) -> RunRecord:
        """Fold finished seeds into `record.json` and clear `seeds/` when nothing is on its way any more."""
        record = self.record() or self._header()
        loose = [
            validated(SeedRun, read_json(path, LIMIT), path)
            for path in sorted((self.path / "seeds").glob("*.json"))
            if path.stem.isdigit()
        ]
        record = record.merged(loose)
        record.save(self.path)
        if not list((self.path / "seeds").glob("*.safetensors")):
            shutil.rmtree(self.path / "seeds", ignore_errors=True)
        return record

    def _header(self) -> RunRecord | None:
        path = self.path / "seeds" / "header.json"
        return RunRecord.parse(read_json(path, LIMIT), path) if path.exists() else None


def _identity(record: RunRecord) -> tuple:
    return record.benchmark, record.stream, record.strategy


def _difference(old: RunRecord, new: RunRecord) -> str:
    """What sets two runs apart, in a few words."""
    for name, before, after in zip(("benchmark", "stream", "strategy"), _identity(old), _identity(new), strict=True):
        if before == after:
            continue
        if name == "strategy" and before.name == after.name:
            keys = before.config.keys() | after.config.keys()
            changed = sorted(k for k in keys if before.config.get(k) != after.config.get(k))
            return "other settings: " + ", ".join(f"{k}={before.config.get(k)}" for k in changed)
        fields = [f for f in type(before).model_fields if getattr(before, f) != getattr(after, f)]
        return f"another {name} ({', '.join(fields)})"
    return "other contents"
