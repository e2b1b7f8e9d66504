"""Gradient projection: steps against a bare SGD loop, a whole run's CPU time, and bases against singular vectors."""

from __future__ import annotations

from contextlib import ExitStack

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from carryover.benchmarks.speed.conftest import MNIST
from carryover.benchmarks.speed.turns import NOISY, Turns
from carryover.evaluation.run import run_seed
from carryover.strategies import load_strategy
from carryover.strategies.backbones import build
from carryover.strategies.backbones.mlp import mlp
from carryover.strategies.parts.rotated import rotated, rotated_layers
from carryover.strategies.parts.subspaces import Inputs, Subspaces
from carryover.streams import TIL, permuted
from carryover.streams.core import StreamInfo
from threadpoolctl import threadpool_limits

TASKS, IMAGES, EPOCHS, BATCH = 10, 1000, 5, 10
PROTOCOL = {
    "lr": 0.01, "epochs": EPOCHS, "batch_size": BATCH, "threshold": [0.95, 0.99, 0.99], "model.bias": False,
}  # fmt: skip
BOUNDS = {"gpm": 2.0, "trgp": 10.0, "cuber": 10.0}
# two tasks are selected in every layer, as soon as there are two; none of regime 3 is ever demoted, which costs most
SELECTING = {"gpm": {}, "trgp": {"epsilon1": 0.0}, "cuber": {"epsilon1": 0.0, "demotion": "never"}}


def bare_passes(net, optimizer, x: torch.Tensor, y: torch.Tensor) -> None:
    """The loop that a tutorial has, on float inputs in memory, with torch's own SGD."""
    for _ in range(EPOCHS):
        for index in torch.randperm(len(y)).split(BATCH):
            loss = F.cross_entropy(net(x[index]), y[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


@pytest.mark.parametrize("name", BOUNDS)
def test_projected_step(benchmark, report, digits, name):
    """From the first step of a task to its last, turning its data included; bases come after that."""
    turns = Turns()
    net = mlp((1, 28, 28), 10, bias=False)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)

    class InTurns(load_strategy(name)):
        def begin_task(self, task):
            super().begin_task(task)
            self.turn_taken = ExitStack()
            if self.tasks_begun > 3:
                self.turn_taken.enter_context(turns.take("projected"))

        def end_task(self, task):
            self.turn_taken.close()
            super().end_task(task)

        def learn(self, task):
            super().learn(task)
            if self.tasks_begun > 3:
                x = task.train.prepare(task.train.samples)
                for rival in ("bare", "bare again"):
                    with turns.take(rival):
                        bare_passes(net, optimizer, x, task.train.targets)

    stream = permuted(digits, TASKS, name="permutations", setting=TIL, train_per_task=IMAGES)
    result = benchmark.pedantic(lambda: run_seed(InTurns(**PROTOCOL, **SELECTING[name]), stream, 0)[0], rounds=1)
    if turns.noise("bare", "bare again") > NOISY:
        pytest.skip(f"two identical loops differ by {turns.noise('bare', 'bare again'):.0%}: too noisy to judge")
    ratio, told = turns.ratio("projected", "bare"), result.diagnostics
    assert name == "gpm" or all(
        told[f"regime2/{layer}"][-1] + told.get(f"regime3/{layer}", [0])[-1] == 2 for layer in ("1", "3", "5")
    )
    report(
        f"time of a step of {name} over that of a bare SGD loop, bias-free MLP 784-100-100-10, batch 10, "
        f"tasks 4 to {TASKS} of {IMAGES} permuted images, {EPOCHS} passes"
        + ("" if name == "gpm" else "; two tasks are selected in every layer"),
        ratio,
        f"<= {BOUNDS[name]:g}",
        noise=round(turns.noise("bare", "bare again"), 4),
        by_task=[round(a / b, 2) for a, b in zip(turns.times("projected"), turns.times("bare"), strict=True)],
        share_of_the_space_used={layer: told[f"used/{layer}"] for layer in ("1", "3", "5")},
        milliseconds=turns.summary(),
    )
    assert ratio <= BOUNDS[name]


def test_cuber_run(benchmark, report, digits):
    """CPU seconds of a whole run on 7,200 real images a task, evaluation and all."""
    if not (MNIST / "MNIST").is_dir():
        pytest.skip("real images are not at hand; set CARRYOVER_TEST_DATA")
    stream = permuted(digits, TASKS, name="permutations", setting=TIL, val_fraction=0.1, normalise=True)
    cuber = load_strategy("cuber")(**PROTOCOL)
    turns = Turns()

    def run():
        with turns.take("run"):
            return run_seed(cuber, stream, 0)[0]

    result = benchmark.pedantic(run, rounds=1)
    seconds = turns.times("run")[0]
    report(
        f"CPU seconds of cuber on 10 permutations of {len(digits.train_y):,} MNIST images, 5 passes, with evaluation",
        seconds,
        "<= 40",
        train_cpu_seconds=result.measured.train_cpu_ms / 1000,
        final_accuracy=[
            round(count / size, 4) for count, size in zip(result.correct[-1], stream.test_sizes, strict=True)
        ],
    )
    assert seconds <= 40


SAMPLES = {"published": (24, 100, 100, 125, 125), "thousand": (1000,) * 5}  # by layer


def explicit_patches(layer, x: np.ndarray) -> np.ndarray:
    """[d, N] float64, a column for each place that the kernel visits; the usual loops."""
    (k, l), (s, t) = layer.kernel_size, layer.stride
    n, c, h, w = x.shape
    high, wide = (h - k) // s + 1, (w - l) // t + 1
    patches = np.zeros((c * k * l, n * high * wide))
    column = 0
    for image in x:
        for i in range(high):
            for j in range(wide):
                patches[:, column] = image[:, i * s : i * s + k, j * t : j * t + l].ravel()
                column += 1
    return patches


@pytest.mark.parametrize("samples", SAMPLES.values(), ids=list(SAMPLES))
def test_basis_construction(benchmark, report, samples):
    """Both tasks of a pair, every layer of the small AlexNet at 32x32, from the layers' inputs to the bases."""
    torch.manual_seed(0)
    info = StreamInfo("images", (3, 32, 32), 100, TIL)
    net = rotated(build("small-alexnet", info)).eval()
    layers = {name: layer for name, layer in rotated_layers(net).items() if name != "head"}
    seen: list[dict[str, torch.Tensor]] = [{}, {}]
    for task in seen:
        hooks = [
            layer.register_forward_pre_hook(lambda m, args, name=name, task=task: task.update({name: args[0].detach()}))
            for name, layer in layers.items()
        ]
        with torch.no_grad():  # images are smooth, so that energies fall off as they do on photographs
            net(F.interpolate(torch.randn(max(samples), 3, 8, 8), (32, 32), mode="bicubic"))
        for hook in hooks:
            hook.remove()
    for task in seen:
        for name, count in zip(layers, samples, strict=True):
            task[name] = task[name][:count]
    turns, sizes = Turns(), {}

    def published():
        for name, layer in layers.items():
            O = None
            for task in seen:
                x = task[name].numpy()
                X = explicit_patches(layer.layer, x) if x.ndim == 4 else x.T.astype(np.float64)
                U, s, _ = np.linalg.svd(X, full_matrices=False)
                if O is None:
                    O = U[:, : int((np.cumsum(s**2) < 0.97 * (s**2).sum()).sum()) + 1]
                else:
                    rest = X - O @ (O.T @ X)
                    inside = 1 - (rest**2).sum() / (s**2).sum()
                    V, z, _ = np.linalg.svd(rest, full_matrices=False)
                    more = int((inside + np.cumsum(z**2) / (s**2).sum() < 0.97).sum()) + 1 if inside < 0.97 else 0
                    O = np.concatenate([O, V[:, :more]], 1)
            sizes[name] = O.shape

    def ours():
        for name, layer in layers.items():
            pool = Subspaces(layer.width)
            for task in seen:
                inputs = Inputs(layer.width)
                inputs.add(layer.vectors(task[name]))
                pool.grow(inputs, 0.97)
            assert not sizes or tuple(pool.basis.shape) == sizes[name]

    with threadpool_limits(1):  # NumPy's, too
        benchmark.pedantic(lambda: turns.play(3 if max(samples) < 200 else 1, published=published, ours=ours), rounds=1)
    ratio, bound = turns.ratio("published", "ours"), 10 if max(samples) < 200 else 20
    report(
        "time of building the bases of two tasks with NumPy's SVD of explicit patch matrices over ours: small AlexNet, "
        f"32x32, {samples} samples by layer",
        ratio,
        f">= {bound}",
        pools={name: list(shape) for name, shape in sizes.items()},
        milliseconds=turns.summary(),
    )
    assert ratio >= bound
