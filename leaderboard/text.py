"""Text from strangers: what may be shown to a reader or printed to a terminal, and what is refused."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..base.errors import InvalidError

LIMIT = 512  # characters of any one text
INVISIBLE = frozenset("\u115f\u1160\u2800\u3164\uffa0")  # letters and symbols that show nothing


def check_name(name: str) -> str:
    """A display name with something to see in it and no odd spaces. Raises ValueError."""
    if not name.strip() or name != " ".join(name.split()):
        raise ValueError(f"{ascii(name[:80])} is blank or has leading, trailing, double or unusual spaces")
    return name


def check_texts(value: Any, where: str | Path) -> None:
    """Refuse texts that could deceive a reader or a terminal: every key and string of a JSON value."""
    for place, text in texts(value):
        problem = _problem(text)
        if problem:
            raise InvalidError(f"{where}: {place or 'text'}: {problem} in {ascii(text[:60])}.")


def _problem(text: str) -> str | None:
    if len(text) > LIMIT:
        return f"more than {LIMIT} characters"
    marks = 0
    for character in text:
        kind = unicodedata.category(character)
        if kind in ("Cc", "Cf", "Co", "Cs", "Zl", "Zp") or character in INVISIBLE:
            return f"the control, direction or invisible character U+{ord(character):04X}"
        marks = marks + 1 if kind in ("Mn", "Me") else 0
        if marks > 2:
            return "more than two combining marks in a row"
    return None if unicodedata.is_normalized("NFC", text) else "a text that is not in Unicode's form NFC"


def texts(value: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Every key and string of a JSON value, with the place it stands in."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield f"a key of {place or 'the file'}", key
            yield from texts(item, f"{place}.{ascii(key)[1:-1][:40]}".lstrip("."))
    elif isinstance(value, list):
        for item in value:
            yield from texts(item, place)
