"""Fine-tuning and experience replay against Avalanche: the same network, images, batch size, memory and steps.

Avalanche gets its images as float tensors in memory, ready to be used, in a `TensorDataset`; ours are bytes that are
converted in the loop. Its evaluator is the default one (accuracy and loss, printed), its printing goes nowhere.
"""

from __future__ import annotations

import io
import warnings
from contextlib import redirect_stdout

import pytest
import torch
from carryover.benchmarks.speed.turns import Turns
from carryover.evaluation.evaluator import Evaluator
from carryover.evaluation.run import run_seed
from carryover.strategies import Context
from carryover.strategies.backbones.mlp import mlp
from carryover.strategies.core import load_strategy
from carryover.streams import rotated

TASKS, MEMORY, LR = 6, 500, 0.01


@pytest.fixture(scope="module")
def stream(digits):
    return rotated(digits, TASKS, name="rotations", train_per_task=1000, interpolation="nearest")


@pytest.fixture(scope="module")
def peer(stream):
    """The module `avalanche` and the stream as it wants it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        avalanche = pytest.importorskip("avalanche", reason="Avalanche is not installed: pip install carryover[test]")
        from avalanche.benchmarks.scenarios.dataset_scenario import benchmark_from_datasets
        from avalanche.benchmarks.utils.utils import as_classification_dataset

    def dataset(data):
        made = torch.utils.data.TensorDataset(data.samples.float() / 255, data.targets)
        made.targets = data.targets.tolist()
        return as_classification_dataset(made)

    train = [dataset(task.train) for task in stream]
    return avalanche, benchmark_from_datasets(train=train, test=[dataset(test.data) for test in stream.tests])


def avalanche_strategy(name: str, **settings):
    """`Naive` or `Replay` with its defaults, but for the batch size and the memory."""
    from avalanche.training import Naive, Replay

    net = mlp((1, 28, 28), 10)
    optimizer = torch.optim.SGD(net.parameters(), lr=LR)
    settings |= {"model": net, "optimizer": optimizer, "criterion": torch.nn.CrossEntropyLoss(), "train_mb_size": 10}
    with redirect_stdout(io.StringIO()):  # which its logger keeps
        return Naive(**settings) if name == "finetune" else Replay(mem_size=MEMORY, **settings)


@pytest.mark.parametrize("name", ["finetune", "er"])
def test_training(benchmark, report, stream, peer, name):
    """Task by task, the first left out: Avalanche does not replay in it, and both warm up."""
    avalanche, scenario = peer
    theirs = avalanche_strategy(name)
    turns, cls = Turns(), load_strategy(name)

    class InTurns(cls):
        def learn(self, task):
            with turns.take("carryover" if task.index else "warm"):
                super().learn(task)
            with turns.take("avalanche" if task.index else "warm"):
                theirs.train(scenario.train_stream[task.index])

    settings = {"memory": MEMORY} if name == "er" else {}
    result = benchmark.pedantic(lambda: run_seed(InTurns(lr=LR, **settings), stream, 0), rounds=1)[0]
    assert result.cost.steps == theirs.clock.train_iterations
    ratio = turns.ratio("avalanche", "carryover")
    title = {"finetune": "Naive", "er": f"Replay(mem_size={MEMORY})"}[name]
    report(
        f"training: time of Avalanche's {title} over that of our {name}; rotations of 1,000 images, batch 10, one "
        "pass, MLP 784-100-100-10, SGD",
        ratio,
        ">= 2",
        avalanche=avalanche.__version__,
        turns=TASKS - 1,
        steps_per_turn=result.cost.steps // TASKS,
        wall_ratio=round(turns.ratio("avalanche", "carryover", "wall"), 4),
        milliseconds=turns.summary(),
    )
    assert ratio >= 2


@pytest.mark.parametrize(("batch", "bound"), [(None, 5), (1024, 2)], ids=["default", "batch-1024"])
def test_evaluation(benchmark, report, stream, peer, batch, bound):
    """All test sets once, with the batch that Avalanche takes unless it is told (that of training), and with ours.

    With 1,024 images at a time the products, which are the same on both sides, take most of our time; five times
    faster is then out of reach of any loop.
    """
    avalanche, scenario = peer
    theirs = avalanche_strategy("finetune", eval_mb_size=batch)
    ours, context = load_strategy("finetune")(lr=LR), Context(0)
    ours.setup(stream.info, context)
    evaluator = Evaluator(stream, context.device)
    turns = Turns()
    rivals = {
        "carryover": lambda: evaluator.row(ours, context, 0),
        "avalanche": lambda: theirs.eval(scenario.test_stream),
    }
    benchmark.pedantic(lambda: turns.play(5, **rivals), rounds=1)
    ratio = turns.ratio("avalanche", "carryover")
    report(
        f"evaluation: time of Avalanche's eval (default evaluator, batches of {theirs.eval_mb_size}) over that of "
        f"Evaluator.row (batches of {evaluator.batch_size}); {TASKS} test sets, MLP 784-100-100-10",
        ratio,
        f">= {bound}",
        avalanche=avalanche.__version__,
        images=sum(stream.test_sizes),
        wall_ratio=round(turns.ratio("avalanche", "carryover", "wall"), 4),
        milliseconds=turns.summary(),
    )
    assert ratio >= bound
