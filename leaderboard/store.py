"""The board's memory: submissions under the digest of their bytes, and events. Files are added, never changed.

    BOARD/store/<benchmark>/<version>/<aa>/<sha256>/submission.json
                                                    evidence/seed-<n>.bits
    BOARD/events/<sha256>.json

A submission is written to a hidden folder beside its place and renamed when it is whole and on disk. The rename
decides between concurrent writers, and what a crash leaves behind is hidden and never read.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..base.errors import CarryoverError, InvalidError, StorageError, UsageError
from ..base.files import sha256, sync_folder, write_atomic
from ..base.registry import NAME
from ..evaluation.record import evidence_path
from .events import LIMIT as EVENT_LIMIT
from .events import Event, Status, fold, now
from .rules import Finding, Manifest, board_key, find_manifest, refuse
from .submission import LIMIT, Submission, read_evidence, read_plain, validate

Find = Callable[[str, int], Manifest | None]
DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Entry:
    """A submission in the store, with its place and its status."""

    id: str
    path: Path
    submission: Submission
    status: Status

    @property
    def board(self) -> tuple[str, int]:
        """Name and version of the board it stands on."""
        return board_key(self.submission.record)


@dataclass(frozen=True)
class Added:
    """What `Board.submit` did. `new` is false for an exact duplicate, which changes nothing."""

    id: str
    path: Path
    new: bool
    findings: list[Finding]

    def __str__(self) -> str:
        return f"{self.id[:12]} is {'accepted' if self.new else 'on the board already; nothing changed'}."


@dataclass(frozen=True)
class Board:
    """A folder with a store of submissions and their events."""

    root: Path

    # -- writing ------------------------------------------------------------------------------------------------

    def submit(
        self, submission: Submission, folder: str | Path, find: Find = find_manifest, at: str | None = None
    ) -> Added:
        """Check a submission against its benchmark and its evidence, store both, and accept it.

        Args:
            folder: the run's folder, whose `evidence/` is copied.
            find: manifest of a frozen benchmark by name and version.
            at: UTC moment of the acceptance; now by default.

        Raises:
            InvalidError: an E finding, or evidence that is not plain files.
            StorageError: the store could not be written; it is as it was before.
        """
        evidence = read_evidence(folder, submission.record)
        findings = validate(submission, self.manifest(submission, find), evidence)
        refuse(findings, f"submission {submission.id[:12]}")
        path = self._store(submission, evidence)
        new = self.status(submission.id).state == "stored"
        if new:
            self.record("accepted", submission.id, submission.submitter, at)
        return Added(submission.id, path, new, findings)

    def withdraw(self, id: str, actor: str, reason: str, at: str | None = None) -> Event:
        """Take a submission out of the ranking; it stays in the store and on the site, with the reason."""
        return self.record("withdrawn", self.find(id), actor, at, reason=reason)

    def record(self, kind: str, id: str, actor: str, at: str | None = None, **more: str) -> Event:
        """Add an event behind those that are there; `more` is a reason, and a verification's level and outcome."""
        history = self.status(id).history
        value = {"kind": kind, "submission": id, "actor": actor, "at": at or now(), **more}
        event = Event.of(value | {"previous": history[-1].id if history else None}, "event")
        path = self._inside("events", f"{event.id}.json")
        if not path.exists():
            write_atomic(path, event.to_bytes())
        return event

    def _store(self, submission: Submission, evidence: Mapping[int, bytes]) -> Path:
        """Write a submission under its digest; an identical one that is there stays."""
        name, version = board_key(submission.record)
        parent = self._inside("store", name, str(version), submission.id[:2])
        final = parent / submission.id
        temporary = parent / f".tmp-{os.getpid()}-{secrets.token_hex(4)}"
        try:
            if final.exists():
                return final
            (temporary / "evidence").mkdir(parents=True)
            for seed, data in evidence.items():
                _write(evidence_path(temporary, seed), data)
            _write(temporary / "submission.json", submission.to_bytes())
            sync_folder(temporary / "evidence")
            sync_folder(temporary)
            try:
                os.rename(temporary, final)
            except OSError:
                if not final.exists():
                    raise
                return final  # another writer was first
            sync_folder(parent)
            return final
        except OSError as error:
            raise StorageError(f"{final} cannot be written: {error.strerror}.") from None
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _inside(self, *parts: str) -> Path:
        """A path under the root whose folders are real ones: a link could lead out of the board."""
        path = self.root
        for part in parts:
            path = path / part
            if path.is_symlink():
                raise StorageError(f"{path} is a link; a board's folders have to stand in the board.")
        return path

    # -- reading ------------------------------------------------------------------------------------------------

    def entries(self, name: str = "*", version: int | str = "*") -> list[Entry]:
        """Submissions in the store, of one board or all, by board, acceptance and id; a damaged one is an error."""
        events = self._events()
        found = []
        for folder in self.folders(name, version):
            submission = load_stored(folder)
            found.append(Entry(submission.id, folder, submission, fold(events.get(submission.id, []))))
        return sorted(found, key=lambda entry: (entry.board, entry.status.accepted, entry.id))

    def folders(self, name: str = "*", version: int | str = "*") -> Iterator[Path]:
        """Folders of whole submissions, in the order of their names."""
        for path in sorted(self.root.glob(f"store/{name}/{version}/*/*")):
            if DIGEST.fullmatch(path.name) and not any(p.is_symlink() for p in (path, *path.parents[:4])):
                yield path

    def find(self, id: str) -> str:
        """The one full id that begins with these digits."""
        if not re.fullmatch(r"[0-9a-f]{6,64}", id):
            raise UsageError(f"{ascii(id[:80])} is not a submission id: give at least 6 hexadecimal digits.")
        found = [path.name for path in self.folders() if path.name.startswith(id)]
        if len(found) != 1:
            raise UsageError(f"{len(found)} submissions of {self.root} have an id that begins with {id}.")
        return found[0]

    def status(self, id: str) -> Status:
        """Status of one submission."""
        return fold(self._events().get(id, []))

    def manifest(self, submission: Submission, find: Find = find_manifest) -> Manifest | None:
        """What a submission's board demands, with what its first accepted record fixed; None if it founds the board."""
        name, version = board_key(submission.record)
        frozen = find(name, version) if version else None
        if version and frozen is None:
            raise InvalidError(f"the benchmark {name} v{version} is not installed here, so nothing can be checked.")
        records = [entry.submission.record for entry in self.entries(name, version) if entry.status.accepted]
        first = next((record for record in records if not record.benchmark.deviations), None)
        if first is None:
            return frozen
        return frozen.filled(first) if frozen else Manifest.of(first)

    def _events(self) -> dict[str, list[Event]]:
        found: dict[str, list[Event]] = {}
        for path in sorted(self.root.glob("events/*.json")):
            if DIGEST.fullmatch(path.stem):
                event = load_event(path)
                found.setdefault(event.submission, []).append(event)
        return found

    def fsck(self) -> list[str]:
        """Rehash everything. One line for each problem; an empty list is a sound board."""
        return sorted(_fsck(self))


def load_stored(folder: Path) -> Submission:
    """The submission of a store folder; its bytes have to be canonical and to have the folder's name as digest."""
    path = folder / "submission.json"
    data = read_plain(path, LIMIT)
    if sha256(data) != folder.name:
        raise InvalidError(f"{path} does not have the digest that its folder names; it was changed.")
    submission = Submission.parse(data, path)
    if submission.to_bytes() != data:
        raise InvalidError(f"{path} is not canonical JSON.")
    name, version = board_key(submission.record)
    if folder.parts[-4:-1] != (name, str(version), folder.name[:2]):
        raise InvalidError(f"{folder} is not where this submission belongs: {name}/{version}/{folder.name[:2]}.")
    return submission


def load_event(path: Path) -> Event:
    """An event file; its bytes have to have its name as digest."""
    data = read_plain(path, EVENT_LIMIT)
    if sha256(data) != path.stem:
        raise InvalidError(f"{path} does not have the digest that it is named after; it was changed.")
    return Event.parse(data, path)


def _fsck(board: Board) -> Iterator[str]:
    accepted, stored, events = set(), set(), {}
    for path in sorted(board.root.glob("events/*")):
        try:
            if not DIGEST.fullmatch(path.stem) or path.suffix != ".json":
                yield f"{path}: not an event; left by an interrupted write or put there by hand."
                continue
            events[path.stem] = load_event(path)
        except CarryoverError as error:
            yield str(error)
    for path in sorted(board.root.glob("store/**/*")):
        depth = len(path.relative_to(board.root).parts)
        hidden = any(part.startswith(".") for part in path.relative_to(board.root).parts)
        expected = (NAME, re.compile(r"\d{1,9}"), re.compile(r"[0-9a-f]{2}"), DIGEST)
        if path.is_symlink():
            yield f"{path}: a link; the store holds plain files and folders."
        elif hidden and depth == 5:
            yield f"{path}: left by an interrupted write; it is never read and can be deleted."
        elif not hidden and depth <= 5 and not (expected[depth - 2].fullmatch(path.name) and path.is_dir()):
            yield f"{path}: does not belong in a store."
    for folder in board.folders():
        stored.add(folder.name)
        try:
            submission = load_stored(folder)
            evidence = read_evidence(folder, submission.record)
        except CarryoverError as error:
            yield str(error)
            continue
        yield from (f"{folder}: {f}" for f in validate(submission, None, evidence) if f.code.startswith("E"))
        known = {folder / "submission.json", folder / "evidence"} | {evidence_path(folder, s) for s in evidence}
        yield from (f"{path}: no submission names it." for path in folder.rglob("*") if path not in known)
    for event in events.values():
        accepted |= {event.submission} if event.kind == "accepted" else set()
        if event.submission not in stored:
            yield f"event {event.id}: the submission {event.submission} that it tells of is missing."
        if event.previous is not None and event.previous not in events:
            yield f"event {event.id}: the event {event.previous} before it is missing."
    yield from (f"submission {id}: stored, and never accepted." for id in stored - accepted)


def _write(path: Path, data: bytes) -> None:
    with open(path, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
