"""Where jobs run: in this process, or in worker processes of this machine.

A launcher maps a function over items and hears how each goes on. It is the one place that knows about processes; a
cluster is another object with the same three methods.
"""

from __future__ import annotations

import multiprocessing
import queue
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from typing import Any, Protocol

from ..base.errors import CarryoverError

Tell = Callable[[float], None]  # the share of its work that an item has done
Hear = Callable[[int, float], None]  # the same with the item's number


class Launcher(Protocol):
    """Runs function(item, tell) for many items."""

    def __enter__(self) -> Launcher:
        """Start what is needed."""

    def __exit__(self, *error: object) -> None:
        """Stop it."""

    def map(self, function: Callable[[Any, Tell], Any], items: Sequence[Any], hear: Hear | None = None) -> list[Any]:
        """Results in order. All items are tried; then the first error is raised."""


class InProcess:
    """One item after the other, in this process."""

    def __enter__(self) -> InProcess:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def map(self, function: Callable[[Any, Tell], Any], items: Sequence[Any], hear: Hear | None = None) -> list[Any]:
        """In order."""
        hear = hear or (lambda number, share: None)
        results, first_error = [], None
        for number, item in enumerate(items):
            try:
                results.append(function(item, lambda share, number=number: hear(number, min(share, 0.999))))
                hear(number, 1.0)
            except CarryoverError as error:
                first_error = first_error or error
        if first_error is not None:
            raise first_error
        return results


class LocalWorkers:
    """A pool of worker processes. They are spawned, not forked, so that they work on every system and with threads."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __enter__(self) -> LocalWorkers:
        context = multiprocessing.get_context("spawn")
        self.shares = context.Queue()
        self.pool = ProcessPoolExecutor(self.count, context, _begin_worker, (self.shares,))
        return self

    def __exit__(self, *error: object) -> None:
        # an interrupted user does not wait for running jobs; their checkpoints are on disk
        if error[0] is not None:
            for process in list((self.pool._processes or {}).values()):
                process.terminate()
        self.pool.shutdown(wait=True, cancel_futures=True)

    def map(self, function: Callable[[Any, Tell], Any], items: Sequence[Any], hear: Hear | None = None) -> list[Any]:
        """Handed out in order, finished in any."""
        hear = hear or (lambda number, share: None)
        futures = [self.pool.submit(_work, function, item, number) for number, item in enumerate(items)]
        waiting = set(futures)
        while waiting:
            done, waiting = wait(waiting, timeout=0.1, return_when=FIRST_COMPLETED)
            for number, share in self._latest().items():
                hear(number, min(share, 0.999))
            for future in done:
                if future.exception() is None:
                    hear(futures.index(future), 1.0)
        for future in futures:
            if future.exception() is not None:
                raise future.exception()
        return [future.result() for future in futures]

    def _latest(self) -> dict[int, float]:
        latest = {}
        while True:
            try:
                number, share = self.shares.get_nowait()
            except queue.Empty:
                return latest
            latest[number] = share


def local(count: int) -> Launcher:
    """Workers if more than one is wanted, else this process."""
    return LocalWorkers(count) if count > 1 else InProcess()


# -- inside a worker ------------------------------------------------------------------------------------------------

_shares: Any = None


def _begin_worker(shares: Any) -> None:
    global _shares
    _shares = shares


def _work(function: Callable[[Any, Tell], Any], item: Any, number: int) -> Any:
    try:
        return function(item, lambda share: _shares.put((number, share)))
    except CarryoverError as error:
        raise type(error)(str(error)) from None  # a cause may not survive the way between processes
