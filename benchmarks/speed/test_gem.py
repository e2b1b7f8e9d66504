"""GEM's whole run as a share of the machine's own matrix-product rate: how much of the time is needed arithmetic."""

from __future__ import annotations

import statistics

import pytest
import torch
from carryover.benchmarks.speed.turns import NOISY, Turns
from carryover.evaluation.run import run_seed
from carryover.evaluation.threads import cores, threads
from carryover.strategies.gem import GEM
from carryover.streams import rotated

SIDE, PRODUCTS = 1024, 5  # of the square products that set the rate, before and after every task


@pytest.mark.parametrize("count", [1, 2], ids=["1-thread", "2-threads"])
def test_gem_rate(benchmark, report, digits, count):
    """The paper's protocol: 20 rotations of 1,000 images, one pass, batch 10, 256 memories per task, MLP 2x100."""
    if cores() < count:
        pytest.skip(f"{cores()} core at hand")
    stream = rotated(digits, 20, name="rotations", train_per_task=1000, interpolation="nearest")
    turns = Turns("cpu" if count == 1 else "wall")
    a, b = torch.randn(2, SIDE, SIDE)
    out = torch.empty_like(a)

    def product():
        torch.mm(a, b, out=out)

    def products(name: str):
        for _ in range(PRODUCTS):
            with turns.take(name):
                product()

    class Clocked(GEM):
        def learn(self, task):
            products("product")
            with turns.take("task"):
                super().learn(task)
            products("product again")

    alone, together = Turns("wall"), Turns("wall")
    for number, rivals in ((1, alone), (count, together)):
        with threads(number):
            rivals.play(10, product=product)
    speedup = statistics.median(alone.times("product")) / statistics.median(together.times("product"))
    if speedup < 0.8 * count:
        pytest.skip(f"{count} threads make products only {speedup:.1f} times as fast: the cores are not free")

    def run():
        with threads(count), turns.take("run"):
            return run_seed(Clocked(lr=0.1), stream, 0)[0]

    seed = benchmark.pedantic(run, rounds=1)
    flops = seed.cost.train_flops + seed.cost.eval_flops
    before, after = turns.times("product"), turns.times("product again")
    seconds = sum(turns.times("run")) - sum(before) - sum(after)
    rate = 2 * SIDE**3 / statistics.median(before + after)
    share = flops / seconds / rate
    apart = statistics.median(abs(s / t - 1) for s, t in zip(before, after, strict=True))
    trained = sum(turns.times("task"))
    # threads that wait for one another spin, so that a machine of our own gives all the time that it has
    given = sum(turns.seconds["cpu"]["run"]) / sum(turns.seconds["wall"]["run"]) / count
    if share < 0.6 and (apart > NOISY or given < 0.95):
        pytest.skip(f"products differ by {apart:.0%}, and the cores were ours for {given:.0%} of the time: too noisy")
    with threads(count):
        report(
            "arithmetic rate of a whole GEM run, evaluation included (20 tasks x 1,000 images, 256 memories per task), "
            f"as a share of that of float32 torch.mm, {SIDE} x {SIDE}, with as many threads ({count})",
            share,
            ">= 0.6",
            clock=turns.clock,
            noise=round(apart, 4),
            share_of_the_cores=round(given, 3),
            gigaflops={
                "run": round(flops / seconds / 1e9, 1),
                "training alone": round(seed.cost.train_flops / trained / 1e9, 1),
                "evaluation alone": round(seed.cost.eval_flops / (seconds - trained) / 1e9, 1),
                "product": round(rate / 1e9, 1),
            },
            train_flops=seed.cost.train_flops,
            eval_flops=seed.cost.eval_flops,
            seconds=round(seconds, 3),
            task_seconds=[round(s, 4) for s in turns.times("task")],
        )
    assert share >= 0.6
