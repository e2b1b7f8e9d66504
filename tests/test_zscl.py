"""Image and text: classes told in words, distillation, consolidation, averages of weights, and a control outside."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
import torch.nn.functional as F
from carryover.base.errors import UsageError
from carryover.evaluation.record import RunRecord
from carryover.evaluation.run import run_seed
from carryover.evaluation.statistics import describe, summarise
from carryover.strategies import check_strategy, load_strategy
from carryover.strategies.check import blob_stream
from carryover.strategies.core import GradientStrategy
from carryover.strategies.parts.averaging import Average, FisherWeighted, Interpolation, Moving, Ties, averaging
from carryover.strategies.parts.fisher import information
from carryover.strategies.parts.gradients import flat_gradient, grouped_gradients, with_weights
from carryover.strategies.parts.image_text import ImageText
from carryover.strategies.parts.optimizers import SGD, set_rates, trained
from carryover.strategies.zscl import ZSCL
from carryover.streams.batches import Batch
from carryover.streams.core import CIL, DIL, ONLINE, TIL
from carryover.tests.toys import captioned, info, learn, parameters, started

RANDOM = {"model": "clip-micro", "model.weights": "random"}
SMALL = RANDOM | {"reference_size": 48, "reference_batch": 8, "batch_size": 8, "steps": 5, "every": 2}


# -- averages -------------------------------------------------------------------------------------------------------


def snapshots(count: int = 6) -> list[list[torch.Tensor]]:
    draw = torch.Generator().manual_seed(0)
    return [[torch.randn(3, 2, generator=draw, dtype=torch.float64)] for _ in range(count)]


def test_the_ensemble_is_the_mean_of_its_snapshots():
    """As published: 1,001 steps, one in a hundred counts, and so do the start and the last: twelve sets of weights."""
    draw = torch.Generator().manual_seed(1)
    weights = [torch.randn(4, 3, generator=draw, dtype=torch.float64)]
    average, kept = Average(every=100), [weights[0].clone()]
    average.begin(weights)
    for step in range(1001):
        weights[0].add_(torch.randn(4, 3, generator=draw, dtype=torch.float64))
        average.take(weights, step)
        if step % 100 == 0:
            kept.append(weights[0].clone())
    average.settle(weights)
    assert len(kept) == 12
    assert torch.allclose(weights[0], torch.stack(kept).mean(0), atol=1e-12)


def test_without_a_step_the_start_is_left():
    for average in (Average(), Moving(), Interpolation(), FisherWeighted(), Ties()):
        weights = [torch.tensor([1.0, 2.0])]
        average.begin(weights)
        average.settle(weights, lambda: [torch.tensor([3.0, 0.0])])
        assert torch.equal(weights[0], torch.tensor([1.0, 2.0]))


def test_other_rules_by_hand():
    for share, expected in ((0.0, 1.0), (1.0, 5.0), (0.8, 4.2)):
        weights = [torch.tensor([1.0])]
        average = Interpolation(share)
        average.begin(weights)
        weights[0].fill_(5.0)
        average.take(weights, 0)
        average.settle(weights)
        assert weights[0].item() == pytest.approx(expected)
    weights, average = [torch.tensor([0.0])], Moving(every=1, decay=0.5)
    average.begin(weights)
    for step, value in enumerate((4.0, 8.0)):
        weights[0].fill_(value)
        average.take(weights, step)
    average.settle(weights)
    assert weights[0].item() == 5.0  # 0 -> 2 -> 5
    with pytest.raises(ValueError, match="swa"):
        averaging("swa", 1, 0.5, 0.5, 0.5)


def test_fisher_weighting_by_hand():
    weights, average = [torch.tensor([0.0, 0.0, 0.0])], FisherWeighted()
    for end, told, expected in (
        ([4.0, 8.0, 2.0], [1.0, 2.0, 0.0], [4.0, 8.0, 1.0]),  # nothing is known of the start
        ([8.0, 0.0, 3.0], [3.0, 2.0, 0.0], [7.0, 4.0, 2.0]),  # 4 + 3/4 (8 - 4), 8 + 1/2 (0 - 8), the middle
        ([12.0, 8.0, 2.0], [4.0, 4.0, 0.0], [9.5, 6.0, 2.0]),  # the information of both tasks before it counts
    ):
        average.begin(weights)
        weights[0].copy_(torch.tensor(end))
        average.settle(weights, lambda told=told: [torch.tensor(told)])
        assert torch.allclose(weights[0], torch.tensor(expected), atol=1e-4)


def test_ties_over_tasks_is_ties_of_all_their_changes():
    """Against the published steps on a stack of vectors: trim, elect the sign by the sum, mean of those with it."""
    draw = torch.Generator().manual_seed(3)
    shapes = [(5, 4), (7,)]
    weights = [torch.randn(shape, generator=draw, dtype=torch.float64) for shape in shapes]
    first, changes, average = torch.cat([w.flatten() for w in weights]), [], Ties(density=0.4)
    for _ in range(4):
        average.begin(weights)
        for w in weights:
            w.add_(torch.randn(w.shape, generator=draw, dtype=torch.float64))
        change = torch.cat([w.flatten() for w in weights]) - first
        kept = change.abs().argsort(descending=True)[: round(0.4 * len(change))]
        changes.append(torch.zeros_like(change).index_copy(0, kept, change[kept]))
        average.settle(weights)
        stack = torch.stack(changes)
        sign = torch.where(stack.sum(0) >= 0, 1.0, -1.0)
        agree = (stack * sign > 0).double()
        expected = first + (stack * agree).sum(0) / agree.sum(0).clamp_min(1)
        assert torch.allclose(torch.cat([w.flatten() for w in weights]), expected, atol=1e-12)


def test_merging_resumes_with_what_it_has_summed():
    stream = captioned()
    for rule in ("fisher", "ties"):
        whole = started("weight-average", stream, rule=rule, **RANDOM, steps=3)
        learn(whole, stream)
        first = learn(started("weight-average", stream, rule=rule, **RANDOM, steps=3), stream, 2)
        again = started("weight-average", stream, rule=rule, **RANDOM, steps=3)
        again.load_state_dict(first.state_dict())
        assert torch.equal(parameters(learn(again, stream, first=2)), parameters(whole))


def test_averaging_stands_around_any_gradient_strategy():
    assert check_strategy("weight-average") == ["til", "cil", "dil", "online"]
    for around, options in (("er", {"around.memory": 7}), ("gpm", {}), ("ewc", {"rule": "ema"})):
        stream = blob_stream(TIL)
        assert check_strategy("weight-average", [stream], around=around, every=2, **options) == ["til"]


def test_averaging_changes_nothing_but_the_weights_at_the_end():
    stream = blob_stream(DIL)
    plain = learn(started("er", stream, memory=9), stream, 1)
    wrapped = learn(
        started("weight-average", stream, around="er", rule="wise", share=1.0, **{"around.memory": 9}), stream, 1
    )
    assert torch.allclose(parameters(plain), parameters(wrapped), atol=1e-6)
    still = started("weight-average", stream, rule="wise", share=0.0)
    before = parameters(still)
    learn(still, stream)
    assert torch.equal(parameters(still), before)


def test_the_ledger_sees_through_a_wrapper():
    costs = [
        run_seed(load_strategy(name)(**settings), blob_stream(CIL), 0)[0].cost
        for name, settings in (("er", {"memory": 7}), ("weight-average", {"around": "er", "around.memory": 7}))
    ]
    assert costs[0] == costs[1] and costs[0].replay_samples == 7


def test_what_does_not_learn_by_steps_cannot_be_averaged():
    for around, says in (
        ("simplecil", "gradient steps"),
        ("weight-average", "gradient steps"),
        ("err", "Did you mean"),
    ):
        with pytest.raises(UsageError, match=says):
            started("weight-average", info(), around=around)
    with pytest.raises(UsageError, match="momery"):
        started("weight-average", info(), around="er", **{"around.momery": 3})


# -- settings of the loop -------------------------------------------------------------------------------------------


def test_a_task_may_be_given_steps_instead_of_passes():
    stream = blob_stream(CIL, train=25)  # 3 steps a pass
    for steps, drawn in ((2, 20), (3, 25), (7, 60)):
        run, _ = run_seed(load_strategy("finetune")(steps=steps), stream, 0)
        assert run.cost.steps == 3 * steps and run.usage.drawn == [drawn] * 3
    run, _ = run_seed(load_strategy("joint")(steps=2), stream, 0)
    assert run.cost.steps == 2 + 4 + 6  # as many as the others have made in all
    with pytest.raises(UsageError, match="does not go by passes"):
        started("finetune", blob_stream(ONLINE), steps=3)


def test_warm_up_and_then_the_cosine():
    config = load_strategy("finetune")(lr=2.0, warmup=0.4, schedule="cosine").config
    optimizer = SGD([torch.zeros(1)], 2.0)
    optimizer.param_groups[0]["base"] = 2.0
    rates = []
    for step in range(10):
        set_rates(optimizer, config, step, 10)
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates[:5] == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.0])
    assert rates[7] == pytest.approx(1.0)
    assert rates[9] == pytest.approx(1 + torch.cos(torch.tensor(torch.pi * 5 / 6)).item())


def test_smoothing_spreads_over_the_classes_that_compete():
    from carryover.strategies.parts.objective import Classification

    stream, logits, y = blob_stream(TIL), torch.randn(5, 6), torch.tensor([2, 3, 3, 2, 2])
    objective = Classification(stream.info, "setting", torch.device("cpu"), 0.3)
    for task in stream.tasks[:2]:
        objective.reveal(task)
    expected = F.cross_entropy(logits[:, 2:4], y - 2, label_smoothing=0.3)
    assert torch.allclose(objective.loss(logits, y), expected)
    each = F.cross_entropy(logits[:, 2:4], y - 2, label_smoothing=0.3, reduction="none")
    assert torch.allclose(objective.loss(logits, y, "none"), each)


# -- classes in words -----------------------------------------------------------------------------------------------


LEARN = ("finetune", "er", "joint", "l2-start", "ewc", "gem", "independent", "weight-average", "zero-shot")
OTHERS = {"zscl": SMALL, "lwf-vr": {"steps": 3, "batch_size": 8, "count": 9, "length": 3}}


@pytest.mark.parametrize("name", [*LEARN, *OTHERS])
def test_strategies_learn_streams_of_images_and_texts(name):
    """By the rules: same seed same result, saved and loaded at any step, predictions alone and among the candidates."""
    settings = dict(RANDOM) if name in ("zero-shot",) else RANDOM | {"lr": 0.01}
    settings |= OTHERS.get(name, {})
    assert check_strategy(name, [captioned()], **settings) == ["til"]


def test_an_answer_is_the_candidate_with_the_nearest_words():
    stream = captioned()
    strategy = started("zero-shot", stream, **RANDOM)
    query, x = stream.query(1, 0), torch.rand(5, 3, 24, 24)
    model = strategy.model
    with torch.no_grad():
        z = F.normalize(model.encode_image(x), dim=1)
        W = []
        for own in query.texts:
            each = F.normalize(model.encode_text(model.tokenise(list(own))), dim=1)
            W.append(F.normalize(each.mean(0), dim=0))
    expected = torch.tensor(query.classes)[(z @ torch.stack(W).T).argmax(1)]
    assert torch.equal(strategy.predict(x, query), expected)


def test_training_is_cross_entropy_over_the_words_of_the_task():
    stream = captioned()
    strategy = started("finetune", stream, label_smoothing=0.2, **RANDOM)
    objective = strategy.objective
    assert isinstance(objective, ImageText)
    objective.reveal(stream.shown(0))
    objective.reveal(stream.shown(1))
    x, y = torch.rand(4, 3, 24, 24), torch.tensor([2, 3, 3, 2])
    model = strategy.model
    words = model.encode_text(model.tokenise([texts[0] for texts in stream.shown(1).texts]))
    cosines = F.normalize(model(x), dim=1) @ F.normalize(words, dim=1).T
    expected = F.cross_entropy(model.logit_scale.exp() * cosines, y - 2, label_smoothing=0.2)
    assert torch.allclose(objective.loss(model(x), y), expected, atol=1e-5)
    objective.loss(model(x), y).backward()
    assert all(p.grad is not None and p.grad.any() for p in (model.image[0].weight, model.text.project.weight))
    assert model.logit_scale.grad is None


def test_a_network_that_does_not_read_is_refused():
    with pytest.raises(UsageError, match="does not read"):
        started("finetune", captioned())
    with pytest.raises(UsageError, match="learns image-text streams"):
        started("zero-shot", info(), **RANDOM)
    with pytest.raises(UsageError, match="learns image-text streams"):
        started("zscl", info(shape=(3, 24, 24)), **SMALL)


@pytest.mark.parametrize("name", ["gpm", "lwf", "slca", "dualprompt", "l2p", "layernorm", "simplecil", "ranpac"])
def test_what_needs_a_head_refuses_words(name):
    with pytest.raises(UsageError, match=f"{name} learns classification (and policy )?streams"):
        started(name, captioned())


def test_information_is_of_both_towers():
    """By hand: the square of each sample's gradient, of the words' tower as well."""
    stream = captioned()
    strategy = learn(started("finetune", stream, **RANDOM, steps=2), stream, 1)
    task = stream.shown(0)
    strategy.context.begin(0)
    found = information(strategy.model, strategy.objective.loss, task.train, strategy.context, samples=5, at_once=2)
    strategy.context.begin(0)
    order = torch.randperm(len(task.train), generator=strategy.context.generator("fisher"))[:5]
    expected = {name: torch.zeros_like(p) for name, p in strategy.model.named_parameters() if p.requires_grad}
    for stored, y in zip(*task.train.gather(order), strict=True):
        strategy.model.zero_grad()
        strategy.objective.loss(strategy.model(task.train.prepare(stored[None])), y[None]).backward()
        for name, p in strategy.model.named_parameters():
            if p.requires_grad:
                expected[name] += p.grad.square() / 5
    assert found.keys() == expected.keys() and found["text.project.weight"].any()
    for name, value in expected.items():
        assert torch.allclose(found[name], value, rtol=1e-3, atol=1e-7), name


def test_memories_pull_at_both_towers():
    stream = captioned()
    gem = learn(started("gem", stream, **RANDOM, steps=2, memory=4), stream, 2)
    gem.references = gem._references(stream.shown(1))
    G = grouped_gradients(gem.model, gem._memory_loss, *gem.references, additive=True)
    gem.model.zero_grad()
    x, y, weight = (part[0] for part in gem.references)
    gem._memory_loss(gem.model(x), y, weight).backward()
    assert torch.allclose(G[0], flat_gradient(gem.model), atol=1e-5)
    assert gem.model.text.project.weight.grad.any()


def test_independent_networks_read_with_their_own_words():
    stream = captioned()
    strategy = learn(started("independent", stream, **RANDOM, steps=3), stream, 1)
    query, x = stream.query(0, 1), stream.tasks[0].train.prepare(stream.tasks[0].train.samples)
    before = strategy.predict(x, query)
    learn(strategy, stream, first=1)
    again = dataclasses.replace(query)  # answers to one query object are remembered
    assert torch.equal(strategy.predict(x, again), before)
    with torch.no_grad():
        own = with_weights(strategy.model, strategy.finished[0], lambda: strategy.objective.classifier(query.texts))
    assert not torch.equal(own, strategy.objective.classifier(query.texts))


# -- LwF-VR ---------------------------------------------------------------------------------------------------------


def test_vocabulary_replay_starts_flat_and_then_holds():
    stream = captioned()
    for sentences, count in (("random", 12), ("classes", 2)):
        lwf = started("lwf-vr", stream, **RANDOM, steps=4, batch_size=8, count=12, length=3, sentences=sentences)
        learn(lwf, stream, 1)
        task = stream.shown(1)
        lwf.objective.reveal(task)
        lwf.begin_task(task)
        assert lwf.tokens.shape[0] == lwf.taught.shape[0] == count
        batch = Batch(task.train.prepare(task.train.samples), task.train.targets, task.train.samples, 0)
        plain = GradientStrategy.loss(lwf, batch)
        kept = lwf.loss(batch) - plain
        lwf.model.zero_grad()
        kept.backward()
        assert all(p.grad is None or p.grad.abs().max() < 1e-4 for p in lwf.model.parameters())  # it agrees with itself
        scale = lwf.model.logit_scale.exp()
        likeness = scale * F.normalize(lwf.model(batch.x), dim=1) @ lwf.taught.T / 2
        chances = [torch.distributions.Categorical(logits=l).entropy().mean() for l in (likeness, likeness.T)]
        assert kept.item() == pytest.approx(4 * sum(chances).item(), rel=1e-4)  # cross-entropy with itself
        with torch.no_grad():
            for p in lwf.model.image.parameters():
                p.mul_(1.1)
        assert lwf.loss(batch) - GradientStrategy.loss(lwf, batch) > kept


# -- ZSCL -----------------------------------------------------------------------------------------------------------


def distiller(**settings) -> ZSCL:
    return started("zscl", captioned(), **SMALL | settings)


def test_distillation_is_flat_where_student_and_teacher_agree():
    zscl, rows = distiller(), torch.arange(8)
    v = zscl.model(zscl.images.prepare(zscl.images.gather(rows)[0])).detach().requires_grad_()
    loss = zscl.distillation(v, rows)
    (gradient,) = torch.autograd.grad(loss, v)
    assert gradient.abs().max() < 1e-6
    scale = zscl.model.logit_scale.exp() / 2
    A = scale * zscl.taught_images[rows] @ zscl.taught_texts.T
    entropy = sum(-(B.softmax(1) * B.log_softmax(1)).sum(1).mean() for B in (A, A.T))
    assert torch.allclose(loss, 4 * entropy, atol=1e-4)  # T^2, and what is left of a cross-entropy is the entropy
    other = torch.randn_like(v)
    kl = zscl.distillation(other, rows) - loss
    B = scale * F.normalize(other, dim=1) @ zscl.taught_texts.T
    by_hand = sum(
        F.kl_div(student.log_softmax(1), teacher.softmax(1), reduction="batchmean")
        for student, teacher in ((B, A), (B.T, A.T))
    )
    assert torch.allclose(kl, 4 * by_hand, atol=1e-4)


@pytest.mark.parametrize(("side", "moves"), [("teacher", False), ("student", True)])
def test_whether_the_text_encoder_is_distilled(side, moves):
    zscl = distiller(text_side=side, image_distillation=0.0)
    v = torch.randn(8, zscl.taught_images.shape[1])
    loss = zscl.distillation(v, torch.arange(8))
    assert bool(loss.requires_grad) == moves
    if moves:
        loss.backward()
        assert zscl.model.text.project.weight.grad.any()


def test_what_the_teacher_says_is_what_it_would_say_again():
    zscl = distiller()
    model = copy.deepcopy(zscl.model)
    with torch.no_grad():
        texts = F.normalize(model.encode_text(zscl.tokens), dim=1)
        images = F.normalize(model(zscl.images.prepare(zscl.images.samples)), dim=1)
    assert torch.equal(zscl.taught_texts, texts)
    assert torch.equal(zscl.taught_images, images)


def test_one_call_for_both_kinds_of_images_is_two_calls():
    zscl, batch = distiller(), torch.rand(8, 3, 24, 24)
    reference = zscl.images.prepare(zscl.images.gather(torch.arange(4))[0])
    together = zscl.model(torch.cat([batch, reference]))
    assert torch.allclose(together, torch.cat([zscl.model(batch), zscl.model(reference)]), atol=1e-6)


def test_consolidation_is_the_gradient_of_the_square():
    zscl = distiller(consolidation=0.7)
    zscl.begin_task(captioned().shown(0))
    params = trained(zscl.model)
    with torch.no_grad():
        for p in params:
            p.add_(0.1 * torch.randn_like(p))
    penalty = 0.7 * sum((p - s).square().sum() for p, s in zip(params, zscl.start, strict=True))
    expected = torch.autograd.grad(penalty, params)
    zscl.adjust_gradients(None)
    for p, g in zip(params, expected, strict=True):
        assert torch.allclose(p.grad, g, atol=1e-6)


def test_without_its_three_parts_zscl_is_fine_tuning():
    off = {"image_distillation": 0.0, "text_distillation": 0.0, "consolidation": 0.0, "ensemble": False}
    stream = captioned()
    bare = {k: v for k, v in SMALL.items() if not k.startswith("reference") and k != "every"}
    recipe = {"optimizer": "adamw", "lr": 5e-4, "schedule": "cosine", "warmup": 0.1, "label_smoothing": 0.2}
    one = parameters(learn(started("zscl", stream, **SMALL | off), stream))
    two = parameters(learn(started("finetune", stream, **bare | recipe), stream))
    assert torch.equal(one, two)


def test_a_reference_folder_is_read(tmp_path):
    from PIL import Image

    with pytest.raises(Exception, match="captions.txt"):
        distiller(reference=str(tmp_path))
    (tmp_path / "captions.txt").write_text("a red thing\n\na blue flower\na red thing\n")
    with pytest.raises(Exception, match="no image"):
        distiller(reference=str(tmp_path))
    for number in range(9):
        Image.new("RGB", (30, 24), (20 * number, 5, 9)).save(tmp_path / f"{number}.png")
    zscl = distiller(reference=str(tmp_path))
    assert zscl.taught_texts.shape[0] == 2 and zscl.taught_images.shape[0] == 9


# -- beyond the stream ----------------------------------------------------------------------------------------------


def test_a_control_is_scored_with_every_row_and_survives_a_stop(tmp_path):
    stream = captioned(controls=True)
    finetune = load_strategy("finetune")
    whole, _ = run_seed(finetune(lr=0.05, **RANDOM), stream, 0)
    assert len(whole.controls) == 4 and all(len(row) == 1 and 0 <= row[0] <= 12 for row in whole.controls)
    path = tmp_path / "c.safetensors"
    run_seed(finetune(lr=0.05, **RANDOM), stream, 0, checkpoint=path, until=2)
    again, _ = run_seed(finetune(lr=0.05, **RANDOM), stream, 0, checkpoint=path)
    assert again.result_digest() == whole.result_digest() and again.controls == whole.controls
    assert captioned().fingerprint != stream.fingerprint


def test_records_refuse_controls_that_cannot_be():
    from carryover.benchmarks.launch import run

    record = run("finetune", captioned(controls=True), seeds=[0], **RANDOM)
    plain = record.plain()
    assert RunRecord.parse(plain, "here").runs[0].controls == record.runs[0].controls
    assert plain["stream"]["controls"] == {"control": 12}
    first, last = (100 * record.runs[0].controls[row][0] / 12 for row in (0, -1))
    assert f"on control: {first:.1f} % before training, {last:.1f} % after" in describe(record)
    assert f"Transfer{100 * summarise(record, ['transfer_mtil'])['transfer_mtil']['mean']:29.2f} %" in describe(
        record, ["transfer_mtil"]
    )
    for wrong in ([[13]] * 4, [[1]] * 3, [[1, 2]] * 4, []):
        broken = copy.deepcopy(plain)
        broken["runs"][0]["controls"] = wrong
        with pytest.raises(Exception, match="control"):
            RunRecord.parse(broken, "here")
