"""Every strategy keeps the rules, every way of breaking one is noticed, and each does what it is for."""

from __future__ import annotations

import gc
import itertools
import random
import sys
import time
from functools import cache

import numpy as np
import pytest
import torch
from carryover.base.errors import CarryoverError, InvalidError, MismatchError, UsageError
from carryover.evaluation import metrics
from carryover.evaluation.run import run_seed
from carryover.strategies import check_strategy
from carryover.strategies.check import blob_stream
from carryover.strategies.context import Context
from carryover.strategies.core import load_strategy
from carryover.strategies.er import ER
from carryover.strategies.finetune import Finetune
from carryover.streams import load_stream
from carryover.streams.core import CIL, DIL, ONLINE, SETTINGS, TASK_FREE, TIL, LabelledTest, Stream, StreamInfo
from carryover.tests.toys import FROM_SCRATCH

NAMES = FROM_SCRATCH
ALL = ["til", "cil", "dil", "online", "task-free"]
TOLD = ["til", "cil", "dil", "online"]  # of boundaries
CERTIFIED = {"finetune": ALL, "er": ALL, "ewc": TOLD[:3], "gpm": TOLD[:3]}
CERTIFIED |= {name: ["til"] for name in ("independent", "packnet", "trgp", "cuber")}


@pytest.mark.parametrize("name", NAMES)
def test_strategy_keeps_the_rules(name):
    assert check_strategy(name) == CERTIFIED.get(name, TOLD)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("finetune", {"optimizer": "adam", "lr": 0.01}),
        ("finetune", {"momentum": 0.9, "weight_decay": 0.01, "compete": "task"}),
        ("er", {"memory": 7, "replay_batch": 3}),
        ("gem", {"memory": 4, "margin": 0.0, "parity": True}),
        ("agem", {"memory": 3, "reference": 5}),
        ("ewc", {"fisher": "true", "decay": 0.5, "fisher_samples": 9}),
        ("lwf", {"model": "slim-resnet18", "model.norm": "batch", "model.filters": 2}),
    ],
)
def test_the_rules_hold_off_the_defaults(name, settings):
    stream = blob_stream(CIL, tasks=2)
    assert check_strategy(name, [stream], **settings) == ["cil"]


def test_the_rules_hold_over_several_passes():
    """Where the setting allows one pass alone, the strategy refuses, and that is no fault."""
    assert check_strategy("er", epochs=2) == ["til", "cil", "dil"]
    with pytest.raises(UsageError, match="refuses every stream"):
        check_strategy("er", [blob_stream(ONLINE)], epochs=2)


def test_torch_may_be_asked_for_chance_while_learning():
    """Its global generator is set at the start of each task and saved with the run; dropout relies on it."""

    class Dropping(Finetune):
        def loss(self, batch):
            return super().loss(batch._replace(x=torch.dropout(batch.x, 0.2, train=True)))

    assert check_strategy(Dropping) == ALL


def test_checking_leaves_the_global_generators_and_the_streams_alone():
    stream = blob_stream(CIL)
    before, fingerprint = torch.get_rng_state(), stream.fingerprint
    check_strategy("finetune", [stream])
    assert torch.equal(torch.get_rng_state(), before)
    del stream.__dict__["fingerprint"]
    assert stream.fingerprint == fingerprint
    assert all(task.train.drawn["samples"] == 0 for task in stream)


# -- saboteurs ------------------------------------------------------------------------------------------------------


def remember(cheat, tests):
    """What a thief does with test sets: answer with the label of the nearest test sample."""
    cheat.loot = torch.cat([t.data.samples for t in tests]).clone(), torch.cat([t.data.targets for t in tests]).clone()


class Thief(Finetune):
    """Has got hold of test data in `learn`, somehow, and looks answers up."""

    loot = None

    def predict(self, inputs, query):
        ids = super().predict(inputs, query)
        if self.loot is None:
            return ids
        distance, nearest = (inputs.flatten(1)[:, None] - self.loot[0].flatten(1)).norm(dim=2).min(1)
        labels = self.loot[1][nearest]
        known = (distance < 1e-3) & torch.isin(labels, torch.tensor(query.classes))
        return torch.where(known, labels, ids)


class StealsThroughFrames(Thief):
    def learn(self, task):
        frame = sys._getframe()
        while frame is not None:
            for value in list(frame.f_locals.values()):
                if isinstance(value, Stream):
                    remember(self, value.tests)
            frame = frame.f_back
        super().learn(task)


class StealsThroughTheHarness(Thief):
    def learn(self, task):
        remember(self, self.context.tick.__self__.stream.tests)
        super().learn(task)


class StealsThroughTheCollector(Thief):
    def learn(self, task):
        shape = task.train.shape
        tests = [o for o in gc.get_objects() if type(o) is LabelledTest and o.data.shape == shape]
        remember(self, tests)
        super().learn(task)


class StealsSamplesAlone(Finetune):
    """Test samples without labels are out of reach as well: here they become the first layer's bias."""

    def end_task(self, task):
        samples = torch.cat([t.data.samples for t in self.context.tick.__self__.stream.tests])
        with torch.no_grad():
            self.model[1].bias.fill_(samples.mean())


class LooksAhead(Finetune):
    def begin_task(self, task):
        later = self.context.tick.__self__.stream.tasks[-1].train
        with torch.no_grad():
            self.model[1].bias.fill_(later.samples.mean())


class AsksForTheTask(Finetune):
    def predict(self, inputs, query):
        return self.objective.decide(self.model(inputs) + query.task, query)


class CountsOnTheIndex(Finetune):
    def begin_task(self, task):
        self.weight = 1 / (task.index + 1)


class DrawsFromNumpy(Finetune):
    def loss(self, batch):
        return super().loss(batch) * (1 + 0.1 * np.random.rand())


class DrawsFromPython(Finetune):
    def loss(self, batch):
        return super().loss(batch) * (1 + 0.1 * random.random())


class DrawsBeforeTheTask(Finetune):
    def setup(self, info, context):
        super().setup(info, context)
        with torch.no_grad():
            self.model[1].bias += 0.1 * torch.randn(100)


class AsksTheClock(Finetune):
    def loss(self, batch):
        return super().loss(batch) * (1 + time.perf_counter() % 1)


class UsesBatchStatistics(Finetune):
    def predict(self, inputs, query):
        return super().predict(inputs - inputs.mean(0), query)


class RanksTheBatch(Finetune):
    """Balances its answers over the batch, as if test sets were balanced."""

    def predict(self, inputs, query):
        if not query.classes:
            return super().predict(inputs, query)
        logits = self.model(inputs)[:, list(query.classes)]
        return query.column_index("cpu")[(logits - logits.mean(0)).argmax(1)]


class StaysInTraining(Finetune):
    def predict(self, inputs, query):
        self.model.train()
        return super().predict(inputs, query)


class RemembersWhatABatchSaid(Finetune):
    """Batch statistics at test, behind a memory of what was asked before."""

    def setup(self, info, context):
        super().setup(info, context)
        self.memory = {}

    def predict(self, inputs, query):
        ids = super().predict(inputs - inputs.mean(0), query)
        keys = [(query.classes, self.tasks_begun, *x.flatten().tolist()) for x in inputs]
        return torch.tensor([self.memory.setdefault(key, int(c)) for key, c in zip(keys, ids, strict=True)])


class RefusesSingleSamples(Finetune):
    def predict(self, inputs, query):
        return super().predict(inputs, query).squeeze()


class RemembersTheLastAnswer(Finetune):
    def predict(self, inputs, query):
        self.asked = getattr(self, "asked", 0) + 1
        return super().predict(inputs * (-1) ** self.asked, query)


class AdaptsAtTest(Finetune):
    def predict(self, inputs, query):
        with torch.no_grad():
            self.model[-1].bias += 1e-6
        return super().predict(inputs, query)


class DrawsAtTest(Finetune):
    def predict(self, inputs, query):
        torch.rand(1)
        return super().predict(inputs, query)


class ForgetsItsMemory(ER):
    stateful = Finetune.stateful


class ForgetsTheOptimizer(Finetune):
    stateful = tuple(name for name in Finetune.stateful if name != "optimizer")

    def __init__(self, **settings):
        super().__init__(momentum=0.9, **settings)


class ForgetsACounter(Finetune):
    seen = 0

    def loss(self, batch):
        self.seen += 1
        return super().loss(batch) / self.seen


class KeepsAnArray(Finetune):
    stateful = (*Finetune.stateful, "array")

    def setup(self, info, context):
        super().setup(info, context)
        self.array = np.zeros(3)


class AnswersWithLogits(Finetune):
    def predict(self, inputs, query):
        return self.model(inputs)


class AnswersOutsideTheQuery(Finetune):
    def predict(self, inputs, query):
        return self.model(inputs).argmax(1)


class BuildsInTheConstructor(Finetune):
    def __init__(self, **settings):
        super().__init__(**settings)
        self.net = torch.nn.Linear(2, 2)


class DoesNotRefuse(Finetune):
    needs = ("task_id_at_test",)

    def setup(self, info, context):
        self.needs, needs = (), self.needs
        super().setup(info, context)
        self.needs = needs


class TakesSecondHelpings(Finetune):
    def learn(self, task):
        super().learn(task)
        self.step = 0
        super().learn(task)


class Crashes(Finetune):
    def end_task(self, task):
        return 1 / 0


READS = "so it reads test data"
SABOTEURS = [
    (StealsThroughFrames, CIL, MismatchError, READS),
    (StealsThroughTheHarness, DIL, MismatchError, READS),
    # finds test sets of other tests as well, which are not the ones changed
    (StealsThroughTheCollector, TIL, MismatchError, f"{READS}|state_dict must carry"),
    (StealsSamplesAlone, CIL, MismatchError, READS),
    (LooksAhead, CIL, MismatchError, "a task that is still to come"),
    (AsksForTheTask, CIL, InvalidError, "predict asks for what the setting withholds"),
    (CountsOnTheIndex, TASK_FREE, InvalidError, "learn raised TypeError"),
    (DrawsFromNumpy, CIL, MismatchError, "the same seed gives another result"),
    (DrawsFromPython, CIL, MismatchError, "the same seed gives another result"),
    (DrawsBeforeTheTask, CIL, MismatchError, "the same seed gives another result"),
    (AsksTheClock, CIL, MismatchError, "the same seed gives another result"),
    (UsesBatchStatistics, DIL, MismatchError, "predictions change"),
    (RanksTheBatch, CIL, MismatchError, "predictions change"),
    (RemembersWhatABatchSaid, DIL, MismatchError, "predictions change"),
    (RefusesSingleSamples, CIL, InvalidError, r"must return class ids \[B\]"),
    (RemembersTheLastAnswer, DIL, MismatchError, "predictions change when asked again"),
    (AdaptsAtTest, CIL, MismatchError, "predict changes the state .*model"),
    (DrawsAtTest, CIL, MismatchError, "predict changes the state or the generators .*global"),
    (ForgetsItsMemory, CIL, MismatchError, "saved at step .*state_dict must carry"),
    (ForgetsTheOptimizer, CIL, MismatchError, "saved at step 1 of task 0"),
    (ForgetsACounter, CIL, MismatchError, "saved at step 1 of task 0"),
    (KeepsAnArray, CIL, InvalidError, "array holds ndarray"),
    (AnswersWithLogits, CIL, InvalidError, r"must return class ids \[B\]"),
    (AnswersOutsideTheQuery, TIL, InvalidError, "not in query.classes"),
    (BuildsInTheConstructor, CIL, InvalidError, "the constructor builds 'net'"),
    (DoesNotRefuse, CIL, InvalidError, "names 'task_id_at_test' among its needs"),
    (TakesSecondHelpings, ONLINE, InvalidError, "draws 50 times from 25 samples"),
    (Crashes, CIL, InvalidError, "learn raised ZeroDivisionError"),
]


@pytest.mark.parametrize(("cls", "setting", "error", "message"), SABOTEURS, ids=lambda v: getattr(v, "__name__", None))
def test_saboteurs_are_found(cls, setting, error, message):
    with pytest.raises(error, match=message) as caught:
        check_strategy(cls, [blob_stream(setting)])
    assert "\n" not in str(caught.value)


def test_networks_with_batch_statistics_at_test_are_found():
    stream = blob_stream(CIL, tasks=2)
    settings = {"model": "slim-resnet18", "model.norm": "batch", "model.filters": 2}
    with pytest.raises(CarryoverError, match="predict"):
        check_strategy(StaysInTraining, [stream], **settings)


def test_a_check_asks_for_a_strategy():
    with pytest.raises(UsageError, match="unknown strategy 'fintune'.*finetune"):
        check_strategy("fintune")
    with pytest.raises(UsageError, match="lr"):
        check_strategy("finetune", lr=-1)


# -- what they are for ----------------------------------------------------------------------------------------------


@cache
def scores(name: str, setting: str) -> tuple[float, float]:
    """ACC and BWT on blobs that overlap, mean over three seeds."""
    stream = blob_stream(SETTINGS[setting], tasks=4, train=100, test=60, noise=2.5, honest=True)
    counts = [run_seed(load_strategy(name)(), stream, seed)[0].correct for seed in range(3)]
    R = torch.tensor(counts, dtype=torch.float64) / 60
    return metrics.acc(R).mean().item(), metrics.bwt(R).mean().item()


@pytest.mark.parametrize(
    ("name", "setting"),
    [(n, s) for n, s in itertools.product(NAMES, ["til", "cil", "dil"]) if s in CERTIFIED.get(n, TOLD)],
)
def test_strategies_lie_between_fine_tuning_and_joint_training(name, setting):
    acc, bwt = scores(name, setting)
    chance = 1 / (8 if setting == "cil" else 2)
    assert acc > chance
    assert bwt >= scores("finetune", setting)[1] - 0.02
    assert acc <= scores("joint", setting)[0] + 0.03


def test_fine_tuning_forgets_and_replay_does_not():
    assert scores("finetune", "cil")[1] < -0.5
    assert scores("er", "cil")[1] > scores("finetune", "cil")[1] + 0.5
    assert scores("gem", "cil")[1] > scores("finetune", "cil")[1] + 0.5


@pytest.mark.parametrize("name", ["er", "gem"])
def test_memories_beat_fine_tuning_on_rotated_digits(name):
    stream = load_stream("rotated-digits", n_tasks=5, train_per_task=400)
    acc = {}
    for method in ("finetune", name):
        rows = [run_seed(load_strategy(method)(lr=0.1), stream, seed)[0].correct[-1] for seed in range(3)]
        acc[method] = [sum(row) / sum(stream.test_sizes) for row in rows]
    gains = [ours - theirs for ours, theirs in zip(acc[name], acc["finetune"], strict=True)]
    assert min(gains) > 0.05, gains


def test_gem_refuses_batch_normalisation_in_one_line():
    gem = load_strategy("gem")(model="slim-resnet18", **{"model.norm": "batch"})
    with pytest.raises(UsageError, match="batch normalisation"):
        gem.setup(StreamInfo("images", (3, 8, 8), 2, CIL), Context(0))
