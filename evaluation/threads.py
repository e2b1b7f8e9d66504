"""How many threads: measured, because with a small network two threads on two cores can be slower than one.

The choice can change the last bits of sums, so it is recorded, and kept when a run is resumed or verified.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace

import torch

from ..base.machine import cores
from ..strategies.context import Context
from ..strategies.core import Strategy
from ..strategies.trial import copied
from ..streams.core import Data, Stream, Task


@contextmanager
def threads(count: int):
    """Torch's thread count inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def calibrate(step: Callable[[], None], most: int | None = None, seconds: float = 0.3, prefer: float = 0.05) -> int:
    """The thread count in 1..most under which `step` takes least time.

    Counts take turns, so that a busy moment of the machine hits all of them, and each is judged by its fastest turn.
    One that is far behind drops out, or a machine with many cores would spend minutes on counts that cannot win.
    Fewer threads win within `prefer`, because they leave room for other work and sum in a fixed order.

    Args:
        step: a short piece of the real work, repeatable.
        seconds: spent on each count, in all.
    """
    best = dict.fromkeys(range(1, (most or cores()) + 1), float("inf"))
    if len(best) == 1:
        return 1
    step()  # warm: allocations, thread pools, kernels chosen on first use
    rounds, spent = 0, 0.0
    while rounds < 3 or spent < seconds * len(best):
        begun = time.perf_counter()
        for count in best:
            with threads(count):
                step()
                turn = time.perf_counter()
                step()
                best[count] = min(best[count], time.perf_counter() - turn)
        spent += time.perf_counter() - begun
        rounds += 1
        if rounds > 1:
            best = {count: least for count, least in best.items() if least < 1.5 * min(best.values())}
    limit = min(best.values()) * (1 + prefer)
    return min(count for count, least in best.items() if least <= limit)


def probe(make: Callable[[], Strategy], stream: Stream, device: torch.device, steps: int = 20) -> Callable[[], None]:
    """A piece of a run for `calibrate`: a throwaway strategy's first steps on the second task, its memories filled."""
    tasks = [stream.shown(index) for index in range(min(2, len(stream)))]
    throwaway = make()
    context = Context(0, device)
    throwaway.setup(stream.info, context)
    size = getattr(throwaway.config, "batch_size", 10)

    def few(data: Data, samples: int) -> Data:
        return data.select(torch.arange(min(samples, len(data)))).to(device)

    def shortened(task: Task, samples: int) -> Task:
        return replace(task, train=few(task.train, samples), val=task.val and few(task.val, samples))

    for index, task in enumerate(tasks[:-1]):
        context.begin(index)
        throwaway.learn(shortened(task, 512))
    last = shortened(tasks[-1], steps * size)
    begun = copied(throwaway.state_dict(), "the probe")

    def step() -> None:
        throwaway.load_state_dict(copied(begun, "the probe"))  # or every call would be one task later
        context.begin(len(tasks) - 1)
        throwaway.learn(last)

    return step
