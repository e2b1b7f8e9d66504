"""A submission: a record of counts, who hands it in, and what the method is called. No aggregate is ever read.

Reading has two passes. `Submission.parse` refuses what is malformed: traps of JSON, hostile text, unknown fields.
`validate` then compares with the benchmark and the evidence, and lists findings with stable codes.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from ..base.errors import InvalidError, StorageError
from ..base.files import canonical, parse_json, read_bytes, sha256
from ..base.urls import check_url
from ..evaluation.record import Model, RunRecord, evidence_path, validated
from .rules import EVIDENCE_LIMIT, Finding, Manifest, check
from .text import check_name, check_texts

LIMIT = 4 * 2**20  # bytes of submission.json
BUNDLE_LIMIT = 64 * 2**20  # bytes of all evidence together

Handle = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9-]{0,38}$")]
Url = Annotated[str, AfterValidator(check_url)]


class Link(Model):
    """An address that a reader may follow; its host is printed beside it."""

    rel: Literal["code", "paper", "log"]
    url: Url


class Method(Model):
    """What people call the method. Names are for display only; nothing is looked up by them."""

    name: Annotated[str, Field(min_length=1, max_length=80), AfterValidator(check_name)]
    description: Annotated[str, Field(max_length=500)] = ""
    links: Annotated[list[Link], Field(max_length=4)] = []


class Submission(Model):
    """A record with a name on it. `id` is the SHA-256 of its canonical bytes, which are what the store keeps."""

    schema_version: Literal["1.0"] = "1.0"
    record: RunRecord
    submitter: Handle
    method: Method
    license: Literal["CC0-1.0"] = "CC0-1.0"

    @classmethod
    def parse(cls, data: bytes, where: str | Path) -> Submission:
        """From JSON bytes; anything wrong answers in one line (InvalidError)."""
        if len(data) > LIMIT:
            raise InvalidError(f"{where} has {len(data):,} bytes, more than the {LIMIT:,} allowed.")
        value = parse_json(data, where, depth=12)
        check_texts(value, where)
        return validated(cls, value, where)

    @classmethod
    def load(cls, folder: str | Path) -> Submission:
        """From the `submission.json` of a folder."""
        path = Path(folder) / "submission.json"
        return cls.parse(read_plain(path, LIMIT), path)

    def to_bytes(self) -> bytes:
        """Canonical JSON; `parse` of it gives the submission back."""
        return canonical(self.plain())

    def plain(self) -> dict[str, Any]:
        """Both schemas' versions and the licence are always told."""
        told = {"schema_version": self.schema_version, "license": self.license, "record": self.record.plain()}
        return super().plain() | told

    @property
    def id(self) -> str:
        """64 hexadecimal digits."""
        return sha256(self.to_bytes())


def make_submission(
    run_folder: str | Path,
    submitter: str,
    name: str | None = None,
    description: str = "",
    links: Mapping[str, str] | None = None,
) -> Submission:
    """A submission of a finished run.

    Args:
        run_folder: holds `record.json`; its `evidence/` is handed to the store beside the submission.
        submitter: a handle such as `ada-l`; the only thing about a person that is kept.
        name: of the method, for display; the strategy's own by default.
        links: rel (code, paper, log) to https address.
    """
    record = RunRecord.load(run_folder)
    method = {
        "name": name or record.strategy.name,
        "description": description,
        "links": [{"rel": rel, "url": url} for rel, url in (links or {}).items()],
    }
    value = {"record": record.model_dump(mode="json"), "submitter": submitter, "method": method}
    check_texts(value, "submission")
    return Submission.parse(validated(Submission, value, "submission").to_bytes(), "submission")


def validate(
    submission: Submission, manifest: Manifest | None, evidence: Mapping[int, bytes] | None = None
) -> list[Finding]:
    """Everything to know about a submission, sorted by code; see `rules.check`."""
    return check(submission.record, manifest, evidence)


def read_plain(path: Path, limit: int) -> bytes:
    """Bytes of a regular file that is not a symbolic link; neither a device nor a pipe can be smuggled in."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        raise StorageError(f"{path} does not exist.") from None
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}.") from None
    if not stat.S_ISREG(mode):
        raise InvalidError(f"{path} is not a plain file; links and devices are refused.")
    return read_bytes(path, limit)


def read_evidence(folder: str | Path, record: RunRecord) -> dict[int, bytes]:
    """Evidence by seed, for the seeds whose file is there; sizes are checked before anything is read."""
    folder, found, total = Path(folder), {}, 0
    if (folder / "evidence").is_symlink():
        raise InvalidError(f"{folder / 'evidence'} is a link; the evidence has to stand in the folder itself.")
    for run in record.runs:
        path = evidence_path(folder, run.seed)
        if run.evidence is not None and os.path.lexists(path):
            found[run.seed] = read_plain(path, EVIDENCE_LIMIT)
            total += len(found[run.seed])
            if total > BUNDLE_LIMIT:
                raise InvalidError(f"{folder}: the evidence has more than the {BUNDLE_LIMIT:,} bytes allowed.")
    return found
