"""What every result rests on: predictions that stand alone, nothing reachable that is withheld, all samples counted,
the same seed the same record."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import torch
from carryover.evaluation.evaluator import Evaluator
from carryover.evaluation.record import evidence_bytes, unpack_evidence
from carryover.evaluation.run import run_seed
from carryover.strategies import Context, load_strategy
from carryover.strategies.check import blob_stream
from carryover.strategies.core import GradientStrategy
from carryover.strategies.finetune import Finetune
from carryover.streams import load_stream
from carryover.streams.core import CIL, DIL, SETTINGS, TASK_FREE, TIL, Data, LabelledTest, Stream
from carryover.tests.toys import FROM_SCRATCH, granted, learn, parameters, started

LOOPS = [n for n in FROM_SCRATCH if issubclass(load_strategy(n), GradientStrategy)]  # wrapped around nothing
STREAM = blob_stream(CIL, test=40, noise=2.5, honest=True)
CPU = torch.device("cpu")


def result(name, stream=STREAM, seed=0, **options):
    """Run and evidence of one seed."""
    cls = load_strategy(name) if isinstance(name, str) else name
    settings = options.pop("settings", {})
    return run_seed(cls(**settings), stream, seed, **options)


# -- 1: a prediction depends on its own sample ----------------------------------------------------------------------


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=list(SETTINGS))
def test_evaluation_in_one_sweep_is_evaluation_task_by_task(setting):
    stream = blob_stream(setting, test=37, noise=5.0, honest=True)
    strategy = learn(started("finetune", stream), stream)
    reference = []
    for j, test in enumerate(stream.tests):
        for x, y in zip(test.data.samples, test.data.targets, strict=True):
            reference.append(bool(strategy.predict(x[None], stream.query(j, 3)) == y))
    for batch_size in (1, 7, 37, 1000):
        row = Evaluator(stream, CPU, batch_size).row(strategy, strategy.context, 3)
        assert row.tolist() == reference
    assert 0 < sum(reference) < len(reference)


def test_only_settings_that_ask_one_question_are_swept():
    swept = {name for name, s in SETTINGS.items() if Evaluator(blob_stream(s), CPU)._sweep is not None}
    assert swept == {"cil", "dil", "online", "task-free"}
    other = blob_stream(CIL)
    first = other.tests[0].data
    other.tests[0] = LabelledTest(dataclasses.replace(first, transform=lambda x: 2 * x))
    assert Evaluator(other, CPU)._sweep is None  # prepared in another way


# -- 2: what is withheld --------------------------------------------------------------------------------------------


def reachable(*roots):
    """Everything found by following attributes, items and slots, as a curious strategy would."""
    seen, waiting = {}, list(roots)
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen or isinstance(thing, (str, bytes, int, float, torch.Tensor, type)):
            continue
        seen[id(thing)] = thing
        if isinstance(thing, dict):
            waiting += [*thing.keys(), *thing.values()]
        elif isinstance(thing, (list, tuple, set)):
            waiting += thing
        else:
            waiting += vars(thing).values() if hasattr(thing, "__dict__") else []
    return seen.values()


def test_a_strategy_is_handed_no_way_to_tests_or_other_tasks():
    met = []

    class Curious(Finetune):
        def learn(self, task):
            met.extend(reachable(task, self.info, self))
            assert [d for d in met if isinstance(d, Data)] == [task.train]
            super().learn(task)
            met.clear()

        def predict(self, inputs, query):
            met.extend(reachable(query, self.info, self, self.context))
            return super().predict(inputs, query)

    result(Curious)
    assert met
    assert not [thing for thing in met if isinstance(thing, (Stream, LabelledTest))]


def test_a_setting_shows_what_it_grants():
    stream = load_stream("rotated-digits", n_tasks=2, train_per_task=20)
    assert stream.shown(1).index == 1 and stream.shown(1).meta["angle"]
    hidden = stream.with_setting(TASK_FREE).shown(1)
    assert hidden.index is None and hidden.name == "" and not hidden.meta
    assert hidden.classes == tuple(range(10))


def test_task_id_reads_are_counted():
    stream = blob_stream(TIL)
    assert result("independent", stream)[0].usage.task_id_reads > 0
    assert result("finetune", stream)[0].usage.task_id_reads == 0


# -- 3: frozen parameters -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n in LOOPS if n != "independent"])
def test_frozen_parameters_do_not_move(name):
    """Neither by momentum and weight decay, nor by a projection or a penalty."""

    class Frozen(load_strategy(name)):
        def new_model(self, *purpose):
            model = super().new_model(*purpose)
            model[1].requires_grad_(False)
            return model

    settings = {} if name in ("gpm", "trgp", "cuber") else {"weight_decay": 0.1}
    settings |= {} if name in ("gem", "agem") else {"momentum": 0.9}
    stream = STREAM.with_setting(granted(name, CIL))
    strategy = started(Frozen, stream, **settings)
    frozen, free = strategy.model[1].weight.clone(), strategy.model[3].weight.clone()
    learn(strategy, stream)
    assert torch.equal(strategy.model[1].weight, frozen)
    assert not torch.equal(strategy.model[3].weight, free)


# -- 5: the same seed, the same record ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n in FROM_SCRATCH if n != "independent"])
def test_rows_do_not_depend_on_later_tasks(name):
    stream = STREAM.with_setting(granted(name, CIL))
    whole, _ = result(name, stream)
    prefix, evidence = result(name, stream, until=2)
    assert prefix.status == "partial" and evidence is None and prefix.evidence is None
    assert prefix.correct[:3] == whole.correct[:3]
    assert prefix.correct[3] == [None] * 3
    # nor does it help to change what is to come; the test sets stay
    other = dataclasses.replace(stream, tasks=[*stream.tasks[:2], dataclasses.replace(stream.tasks[0], index=2)])
    changed, _ = result(name, other)
    # row 0 is asked before any class is seen, so it too agrees; with task ids, the changed task asks another question
    alike = 2 if stream.setting.label_space == "task" else 3
    assert [row[:alike] for row in changed.correct[:3]] == [row[:alike] for row in whole.correct[:3]]
    assert changed.correct[3] != whole.correct[3]


def test_same_seed_same_result_another_seed_another():
    first, again, other = (result("er", seed=seed)[0] for seed in (0, 0, 1))
    assert first.result_digest() == again.result_digest() != other.result_digest()
    assert first.correct != other.correct


PROGRAM = """
import random, numpy, torch
random.seed(5); numpy.random.seed(5); torch.manual_seed(5); torch.rand(17)
torch.set_num_threads(1)
from carryover.strategies import load_strategy
from carryover.streams import load_stream
from carryover.evaluation.run import run_seed
stream = load_stream("split-digits", n_tasks=2, train_per_task=60)
for name in ("gem", "er"):
    print(run_seed(load_strategy(name)(), stream, 3)[0].result_digest())
"""


def test_a_fresh_process_gives_the_same_result():
    theirs = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stdout.split()
    stream = load_stream("split-digits", n_tasks=2, train_per_task=60)
    ours = [run_seed(load_strategy(name)(), stream, 3)[0].result_digest() for name in ("gem", "er")]
    assert ours == theirs


def test_timing_and_listening_are_no_part_of_the_result(tmp_path):
    heard = []
    plain, _ = result("er")
    watched, _ = result("er", listener=heard.append, checkpoint=tmp_path / "c.safetensors", every=0.0)
    assert plain.result_digest() == watched.result_digest()
    assert plain.measured.model_fields_set >= {"train_ms", "train_cpu_ms", "eval_ms"}


# -- 6: all samples count -------------------------------------------------------------------------------------------


class Scripted(Finetune):
    """Answers from a table, so that the right counts are known."""

    def learn(self, task):
        self.tasks_begun += 1

    def predict(self, inputs, query):
        if not query.classes:
            return super().predict(inputs, query)
        # the samples carry their label and how many tasks it takes until they are answered rightly
        label, when = inputs.flatten(1)[:, 0].long(), inputs.flatten(1)[:, 1]
        lowest = torch.tensor(min(query.classes))
        return torch.where((when <= self.tasks_begun) & torch.isin(label, torch.tensor(query.classes)), label, lowest)


def test_every_test_sample_is_counted_to_the_last():
    """Test sets of different sizes, and only the last sample of each is ever right."""
    sizes = [1, 8, 1025]
    tests = []
    for j, n in enumerate(sizes):
        samples = torch.full((n, 1, 4, 4), 99.0)
        samples[:, 0, 0, 0] = 2 * j + 1
        samples[-1, 0, 0, 1] = 0.0
        tests.append(LabelledTest(Data(samples, torch.full((n,), 2 * j + 1))))
    stream = dataclasses.replace(blob_stream(TIL), tests=tests)
    run, evidence = result(Scripted, stream)
    assert run.correct == [[1, 1, 1]] * 4
    bits = unpack_evidence(evidence, sizes)
    assert bits.shape == (4, sum(sizes))
    assert np.flatnonzero(bits[0]).tolist() == [0, 8, 1033]


@pytest.mark.parametrize("name", ["finetune", "gem"])
def test_counts_are_the_bits_of_the_evidence(name):
    run, evidence = result(name)
    sizes = STREAM.test_sizes
    assert len(evidence) == evidence_bytes(sizes) == run.evidence.bytes
    bits = unpack_evidence(evidence, sizes)
    for row, counts in zip(bits, run.correct, strict=True):
        assert [int(part.sum()) for part in np.split(row, np.cumsum(sizes)[:-1])] == counts
    assert run.correct[0] == [0, 0, 0]  # no class seen yet
    assert run.status == "complete"


def test_the_ledger_agrees_with_what_was_done():
    run, _ = result("er", settings={"memory": 20, "epochs": 2})
    assert run.usage.drawn == [50, 50, 50]
    assert (run.cost.samples_seen, run.cost.steps) == (150, 18)
    assert (run.cost.replay_samples, run.cost.replay_bytes) == (20, 20 * (16 * 4 + 8))
    weights = 16 * 100 + 100 * 100 + 100 * 6
    assert run.cost.params_total == run.cost.params_trained == weights + 206
    assert run.cost.eval_flops == 2 * weights * sum(STREAM.test_sizes) * 4


# -- runs that diverge ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n in FROM_SCRATCH if n != "independent"])
def test_a_run_that_diverges_says_so(name):
    stream = blob_stream(granted(name, DIL), train=60)
    run, evidence = result(name, stream, settings={"lr": 1e6, "epochs": 20})
    assert run.status == "diverged"
    assert evidence is None and run.evidence is None
    lost = run.correct.index([None] * 3)
    assert lost > 0 and all(row == [None] * 3 for row in run.correct[lost:])
    assert all(None not in row for row in run.correct[:lost])
    assert run.result_digest()


def test_a_context_draws_from_seed_task_and_purpose_alone():
    def draws(seed, task, purpose, before=0):
        context = Context(seed)
        context.begin(task)
        torch.rand(before)
        context.generator("other").manual_seed(before)
        return tuple(torch.rand(2, generator=context.generator(purpose)).tolist())

    assert draws(0, 1, "a") == draws(0, 1, "a", before=9)
    assert len({draws(s, t, p) for s in (0, 1) for t in (0, 1) for p in ("a", "b")}) == 8


def test_each_task_has_randomness_of_its_own():
    met = []

    class Listening(Finetune):
        def learn(self, task):
            met.append((self.context.task, torch.rand(1).item(), *self.context.key("batches")))
            super().learn(task)

    result(Listening, seed=5)
    assert [(task, *key) for task, _, *key in met] == [(k, 5, k, "batches") for k in range(3)]
    assert len({number for _, number, *_ in met}) == 3


def test_seeds_start_from_different_weights_and_strategies_from_the_same():
    assert torch.equal(parameters(started("er", STREAM)), parameters(started("gem", STREAM)))
    assert not torch.equal(parameters(started("er", STREAM)), parameters(started("er", STREAM, seed=1)))
