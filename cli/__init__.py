"""The front door: the `carryover` command, thin, over functions that Python users call too."""

from .commands import main

__all__ = ["main"]
