"""Prompts and norms in a transformer against the plain published way: two full forwards, float32, no cache.

On a GPU the network is ViT-B/16 at 224 pixels; elsewhere the small one, which says nothing of the bounds.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from carryover.benchmarks.speed.turns import Turns
from carryover.evaluation.evaluator import Evaluator
from carryover.strategies.backbones.vit import Plugs
from carryover.strategies.context import Context
from carryover.strategies.core import load_strategy
from carryover.streams.augment import CenterCrop, RandomResizedCrop
from carryover.streams.core import CIL, Data, LabelledTest, Stream, Task

CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CUDA else "cpu")
MODEL, STORED, SIZE = ("vit-b16", 256, 224) if CUDA else ("vit-micro", 24, 24)
TRAIN, TEST, BATCH = (1280, 640, 128) if CUDA else (128, 96, 32)
TASKS, CLASSES = 4, 20
SETTINGS = {"model": MODEL, "model.weights": "random", "batch_size": BATCH}
OURS = SETTINGS | ({"model.precision": "bfloat16"} if CUDA else {})
METHODS = {"dualprompt": {"epochs": 2}, "layernorm": {"epochs": 2, "key_epochs": 2, "head_epochs": 2}}
BOUNDS = {"dualprompt": 1.5, "layernorm": 2.0}


def noise_stream() -> Stream:
    """Images of noise: what a step costs does not depend on the pixels."""
    draw = torch.Generator().manual_seed(0)
    ways = (CenterCrop(SIZE), RandomResizedCrop(SIZE)) if CUDA else (None, None)

    def data(n: int, t: int) -> Data:
        x = torch.randint(256, (n, 3, STORED, STORED), dtype=torch.uint8, generator=draw)
        return Data(x, torch.arange(n) % CLASSES + t * CLASSES, *ways).to(DEVICE)

    tasks = [Task(t, f"task {t}", tuple(range(t * CLASSES, (t + 1) * CLASSES)), data(TRAIN, t)) for t in range(TASKS)]
    return Stream("noise", 1, CIL, tasks, [LabelledTest(data(TEST, t)) for t in range(TASKS)], TASKS * CLASSES)


def begun(name: str, stream: Stream, settings: dict):
    """A strategy set up on the device."""
    made = load_strategy(name)(**settings | METHODS[name])
    made.setup(stream.info, Context(0, DEVICE))
    return made


def learn(strategy, stream: Stream, index: int) -> None:
    """One task, as the evaluation loop has it learnt, to the end of its work."""
    strategy.context.begin(index)
    strategy.learn(stream.shown(index))
    _settled()


def plain_dualprompt(s, task: Task) -> None:
    """Query and prompted forward for every batch of every pass."""
    params = [p for p in s.model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(params, lr=s.config.lr)
    for x, y in _passes(task.train, s.config.epochs):
        with torch.no_grad():
            query = s.model.vit.features(x)
        loss = F.cross_entropy(_masked(s.model.vit.head(s.model.features(x, 0)), task), y)
        loss = loss - F.cosine_similarity(query, s.model.keys.keys[:1]).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        optimizer.step()
    _settled()


def plain_layernorm(s, task: Task) -> None:
    """Keys, norms, and rectification with a query for every batch of every pass; norms gathered per sample."""
    model, sets = s.model, s.model.sets
    zero = lambda x: torch.zeros(len(x), dtype=torch.int64, device=x.device)
    for params, rate, stage in (
        ([model.keys.keys], s.config.lr, "keys"),
        ([sets.sets[0], *model.temporary["head"].parameters()], s.config.lr, "norms"),
        (list(model.vit.head.parameters()), s.config.head_lr, "head"),
    ):
        for p in params:
            p.requires_grad_(True)
        optimizer = torch.optim.Adam(params, lr=rate)
        for x, y in _passes(task.train, 2):
            if stage == "keys":
                with torch.no_grad():
                    query = model.vit.features(x)
                loss = -F.cosine_similarity(query, model.keys.keys[:1]).mean()
            elif stage == "norms":
                found = model.vit.features(x, Plugs(norm=lambda n, x: sets.pair(n, zero(x))))
                loss = F.cross_entropy(_masked(model.temporary["head"](found), task), y)
            else:
                with torch.no_grad():
                    chosen = F.cosine_similarity(model.vit.features(x)[:, None], model.keys.keys[None, :1], 2).argmax(1)
                    found = model.vit.features(x, Plugs(norm=lambda n, x, c=chosen: sets.pair(n, c)))
                loss = F.cross_entropy(_masked(model.vit.head(found), task), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    _settled()


PLAIN = {"dualprompt": plain_dualprompt, "layernorm": plain_layernorm}


@pytest.mark.parametrize("name", METHODS)
def test_training(benchmark, report, name):
    """One task, after one that does not count."""
    stream, turns = noise_stream(), Turns("wall")
    ours, theirs = begun(name, stream, OURS), begun(name, stream, SETTINGS)

    def run():
        learn(ours, stream, 0)
        PLAIN[name](theirs, stream.tasks[0])
        for index in range(1, TASKS):
            with turns.take("carryover"):
                learn(ours, stream, index)
            with turns.take("plain"):
                PLAIN[name](theirs, stream.tasks[0])

    benchmark.pedantic(run, rounds=1)
    ratio = turns.ratio("plain", "carryover")
    report(
        f"throughput of training {name} over the plain published way: {MODEL} at {SIZE} pixels, batch {BATCH}, on "
        f"{DEVICE.type}",
        ratio,
        f">= {BOUNDS[name]} on a GPU",
        milliseconds=turns.summary(),
    )
    assert ratio >= BOUNDS[name] or not CUDA


@pytest.mark.parametrize("name", METHODS)
def test_evaluating(benchmark, report, name):
    """All rows of a run of four tasks, two forwards for every image in every row on the other side."""
    stream, turns = noise_stream(), Turns("wall")
    ours, theirs = begun(name, stream, OURS), begun(name, stream, SETTINGS)
    evaluator = Evaluator(stream, DEVICE)
    x = torch.cat([test.data.samples for test in stream.tests])
    way = stream.tests[0].data

    @torch.no_grad()
    def plain():
        for part in x.split(BATCH):
            inputs = way.prepare(part)
            query = theirs.model.vit.features(inputs)
            chosen = F.cosine_similarity(query[:, None], theirs.model.keys.keys[None], 2).argmax(1)
            if name == "dualprompt":
                theirs.model.vit.head(theirs.model.features(inputs, chosen))
            else:
                theirs.model.vit.head(theirs.model.vit.features(inputs, theirs.model.sets.plugs(chosen)))
        _settled()

    def run():
        plain()
        for index in range(TASKS):
            learn(ours, stream, index)
            with turns.take("carryover"):
                evaluator.row(ours, ours.context, index + 1)
                _settled()
            with turns.take("plain"):
                plain()

    benchmark.pedantic(run, rounds=1)
    ratio = sum(turns.times("plain")) / sum(turns.times("carryover"))
    report(
        f"throughput of evaluating {name}, {TASKS} rows, over the plain published way: {MODEL} at {SIZE} pixels, on "
        f"{DEVICE.type}",
        ratio,
        ">= 3 on a GPU",
        milliseconds=turns.summary(),
    )
    assert ratio >= 3 or not CUDA


def _passes(data: Data, epochs: int):
    for _ in range(epochs):
        for rows in torch.randperm(len(data)).to(DEVICE).split(BATCH):
            stored, y = data.gather(rows)
            yield data.prepare(stored, torch.Generator(DEVICE).manual_seed(0)), y


def _masked(logits: torch.Tensor, task: Task) -> torch.Tensor:
    mask = torch.full_like(logits[:1], -torch.inf)
    mask[:, list(task.classes)] = 0
    return logits + mask


def _settled() -> None:
    if CUDA:
        torch.cuda.synchronize()
