"""The training loop against the one that a PyTorch user would write by hand, and the evaluator against a bare sweep."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from carryover.benchmarks.speed.turns import NOISY, Turns
from carryover.evaluation.evaluator import Evaluator
from carryover.evaluation.run import run_seed
from carryover.strategies import Context
from carryover.strategies.backbones.mlp import mlp
from carryover.strategies.finetune import Finetune
from carryover.streams import DIL, Data, LabelledTest, Stream, Task

TASKS, SAMPLES, BATCH = 24, 2000, 10


def noise_stream(tasks: int, samples: int, tests: int) -> Stream:
    """MNIST-shaped data: what a step costs does not depend on the pixels."""
    draw = torch.Generator().manual_seed(0)

    def data(n: int) -> Data:
        x = torch.randint(256, (n, 1, 28, 28), dtype=torch.uint8, generator=draw)
        return Data(x, torch.randint(10, (n,), generator=draw))

    made = [Task(t, f"task {t}", tuple(range(10)), data(samples)) for t in range(tasks)]
    return Stream("noise", 1, DIL, made, [LabelledTest(data(tests)) for _ in made], 10)


def bare_loop(net, optimizer, x: torch.Tensor, y: torch.Tensor) -> None:
    """One pass, as a tutorial has it, on data that lie in memory as bytes."""
    order = torch.randperm(len(y))
    for start in range(0, len(y), BATCH):
        index = order[start : start + BATCH]
        loss = F.cross_entropy(net(x[index].float() / 255), y[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def test_online_step(benchmark, report, tmp_path):
    """Fine-tuning inside the whole harness: metering, progress and checkpoints as in a real run."""
    net = mlp((1, 28, 28), 10)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    turns = Turns()

    class InTurns(Finetune):
        def learn(self, task):
            with turns.take("carryover"):
                super().learn(task)
            for name in ("bare", "bare again"):
                with turns.take(name):
                    bare_loop(net, optimizer, task.train.samples, task.train.targets)

    def run():
        stream = noise_stream(TASKS, SAMPLES, 10)
        run_seed(InTurns(lr=0.01), stream, 0, checkpoint=tmp_path / "checkpoint", listener=lambda progress: None)

    benchmark.pedantic(run, rounds=1)
    if turns.noise("bare", "bare again") > NOISY:
        pytest.skip(f"two identical loops differ by {turns.noise('bare', 'bare again'):.0%}: too noisy to judge")
    ratio = turns.ratio("carryover", "bare")
    report(
        "time of GradientStrategy.learn over that of a bare PyTorch loop: MLP 784-100-100-10, batch 10, one pass over "
        f"{SAMPLES} uint8 images per turn",
        ratio,
        "<= 1.15",
        turns=TASKS,
        noise=round(turns.noise("bare", "bare again"), 4),
        wall_ratio=round(turns.ratio("carryover", "bare", "wall"), 4),
        milliseconds=turns.summary(),
    )
    assert ratio <= 1.15


def test_evaluation_sweep(benchmark, report):
    """One row of the transfer matrix against a bare forward pass over the same images; for information."""
    stream = noise_stream(20, 10, 1000)
    strategy, context = Finetune(), Context(0)
    strategy.setup(stream.info, context)
    evaluator = Evaluator(stream, context.device)
    x = torch.cat([test.data.samples for test in stream.tests])
    y = torch.cat([test.data.targets for test in stream.tests])
    strategy.model.eval()

    @torch.no_grad()
    def bare():
        pairs = zip(x.split(1024), y.split(1024), strict=True)
        return torch.cat([strategy.model(part.float() / 255).argmax(1) == label for part, label in pairs])

    turns = Turns()
    sweep = lambda: evaluator.row(strategy, context, 0)
    benchmark.pedantic(lambda: turns.play(15, carryover=sweep, bare=bare), rounds=1)
    report(
        "time of Evaluator.row over that of a bare forward loop: 20 test sets of 1,000 images, batches of 1,024",
        turns.ratio("carryover", "bare"),
        None,
        images_per_second=round(len(y) / min(turns.times("carryover"))),
        milliseconds=turns.summary(),
    )
    assert sweep().tolist() == bare().tolist()
