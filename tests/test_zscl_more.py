"""Image and text, further: each setting is heard, each task begins anew, what is remembered is renewed and counted."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from carryover.base.errors import UsageError
from carryover.benchmarks.launch import run
from carryover.evaluation.evaluator import Evaluator
from carryover.evaluation.plots_tradeoff import plot_tradeoff
from carryover.evaluation.run import run_seed
from carryover.leaderboard.rules import check
from carryover.strategies import load_strategy
from carryover.strategies.check import blob_stream
from carryover.strategies.core import GradientStrategy
from carryover.strategies.flops import FlopCount
from carryover.strategies.lwf_vr import LwFVR
from carryover.strategies.parts.averaging import Average, Interpolation, Moving
from carryover.strategies.parts.optimizers import trained
from carryover.strategies.parts.reference import reference
from carryover.strategies.zscl import ZSCL
from carryover.streams import load_stream, split
from carryover.streams.batches import Batch
from carryover.streams.core import CIL, ONLINE, TIL, Task
from carryover.streams.sources.digits import digits
from carryover.tests.test_plots import make
from carryover.tests.toys import captioned, learn, parameters, started
from torch import Tensor

RANDOM = {"model": "clip-micro", "model.weights": "random"}
SMALL = {"reference_size": 48, "reference_batch": 8, "batch_size": 8, "steps": 3, "every": 2}
VOCABULARY = RANDOM | {"steps": 2, "batch_size": 8, "count": 12, "length": 3}


def distiller(seed: int = 0, **settings) -> ZSCL:
    return started("zscl", captioned(), seed, **RANDOM | SMALL | settings)


def moved(model: torch.nn.Module, by: float = 0.1) -> None:
    draw = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for p in model.parameters():
            if p.requires_grad:
                p.add_(by * torch.randn(p.shape, generator=draw))


def whole(task: Task) -> Batch:
    """All of a task's data as one batch."""
    data = task.train
    return Batch(data.prepare(data.samples), data.targets, data.samples, data.prepare)


# -- averages -------------------------------------------------------------------------------------------------------


def test_the_decay_is_of_the_average():
    weights, average = [torch.tensor([0.0])], Moving(every=1, decay=0.75)
    average.begin(weights)
    for step, value in enumerate((4.0, 8.0)):
        weights[0].fill_(value)
        average.take(weights, step)
    average.settle(weights)
    assert weights[0].item() == 2.75  # 0 -> 1 -> 2.75


def test_an_average_forgets_the_task_before():
    weights, average = [torch.tensor([0.0])], Average(every=1)
    for values, expected in (((2.0, 4.0), 2.0), ((8.0,), 5.0)):  # of 0, 2, 4; then of 2, 8
        average.begin(weights)
        for step, value in enumerate(values):
            weights[0].fill_(value)
            average.take(weights, step)
        average.settle(weights)
        assert weights[0].item() == pytest.approx(expected)


def test_steps_are_counted_from_the_first():
    """With every=2 the weights after steps 1 and 3 count, and the start."""
    stream = blob_stream(TIL)
    wrapped = started("weight-average", stream, every=2, steps=3)
    passed = [parameters(wrapped)]
    learn(wrapped, stream, 1)
    passed += [parameters(learn(started("finetune", stream, steps=steps), stream, 1)) for steps in (1, 3)]
    assert torch.allclose(parameters(wrapped), torch.stack(passed).mean(0), atol=1e-6)


def test_conclusions_are_drawn_at_the_average():
    stream = blob_stream(TIL)
    wrapped = started("weight-average", stream, around="ewc", rule="wise", share=0.0)
    start = [p.detach().clone() for p in trained(wrapped.inner.model)]
    learn(wrapped, stream, 1)
    for anchor, f, p in zip(wrapped.inner.anchor, wrapped.inner.information, start, strict=True):
        assert torch.equal(anchor, f * p) and f.any()


def test_what_is_shared_reaches_the_inner_strategy():
    given = {"lr": 0.01, "batch_size": 7, "label_smoothing": 0.3, "schedule": "cosine", "warmup": 0.2, "clip": 2.0}
    inner = started("weight-average", blob_stream(CIL), around="er", **given, **{"model.bias": False}).inner
    assert {name: getattr(inner.config, name) for name in given} == given
    assert inner.config.model_options == {"bias": False}


def test_the_information_of_an_average_is_a_pass():
    with pytest.raises(UsageError, match="makes 2 passes"):
        started("weight-average", blob_stream(ONLINE), rule="fisher")
    started("weight-average", blob_stream(ONLINE), rule="ties")
    run, _ = run_seed(load_strategy("weight-average")(rule="fisher", fisher_samples=9), blob_stream(CIL, train=25), 0)
    assert run.usage.drawn == [25 + 9] * 3


def test_names_stand_for_their_rules():
    wise, mean = (started(name, captioned(), **RANDOM).average for name in ("wise-ft", "momentum-interpolation"))
    assert type(wise) is Interpolation and wise.share == 0.8
    assert type(mean) is Moving and (mean.every, mean.decay) == (1, 0.95)


# -- ZSCL -----------------------------------------------------------------------------------------------------------


def test_each_distribution_has_its_own_weight():
    draw = torch.Generator().manual_seed(1)
    rows = torch.arange(8)

    def loss(by_image: float, by_text: float) -> Tensor:
        zscl = distiller(image_distillation=by_image, text_distillation=by_text)
        return zscl.distillation(v, rows)

    v = torch.randn(8, distiller().taught_images.shape[1], generator=draw)
    images, texts = loss(1, 0), loss(0, 1)
    assert not torch.allclose(images, texts, rtol=1e-2)
    assert torch.allclose(loss(2, 5), 2 * images + 5 * texts)
    zscl = distiller()  # over the sentences, for each image
    scale = zscl.model.logit_scale.exp() / 2
    teacher = (scale * zscl.taught_images[rows] @ zscl.taught_texts.T).softmax(1)
    student = (scale * F.normalize(v, dim=1) @ zscl.taught_texts.T).log_softmax(1)
    assert torch.allclose(images, -4 * (teacher * student).sum(1).mean(), rtol=1e-4)


def test_the_number_of_sentences_is_heard():
    assert len(distiller(captions=7).taught_texts) == 7 < len(distiller().taught_texts)


def test_the_reference_goes_by_the_seed_and_its_draws_by_the_task(monkeypatch):
    assert torch.equal(distiller(0).images.samples, distiller(0).images.samples)
    assert not torch.equal(distiller(0).images.samples, distiller(1).images.samples)
    drawn, plain = [], ZSCL.distillation
    monkeypatch.setattr(ZSCL, "distillation", lambda self, v, rows: (drawn.append(rows), plain(self, v, rows))[1])
    learn(distiller(), captioned(), 2)
    assert len(drawn) == 6 and len({tuple(rows.tolist()) for rows in drawn}) == 6


def test_consolidation_holds_to_the_start_of_this_task():
    zscl = learn(distiller(), captioned(), 1)
    moved(zscl.model)
    zscl.begin_task(captioned().shown(1))
    for p, start in zip(trained(zscl.model), zscl.start, strict=True):
        assert torch.equal(p, start)


def test_the_teacher_is_in_the_ledger_once():
    zscl = distiller()
    assert zscl.context.meter.steps == 0
    with torch.no_grad(), FlopCount() as counter:
        zscl.model(zscl.images.prepare(zscl.images.samples))
        zscl.model.encode_text(zscl.tokens)
    assert zscl.context.meter.flops["train"] == counter.total > 0
    assert not distiller(image_distillation=0.0, text_distillation=0.0).context.meter.flops["train"]


def test_a_folder_is_drawn_from_by_the_seed(tmp_path):
    from PIL import Image

    for number in range(9):
        Image.new("RGB", (24, 24), (20 * number, 5, 9)).save(tmp_path / f"{number}.png")
    (tmp_path / "captions.txt").write_text("a red thing\n")
    chosen = []
    for seed in (0, 0, 1, 2, 3):
        images, _ = reference(str(tmp_path), 3, seed, (3, 24, 24))
        chosen.append(sorted(images.samples[:, 0, 0, 0].tolist()))
        assert len(images) == 3 and len(set(chosen[-1])) == 3
    assert chosen[0] == chosen[1] and len({tuple(c) for c in chosen}) > 1
    assert len(reference(str(tmp_path), 30, 0, (3, 24, 24))[0]) == 9


# -- LwF-VR, and a pull to the start --------------------------------------------------------------------------------


def replaying(seed: int = 0, **settings) -> LwFVR:
    """In its second task, with a teacher that knows the first."""
    stream = captioned()
    lwf = learn(started("lwf-vr", stream, seed, **VOCABULARY | settings), stream, 1)
    lwf.objective.reveal(stream.shown(1))
    lwf.begin_task(stream.shown(1))
    return lwf


def kept(lwf: LwFVR) -> Tensor:
    """The loss beyond cross-entropy."""
    batch = whole(captioned().shown(1))
    return (lwf.loss(batch) - GradientStrategy.loss(lwf, batch)).detach()


@pytest.mark.parametrize("sentences", ["random", "classes"])
def test_the_teachers_sentences_are_of_this_task(sentences):
    lwf = replaying(sentences=sentences)
    with torch.no_grad():
        assert torch.allclose(lwf.taught, F.normalize(lwf.model.encode_text(lwf.tokens), dim=1), atol=1e-6)
        before = F.normalize(started("lwf-vr", captioned(), **VOCABULARY).model.encode_text(lwf.tokens), dim=1)
    assert not torch.allclose(lwf.taught, before, atol=1e-3)


def test_vocabulary_replay_hears_its_weights():
    parts = {}
    for weights in ((1.0, 0.0), (0.0, 1.0), (2.0, 5.0)):
        lwf = replaying()
        lwf.config = dataclasses.replace(lwf.config, image_distillation=weights[0], text_distillation=weights[1])
        moved(lwf.model)
        parts[weights] = kept(lwf)
    assert not torch.allclose(parts[1.0, 0.0], parts[0.0, 1.0], rtol=1e-2)
    assert torch.allclose(parts[2.0, 5.0], 2 * parts[1.0, 0.0] + 5 * parts[0.0, 1.0], rtol=1e-4)


@pytest.mark.parametrize(("side", "changes"), [("teacher", False), ("student", True)])
def test_who_embeds_the_sentences_of_vocabulary_replay(side, changes):
    lwf = replaying(text_side=side)
    before = kept(lwf)
    moved(lwf.model.text)
    assert torch.allclose(kept(lwf), before, rtol=1e-4) != changes


def test_random_sentences_go_by_the_seed():
    one, same, other = (started("lwf-vr", captioned(), seed, **VOCABULARY).tokens for seed in (0, 0, 1))
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_a_start_is_free_only_where_it_is_random():
    stream = captioned()
    for settings, held in (({"model": "clip-micro"}, True), (RANDOM, False)):
        strategy = started("l2-start", stream, steps=1, **settings)
        for strategy.tasks_begun, holds in ((1, held), (2, True)):
            strategy.begin_task(stream.shown(strategy.tasks_begun - 1))
            assert bool(strategy.start) == holds
        strategy.end_task(stream.shown(1))
        assert not strategy.start  # what the next task would replace is not kept


def test_what_is_not_learnt_yet_is_answered_by_its_own_first_weights():
    stream = blob_stream(TIL)
    strategy = learn(started("independent", stream), stream, 1)
    x, query = stream.tests[2].data.samples.repeat(4, 1, 1, 1), stream.query(2, 1)
    x = x + torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    fresh = strategy.new_model("initial weights 2")
    assert torch.equal(strategy.predict(x, query), strategy.objective.decide(fresh(x), query))
    assert not torch.equal(strategy.predict(x, query), strategy.objective.decide(strategy.new_model()(x), query))


# -- what is remembered ---------------------------------------------------------------------------------------------


def test_words_are_read_anew_after_learning_though_the_question_is_the_same():
    """A control asks with one query in every row."""
    stream = captioned(controls=True)
    strategy = started("finetune", stream, model="clip-micro", steps=6, batch_size=8, lr=0.05)
    query, x = stream.controls[0].query, torch.rand(64, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    strategy.predict(x, query)
    learn(strategy, stream, 1)
    assert torch.equal(strategy.predict(x, query), strategy.predict(x, stream.controls[0].query))


def test_words_are_counted_once_for_the_batches_of_a_test():
    stream = captioned()
    strategy = started("zero-shot", stream, **RANDOM)
    Evaluator(stream, torch.device("cpu"), batch_size=4).row(strategy, strategy.context, 0)
    counted = strategy.context.meter.flops["eval"]
    with torch.no_grad(), FlopCount() as counter:
        for task, test in enumerate(stream.tests):
            query = stream.query(task, 0)
            strategy.objective._answers = None
            for x in test.data.prepare(test.data.samples).split(4):
                strategy.predict(x, query)
    assert counted == counter.total > 0


# -- how settings are chosen, and shown -----------------------------------------------------------------------------


def test_another_setting_is_judged_on_validation_data_too():
    options = {"n_tasks": 2, "val_fraction": 0.25, "setting": "til"}
    judged = load_stream("split-digits", **options, scored_on="validation")
    assert judged.setting.name == "til" and judged.meta["scored_on"] == "validation"
    assert judged.test_sizes == [len(task.val) for task in judged] != load_stream("split-digits", **options).test_sizes


def test_where_less_is_better_the_least_stands_first():
    records = [make(), make(name="finetune", decay=1.0), make(name="joint", decay=0.0)]
    figures = [plot_tradeoff(records, "last", y) for y in ("la", "nevis_error")]
    names = [[text.get_text() for text in figure.axes[1].texts] for figure in figures]
    errors = [100 * (1 - record.metrics("la")["la"]["mean"]) for record in records]
    ranked = [records[i].strategy.name for i in sorted(range(3), key=errors.__getitem__)]
    assert names == [ranked, ranked]


# -- what a review found --------------------------------------------------------------------------------------------


def test_information_is_of_the_likelihood_without_smoothing():
    stream = captioned()
    plain, smoothed = (started("ewc", stream, steps=2, label_smoothing=s, **RANDOM) for s in (0.0, 0.3))
    for strategy in (plain, smoothed):
        strategy.objective.reveal(stream.shown(0))
        strategy.context.begin(0)
    both = [torch.cat([f.flatten() for f in strategy._fisher(stream.shown(0))]) for strategy in (plain, smoothed)]
    assert torch.equal(*both) and smoothed.objective.smoothing == 0.3


def test_the_reference_is_in_the_record_and_a_checkpoint_belongs_to_it(tmp_path):
    stream, settings = captioned(), RANDOM | {"reference_size": 12, "reference_batch": 4, "steps": 2}
    run, _ = run_seed(load_strategy("zscl")(**settings), stream, 0, checkpoint=tmp_path / "a", until=1)
    other, _ = run_seed(load_strategy("zscl")(**settings | {"captions": 5}), stream, 0)
    assert len(run.usage.outside["reference"]) == 64 and run.usage.outside != other.usage.outside
    assert run.cost.state_bytes > 12 * 3 * 24 * 24  # its images, and what the teacher says of them
    own = {f"around.{name}": settings[name] for name in ("reference_size", "reference_batch")}
    wrapped = load_strategy("weight-average")(around="zscl", rule="wise", optimizer="adamw", **RANDOM, **own)
    assert run_seed(wrapped, stream, 0, until=1)[0].usage.outside == run.usage.outside


def test_what_a_wrapper_hides_is_told():
    strategy = started("weight-average", blob_stream(TIL))
    assert strategy.test_batch is None
    strategy.inner.test_batch = 3
    assert strategy.test_batch == 3
    for settings, says in (
        ({"around.lr": 0.1}, "around.lr is a setting of both"),
        ({"selection": "validation"}, "keeps the mean of all weights"),
    ):
        with pytest.raises(UsageError, match=says):
            started("weight-average", blob_stream(TIL), **settings)
    with pytest.raises(UsageError, match="the ensemble keeps a mean"):
        started("zscl", captioned(), **RANDOM, selection="validation")


def test_controls_belong_to_no_task():
    run, _ = run_seed(load_strategy("independent")(steps=2, **RANDOM), captioned(controls=True), 0)
    assert run.status == "complete" and len(run.controls) == 4


def test_a_run_for_choosing_settings_is_not_ranked():
    held = split(digits(), 5, name="mine", val_fraction=0.2).on_validation()
    record = run("finetune", held, seeds=[0, 1, 2], epochs=1)
    assert record.stream.scored_on == "validation" and "scored on validation data" in str(record)
    assert "N206" in {finding.code for finding in check(record, None)}


def test_what_is_not_set_is_as_the_inner_strategy_has_it():
    own = load_strategy("zscl")().config
    made = load_strategy("weight-average")(around="zscl", lr=0.25)
    assert (made.config.lr, made.config.steps, made.config.optimizer) == (0.25, own.steps, own.optimizer)
    assert made.config.label_smoothing == own.label_smoothing and made.config.model == "clip-micro"
    plain = load_strategy("weight-average")(around="er")
    assert plain.config.lr == load_strategy("er")().config.lr
