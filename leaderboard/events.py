"""What happened to a submission: small files that are only ever added. Status is a fold over them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from ..base.files import canonical, parse_json, sha256
from ..evaluation.record import Digest, Model, Text, validated
from .submission import Handle
from .text import check_texts

LIMIT = 16 * 2**10  # bytes of an event
LEVELS = ("recompute", "prefix", "full")  # of verification, weakest first


class Event(Model):
    """One line of a submission's history. `id` is the SHA-256 of its canonical bytes and names its file.

    `previous` names the latest event that its author had seen, so that a removed file leaves a gap that shows.
    """

    schema_version: Literal["1.0"] = "1.0"
    kind: Literal["accepted", "withdrawn", "verified"]
    submission: Digest
    actor: Handle
    at: Annotated[str, Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$")]  # UTC
    reason: Text = ""
    level: Literal["recompute", "prefix", "full"] | None = None
    outcome: Literal["agrees", "differs", "inconclusive"] | None = None
    previous: Digest | None = None

    @model_validator(mode="after")
    def _complete(self) -> Event:
        if (self.kind == "verified") != (self.level is not None and self.outcome is not None):
            raise ValueError("a verification, and nothing else, has a level and an outcome")
        return self

    @classmethod
    def parse(cls, data: bytes, where: str | Path) -> Event:
        """From JSON bytes; anything wrong answers in one line (InvalidError)."""
        return cls.of(parse_json(data, where, depth=4), where)

    @classmethod
    def of(cls, value: Any, where: str | Path) -> Event:
        """From parsed JSON."""
        check_texts(value, where)
        return validated(cls, value, where)

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        return canonical(self.model_dump(mode="json"))

    @property
    def id(self) -> str:
        """64 hexadecimal digits."""
        return sha256(self.to_bytes())


@dataclass(frozen=True)
class Status:
    """Where a submission stands.

    Attributes:
        state: "stored" until it is accepted; a withdrawn one stays visible.
        accepted: UTC of the first acceptance, "" before it.
        level: the strongest verification that agreed.
        history: events in order.
    """

    state: Literal["stored", "accepted", "withdrawn"] = "stored"
    accepted: str = ""
    level: Literal["recompute", "prefix", "full"] | None = None
    history: tuple[Event, ...] = ()


def fold(events: Iterable[Event]) -> Status:
    """Status of one submission from its events, in any order."""
    history = in_order(events)
    state, accepted = "stored", ""
    for event in history:
        if event.kind != "verified":
            state = event.kind
        if event.kind == "accepted":
            accepted = accepted or event.at
    agreed = [LEVELS.index(e.level) for e in history if e.outcome == "agrees"]
    return Status(state, accepted, LEVELS[max(agreed)] if agreed else None, tuple(history))


def in_order(events: Iterable[Event]) -> list[Event]:
    """What an author had seen comes first; then by time. Clocks that disagree cannot reorder cause and effect."""
    known = {event.id: event for event in events}
    return sorted(known.values(), key=lambda event: (_depth(event, known), event.at, event.id))


def now() -> str:
    """This moment as events write it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _depth(event: Event, known: Mapping[str, Event]) -> int:
    depth = 0
    while event.previous in known:
        event, depth = known[event.previous], depth + 1
    return depth
