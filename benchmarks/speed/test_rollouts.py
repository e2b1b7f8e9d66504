"""Attempts on the table-top: two hundred environments in a batch against one after the other."""

from __future__ import annotations

import pytest
import torch
from carryover.benchmarks.speed.turns import NOISY, Turns
from carryover.strategies import Context, load_strategy
from carryover.streams import load_stream
from carryover.streams.tabletop.attempts import inputs
from carryover.streams.tabletop.world import World

ENVIRONMENTS, STEPS = 200, 20


@pytest.mark.parametrize(
    ("what", "steps_a_second", "times"), [("world", 100_000, 100), ("policy", 15_000, 30)], ids=["world", "policy"]
)
def test_rollouts(benchmark, report, what, steps_a_second, times):
    """The world alone, under random actions; and with `bc-transformer` in the loop, until all attempts are over."""
    stream = load_stream("libero-object-mini", demonstrations=2)
    rows = stream.tests[0].joined(stream.tests[1:])
    draw = torch.Generator().manual_seed(0)
    actions = 2 * torch.rand(STEPS, len(rows), 3, generator=draw) - 1
    policy = load_strategy("finetune")(model="bc-transformer")
    policy.setup(stream.info, Context(0))
    query = stream.query(0, 1)

    def act(x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return policy.predict(x, query)

    def advance(some: slice) -> None:
        world = World(rows.tasks, rows.rows[some], rows.states[some])
        for t in range(STEPS):
            if what == "policy":
                world.step(act(inputs(world, rows.said, rows.things)[:, None]))
            else:
                world.step(actions[t, some])

    turns, every, one = Turns(), slice(0, ENVIRONMENTS), slice(0, 1)
    again = {"one": lambda: advance(one), "all": lambda: advance(every), "all again": lambda: advance(every)}
    benchmark.pedantic(lambda: turns.play(15, **again), rounds=1)
    if turns.noise("all", "all again") > NOISY:
        pytest.skip(f"too noisy to judge: twins differ by {turns.noise('all', 'all again'):.0%}")
    ratio = turns.ratio("one", "all") * ENVIRONMENTS
    rate = ENVIRONMENTS * STEPS / sorted(turns.times("all"))[7]
    report(
        f"environment steps a second of {ENVIRONMENTS} environments together over those of one by itself, "
        + ("random actions" if what == "world" else "bc-transformer in the loop"),
        ratio,
        f">= {times}, and {steps_a_second:,} steps a second",
        steps_a_second=round(rate),
        noise=round(turns.noise("all", "all again"), 4),
        milliseconds=turns.summary(),
    )
    assert ratio >= times and rate >= steps_a_second
