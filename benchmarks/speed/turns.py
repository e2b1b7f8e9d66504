"""Taking turns: rivals are clocked in short alternating blocks, so that a busy moment of the machine hits them all."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

Clock = Literal["cpu", "wall"]
NOISY = 0.10  # two rivals that are the same code may differ by this much before nothing can be judged


class Turns:
    """Seconds of every turn of every rival, process CPU time and wall time.

    With one thread, CPU time is judged: it does not count the time in which the machine did something else. With
    more, wall time is: threads that wait for one another burn CPU time.
    """

    def __init__(self, clock: Clock = "cpu") -> None:
        self.clock = clock
        self.seconds: dict[Clock, dict[str, list[float]]] = {"cpu": {}, "wall": {}}

    @contextmanager
    def take(self, name: str) -> Iterator[None]:
        """One turn of a rival."""
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        self.seconds["cpu"].setdefault(name, []).append(cpu)
        self.seconds["wall"].setdefault(name, []).append(wall)

    def play(self, rounds: int, **rivals: Callable[[], object]) -> None:
        """A, B, C, A, B, C, ... after one turn each that does not count."""
        for rival in rivals.values():
            rival()
        for _ in range(rounds):
            for name, rival in rivals.items():
                with self.take(name):
                    rival()

    def times(self, name: str) -> list[float]:
        """Every turn of a rival, by the clock that is judged."""
        return self.seconds[self.clock][name]

    def ratio(self, a: str, b: str, clock: Clock | None = None) -> float:
        """Time of a over time of b: the median over the rounds, in each of which they stood side by side."""
        taken = self.seconds[clock or self.clock]
        return statistics.median(x / y for x, y in zip(taken[a], taken[b], strict=True))

    def noise(self, a: str, b: str) -> float:
        """How far two rivals that are the same code lie apart."""
        return abs(self.ratio(a, b) - 1)

    def summary(self) -> dict[str, dict[str, float]]:
        """Median and least milliseconds of each rival, by both clocks."""
        return {
            name: {
                f"{clock}_{kind}_ms": round(1000 * of(taken[name]), 4)
                for clock, taken in self.seconds.items()
                for kind, of in (("median", statistics.median), ("least", min))
            }
            for name in self.seconds["cpu"]
        }
