"""schedule="plateau": what it decides by, what it brings back, and that it leaves no trace where it is off."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from carryover.base.errors import UsageError
from carryover.evaluation import run as loop
from carryover.evaluation.checkpoint import save_state
from carryover.evaluation.run import run_seed
from carryover.evaluation.threads import probe
from carryover.strategies import check_strategy, load_strategy, registry
from carryover.strategies.check import blob_stream
from carryover.strategies.config import TrainConfig
from carryover.strategies.finetune import Finetune
from carryover.strategies.parts import plateau
from carryover.strategies.parts.plateau import Plateau, mean_loss
from carryover.streams.batches import Batch
from carryover.streams.core import CIL, DIL, TASK_FREE, TIL, Data, Setting, Stream
from carryover.tests.toys import FROM_SCRATCH, learn, parameters, pictures, started
from torch import nn

ON = {"schedule": "plateau", "model.hidden": [8]}
SOON = ON | {"epochs": 12, "patience": 2, "lr_factor": 10.0, "lr_min": 0.01, "lr": 0.3}  # ends after four bad passes


def blobs(setting: Setting = CIL, held: int = 11) -> Stream:
    """Blobs with validation data, a third of whose labels are wrong, so that their loss rises again."""
    stream = blob_stream(setting, honest=True)
    tasks = []
    for task, test in zip(stream.tasks, stream.tests, strict=True):
        y = test.data.targets[:held].clone()
        y[::3] = task.classes[0] + task.classes[1] - y[::3]
        tasks.append(dataclasses.replace(task, val=Data(test.data.samples[:held].clone(), y)))
    return dataclasses.replace(stream, tasks=tasks)


# -- the decisions --------------------------------------------------------------------------------------------------


def decided(losses, model=None, **settings):
    """(Reductions, whether the task has ended) after each loss; the weight is the number of the pass."""
    model = model or nn.Linear(1, 1)
    judge = Plateau(TrainConfig(**{"schedule": "plateau", "lr": 0.1} | settings))
    said = []
    for number, loss in enumerate(losses):
        nn.init.constant_(model.weight, number)
        judge.judge(loss, model)
        said.append((judge.reductions, judge.ended))
    return said, judge, model


def test_which_passes_lower_the_rate_and_which_ends_the_task():
    #         best, best, equal, worse,      best, bad, bad,       bad, bad
    losses = [1.0, 0.5, 0.5, 0.6, 0.4, 0.9, math.nan, 0.4, math.inf]
    said, judge, model = decided(losses, patience=2, lr_factor=10.0, lr_min=0.0005)
    assert [reductions for reductions, _ in said] == [0, 0, 0, 1, 1, 1, 2, 2, 3]
    assert [ended for _, ended in said] == [False] * 8 + [True]
    assert judge.best == 0.4
    judge.settle(model)
    assert model.weight.item() == 4
    assert (judge.best, judge.bad, judge.reductions, judge.weights) == (math.inf, 0, 0, {})
    assert not judge.ended


def test_the_rate_may_reach_its_least_but_not_fall_below():
    for least, ends in ((0.025, [False, False, True]), (0.026, [False, True, True])):
        said, _, _ = decided([1.0, 1.0, 1.0, 1.0], patience=1, lr_min=least)
        assert [ended for _, ended in said[1:]] == ends
    published, _, _ = decided([1.0] * 61, lr=0.01)  # 0.01 halved until it is below 1e-5: ten times six passes
    assert [ended for _, ended in published].index(True) == 60


def test_losses_that_are_no_numbers_bring_nothing_back():
    _, judge, model = decided([math.nan, math.inf], patience=1)
    judge.settle(model)
    assert model.weight.item() == 1


@pytest.mark.parametrize("patience", [1, 2, 5])
@pytest.mark.parametrize("factor", [2.0, 3.0])
def test_rates_are_those_of_torch(patience, factor):
    """torch counts the bad passes that it puts up with, here those that it does not; and ends nothing."""
    draw = torch.Generator().manual_seed(patience)
    losses = [round(float(loss), 1) for loss in torch.rand(200, generator=draw) + torch.linspace(1, 0, 200)]
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=1 / factor, patience=patience - 1, threshold=0, eps=0
    )
    said, _, _ = decided(losses, patience=patience, lr_factor=factor)
    assert said[-1][0] > 3
    for loss, (reductions, _) in zip(losses, said, strict=True):
        theirs.step(loss)
        assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1 / factor**reductions)


def test_only_what_is_trained_is_kept_and_statistics_with_it():
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    model[0].requires_grad_(False)
    judge = Plateau(TrainConfig(schedule="plateau"))
    judge.judge(1.0, model)
    assert set(judge.weights) == {"1.weight", "1.bias", "1.running_mean", "1.running_var", "1.num_batches_tracked"}
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model(torch.rand(5, 3))
    model[1].weight.data.add_(1)
    judge.settle(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


# -- in the loop ----------------------------------------------------------------------------------------------------


class Scripted(Finetune):
    """Fine-tuning that is told its validation losses, and tells what became of it."""

    losses = (3.0, 2.0, 2.5, 2.6, 2.7, 2.8, 1.0)

    def setup(self, info, context):
        super().setup(info, context)
        self.rates, self.after, self.ticks, self.asked = [], [], [], 0
        self.context.tick = lambda step, total: self.ticks.append((step, total))

    def validation_loss(self, x, y):
        assert not self.model.training and not torch.is_grad_enabled()
        self.asked += 1
        self.after.append(parameters(self))
        return torch.tensor(self.losses[self.asked - 1])

    def after_step(self, batch):
        assert self.model.training
        self.rates.append([group["lr"] for group in self.optimizer.param_groups])

    def end_task(self, task):
        self.at_end = parameters(self)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_an_end_before_the_last_pass(optimizer):
    """25 samples in 3 steps a pass; after the fifth and sixth pass the rate is too low."""
    stream = blobs()
    settings = ON | {"epochs": 9, "patience": 2, "lr_factor": 4.0, "lr": 0.08, "lr_min": 0.01, "optimizer": optimizer}
    strategy = learn(started(Scripted, stream, **settings), stream, 1)
    assert strategy.asked == 6
    assert strategy.rates == [[0.08]] * 12 + [[0.02]] * 6
    assert torch.equal(strategy.at_end, strategy.after[1])
    assert not torch.equal(strategy.at_end, strategy.after[5])
    assert strategy.ticks[:17] == [(step, 27) for step in range(1, 18)]
    assert strategy.ticks[17:] == [(27, 27)]
    assert (strategy.context.meter.steps, strategy.context.meter.samples) == (18, 6 * 25)
    assert stream.tasks[0].train.drawn["samples"] == 6 * 25
    assert stream.tasks[0].val.drawn["samples"] == 0
    assert (strategy.step, strategy.plateau.reductions) == (0, 0)


def test_all_passes_where_nothing_ends_the_task():
    stream = blobs()
    strategy = learn(started(Scripted, stream, **ON, epochs=7), stream, 1)
    assert strategy.ticks == [(step, 21) for step in range(1, 22)]
    assert torch.equal(strategy.at_end, strategy.after[6])  # the best pass was the last


def test_every_group_has_its_rate_reduced(monkeypatch):
    monkeypatch.setattr(Scripted, "losses", (1.0, 1.0, 1.0))
    stream = blobs()
    widths = {"model.width": 0.2, "model": "lenet"}
    settings = ON | {"epochs": 3, "patience": 1, "lr": 0.1, "head_lr": 0.4} | widths
    del settings["model.hidden"]
    strategy = learn(started(Scripted, stream, **settings), stream, 1)
    assert strategy.rates[::3] == [[0.1, 0.4], [0.1, 0.4], [0.05, 0.2]]


def test_each_task_begins_anew():
    stream = blobs()
    record, _ = run_seed(load_strategy("finetune")(**SOON), stream, 0)
    assert record.status == "complete"
    drawn = record.usage.drawn
    assert all(25 < count < 12 * 25 and count % 25 == 0 for count in drawn)  # each ended early, none at once
    assert record.cost.samples_seen == sum(drawn)
    assert record.cost.steps == sum(drawn) // 25 * 3
    assert record.cost.state_bytes == 0  # the best weights are not kept


def test_the_mean_is_over_all_samples(monkeypatch):
    """In batches of 16 and a last one of 5; the ledger counts a forward pass over each, and no sample is drawn."""
    stream = blobs(DIL)
    strategy = started("finetune", stream, **{"model.hidden": [8]})
    strategy.objective.reveal(stream.tasks[0])
    draw = torch.Generator().manual_seed(0)
    data = Data(torch.randint(256, (37, 1, 4, 4), generator=draw).byte(), torch.arange(37) % 2)
    monkeypatch.setattr(plateau, "ELEMENTS", 16 * 16)
    sizes = []

    def loss(x, y):
        sizes.append(len(y))
        return strategy.validation_loss(x, y)

    strategy.model.train()
    strategy.context.begin(0)
    found = mean_loss(strategy.model, loss, data, strategy.context)
    assert strategy.model.training
    assert sizes == [16, 16, 5]
    whole = nn.functional.cross_entropy(strategy.model(data.prepare(data.samples)), data.targets)
    assert found == pytest.approx(whole.item(), rel=1e-6)
    meter = strategy.context.meter
    assert meter.flops["train"] == 2 * 37 * (16 * 8 + 8 * 2)
    assert (meter.steps, meter.samples, data.drawn["samples"]) == (0, 0, 0)


def test_the_ledger_counts_the_passes_over_validation_data():
    stream = blobs(DIL)
    on, _ = run_seed(load_strategy("finetune")(**ON, epochs=4), stream, 0)
    off, _ = run_seed(load_strategy("finetune")(epochs=4, **{"model.hidden": [8]}), stream, 0)
    assert on.cost.train_flops - off.cost.train_flops == 3 * 4 * 2 * 11 * (16 * 8 + 8 * 2)
    assert on.usage.drawn == off.usage.drawn
    assert on.cost.samples_seen == off.cost.samples_seen


def test_joint_training_is_judged_by_all_validation_data():
    stream = blobs()
    joint = learn(started("joint", stream, **ON, epochs=2), stream, 2)
    assert torch.equal(joint.held.targets, torch.cat([task.val.targets for task in stream.tasks[:2]]))
    assert "held" not in started("joint", stream).state_dict()


# -- stopped and gone on --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["finetune", "er", "gem", "ewc", "joint"])
def test_saved_at_any_step_it_ends_the_same(name):
    """`check_strategy` takes a snapshot after every step, at the ends of passes and of tasks, too."""
    check_strategy(name, [blobs()], **SOON | {"epochs": 7})


@pytest.mark.parametrize("settings", [SOON, SOON | {"optimizer": "adam", "lr": 0.05}])
def test_stopped_once_at_any_step(settings, monkeypatch, tmp_path):
    stream = blobs()
    whole, evidence = run_seed(load_strategy("finetune")(**settings), stream, 0)
    assert whole.cost.steps < 3 * 12 * 3
    for keep in range(1, whole.cost.steps + 3):
        path, chances = tmp_path / f"{keep}.safetensors", []

        def save(path, state, chances=chances, keep=keep):
            chances.append(None)
            if len(chances) == keep:
                save_state(path, state)
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(loop, "save_state", save)
            with pytest.raises(KeyboardInterrupt):
                run_seed(load_strategy("finetune")(**settings), stream, 0, checkpoint=path, every=0.0)
        again, bits = run_seed(load_strategy("finetune")(**settings), stream, 0, checkpoint=path)
        assert again.result_digest() == whole.result_digest(), f"stopped at chance {keep}"
        assert bits == evidence


# -- where it is off, or refused ------------------------------------------------------------------------------------


def test_no_trace_where_it_is_off():
    stream = blobs()
    plain = started("finetune", stream)
    assert "plateau" not in plain.state_dict()
    assert "plateau" in started("finetune", stream, **ON).state_dict()
    assert "plateau" not in Finetune.stateful
    without = dataclasses.replace(stream, tasks=[dataclasses.replace(task, val=None) for task in stream.tasks])
    settings = {"patience": 1, "lr_factor": 9.0, "lr_min": 1.0, "epochs": 5}
    for schedule in ("constant", "cosine", "step"):
        one = learn(started("finetune", stream, schedule=schedule, **settings), stream)
        other = learn(started("finetune", without, schedule=schedule, epochs=5), without)
        assert torch.equal(parameters(one), parameters(other))


def test_a_rate_that_never_falls_changes_the_last_weights_alone(monkeypatch):
    """Validation moves no generator, and no weight before the end."""
    stream = blobs()
    constant = learn(started("finetune", stream, epochs=5, **{"model.hidden": [8]}), stream, 1)
    monkeypatch.setattr(Scripted, "losses", (5.0, 4.0, 3.0, 2.0, 1.0))
    best_is_last = learn(started(Scripted, stream, **ON, epochs=5), stream, 1)
    assert torch.equal(parameters(constant), parameters(best_is_last))


def test_without_validation_data_it_says_what_to_set():
    stream = blob_stream(CIL)
    with pytest.raises(UsageError, match=r"blobs-cil holds none out\. Set stream\.val_fraction=0\.1") as caught:
        run_seed(load_strategy("finetune")(**ON), stream, 0)
    assert "\n" not in str(caught.value)


def test_where_a_task_has_no_end_it_is_refused():
    with pytest.raises(UsageError, match="does not tell where one ends"):
        started("finetune", blobs(TASK_FREE), **ON)


@pytest.mark.parametrize("settings", [{"patience": 0}, {"lr_factor": 1.0}, {"lr_min": 0.0}, {"schedule": "plateaux"}])
def test_settings_are_checked(settings):
    with pytest.raises(UsageError, match=next(iter(settings))):
        load_strategy("finetune")(**settings)


@pytest.mark.parametrize("name", ["simplecil", "linear-probe", "layernorm"])
def test_who_has_no_use_for_it_refuses_it(name):
    """Those that train nothing, or learn in stages."""
    with pytest.raises(UsageError, match="schedule"):
        started(name, pictures(), schedule="plateau")


ON_PICTURES = {"aper": 2, "ranpac": 2, "slca": 6, "dualprompt": 6, "l2p": 6}  # and the passes that are judged
OTHERS = {"simplecil", "linear-probe", "layernorm", "zero-shot", "zscl", "lwf-vr", "codyra"}
assert {*FROM_SCRATCH, *ON_PICTURES, *OTHERS} == {*registry.entries}


@pytest.mark.parametrize("name", ON_PICTURES)
def test_on_a_network_that_was_trained_before(name, monkeypatch):
    """Those of the first session learn, and are judged, in the first task alone."""
    stream, judged = pictures(TIL, train=8, test=8), []
    stream = dataclasses.replace(
        stream,
        tasks=[dataclasses.replace(task, val=test.data) for task, test in zip(stream.tasks, stream.tests, strict=True)],
    )
    cls = load_strategy(name)
    original = cls.validation_loss

    def watched(self, x, y):
        judged.append(original(self, x, y))
        return judged[-1]

    monkeypatch.setattr(cls, "validation_loss", watched)
    settings = {"epochs": 2, "batch_size": 8} | ({"adapt": "norms", "width": 50} if name == "ranpac" else {})
    record, _ = run_seed(cls(schedule="plateau", **settings), stream, 0)
    assert record.status == "complete"
    assert len(judged) == ON_PICTURES[name] and all(loss.dim() == 0 and loss.isfinite() for loss in judged)


@pytest.mark.parametrize(
    ("name", "settings"), [("dualprompt", {}), ("dualprompt", {"g_length": 0, "e_length": 0}), ("l2p", {})]
)
def test_prompts_are_judged_as_they_are_trained(name, settings):
    """Without the matching loss, which says nothing about answers."""
    stream = pictures(train=8)
    strategy = learn(started(name, stream, epochs=1, pull=0.0, **settings), stream, 2)
    data = stream.tasks[1].train
    strategy.queries.begin(data, 1)
    x = data.prepare(data.samples)
    with torch.no_grad():
        trained = strategy.loss(Batch(x, data.targets, data.samples, data.prepare))
        torch.testing.assert_close(strategy.validation_loss(x, data.targets), trained)


# packnet prunes after so many steps; the others keep a mean of all weights, whichever are the best
CANNOT = {"packnet", "weight-average", "momentum-interpolation"}


@pytest.mark.parametrize("name", sorted(CANNOT))
def test_who_cannot_keep_the_best_says_so(name):
    with pytest.raises(UsageError, match="schedule"):
        started(name, blobs(TIL), **SOON)


@pytest.mark.parametrize("name", [n for n in FROM_SCRATCH if n not in CANNOT])
def test_all_who_take_it_can_do_it(name):
    stream = blobs(TIL)
    record, _ = run_seed(load_strategy(name)(**SOON), stream, 0)
    assert record.status == "complete"
    assert record.cost.steps < 12 * 3 * 3 or name == "joint"


def test_the_choice_of_threads_has_validation_data_to_go_by():
    stream = blobs()
    probe(lambda: load_strategy("finetune")(**ON), stream, torch.device("cpu"), steps=2)()
