"""Where jobs run: in this process, or in worker processes of this machine.

A launcher maps a function over items and hears how each goes on. It is the one place that knows about processes; a
cluster is another object with the same three methods.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, Protocol

from ..base import errors
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
            except Exception as error:  # a strategy of the user's may raise anything
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
        self.shares.close()

    def map(self, function: Callable[[Any, Tell], Any], items: Sequence[Any], hear: Hear | None = None) -> list[Any]:
        """Handed out in order, finished in any."""
        hear = hear or (lambda number, share: None)
        with _interrupts_held(), _script_hidden():
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
                raise _readable(future)
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


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Ctrl-C reaches every process of a terminal. Workers started in here never see it; the parent sees it after."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _script_hidden() -> Iterator[None]:
    """Workers begin without the caller's script, which therefore needs no guard around its main part."""
    main = sys.modules["__main__"]
    hidden = {name: getattr(main, name, None) for name in ("__file__", "__spec__")}
    main.__file__ = main.__spec__ = None
    try:
        yield
    finally:
        for name, value in hidden.items():
            setattr(main, name, value)


def _readable(future: Future) -> BaseException:
    """A job's error; a worker that vanished is one line like any other failure."""
    error = future.exception()
    if isinstance(error, BrokenProcessPool):
        return CarryoverError(
            "a worker process died, perhaps for lack of memory. What was finished is kept; fewer --workers need less."
        )
    return error


# -- inside a worker ------------------------------------------------------------------------------------------------

_shares: Any = None


def _begin_worker(shares: Any) -> None:
    global _shares
    _shares = shares
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A parent that was killed cannot stop its workers."""
    multiprocessing.parent_process().join()
    os._exit(1)


def _work(function: Callable[[Any, Tell], Any], item: Any, number: int) -> Any:
    try:
        return function(item, lambda share: _shares.put((number, share)))
    except CarryoverError as error:
        raise _known(type(error))(str(error)) from None  # a cause may not survive the way between processes
    except Exception as error:
        if type(error).__module__ == "builtins":
            raise
        # the class may be known to this process alone; the text of the whole chain travels with the new one
        raise RuntimeError(f"{type(error).__name__}: {error}") from error


def _known(kind: type) -> type:
    """The nearest class of ours."""
    return next(base for base in kind.__mro__ if base.__module__ == errors.__name__)
