"""Errors that a user can act on: one line that says what is wrong, where, and the mend.

The command line prints the line and exits with the error's code; anything that is not a `CarryoverError`
is a bug in Carryover and keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class CarryoverError(Exception):
    """Base of every error raised on purpose. `code` is the exit status of the command line."""

    code = 1


class UsageError(CarryoverError):
    """The request does not make sense: an unknown name, a bad value, an impossible combination."""

    code = 2


class InvalidError(CarryoverError):
    """A file or record is not what it claims to be: truncated, corrupt, forged, of another version."""

    code = 3


class MismatchError(CarryoverError):
    """Two things that should agree do not: a re-run against a record, evidence against counts."""

    code = 4


class StorageError(CarryoverError):
    """Reading or writing failed: missing data, no permission, a full disk."""

    code = 6


class Withheld(CarryoverError):
    """A strategy asked for something that the setting does not give it, such as the task id at test."""

    code = 2


def unknown(kind: str, name: str, choices: Iterable[str]) -> UsageError:
    """The error for a name that nobody knows, with the nearest match and the choices."""
    choices = sorted(choices)
    near = get_close_matches(name, choices, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return UsageError(f"unknown {kind} {name!r}.{hint} Available: {', '.join(choices) or 'none'}.")
