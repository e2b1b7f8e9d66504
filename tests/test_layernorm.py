"""C-LN: a stage trains what it should and no more, each sample chooses for itself, what is remembered is true."""

from __future__ import annotations

import resource
from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from carryover.base.errors import UsageError
from carryover.evaluation.cost import ledger
from carryover.evaluation.evaluator import Evaluator
from carryover.evaluation.run import run_seed
from carryover.strategies import check_strategy
from carryover.strategies.backbones import vits
from carryover.strategies.backbones.vit import Plugs
from carryover.strategies.core import load_strategy
from carryover.strategies.layernorm import LayerNorm
from carryover.strategies.parts.features import Memo
from carryover.streams.core import CIL, DIL, ONLINE, Data, LabelledTest, Stream, Task
from carryover.tests.toys import info, learn, pictures, started
from torch import Tensor

pytest.importorskip("timm")
torch.set_num_threads(1)

SHAPE = (3, 24, 24)
SINGLE = {"variant": "single-forward"}
FAST = {"model.weights": "random", "batch_size": 5, "key_epochs": 1, "epochs": 1, "head_epochs": 2, "pool": 4}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """vit-micro in its form, but smaller: 17 tokens, 2 blocks, so 5 norms of width 12."""
    monkeypatch.setattr(vits, "MICRO", {"patch_size": 6, "embed_dim": 12, "depth": 2, "num_heads": 2})


pictures = partial(pictures, train=10, test=6)


def made(stream: Stream | None = None, wake: bool = True, **settings) -> LayerNorm:
    """After `setup`, on a body whose features tell images apart, as those of a trained one do."""
    strategy = started("layernorm", stream or pictures(), **(FAST | {"lr": 0.02} | settings))
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, p in strategy.model.vit.body.named_parameters():
            if wake and "norm" not in name:
                p.add_(0.3 * torch.randn(p.shape, generator=draw))
    return strategy


def probes(stream: Stream) -> Tensor:
    """All test images."""
    return torch.cat([test.data.prepare(test.data.samples) for test in stream.tests])


def logits(strategy: LayerNorm, x: Tensor, **more) -> Tensor:
    """[B, C] on the way to a prediction."""
    found = []
    decide = strategy.objective.decide
    strategy.objective.decide = lambda values, query: found.append(values) or decide(values, query)
    strategy.predict(x, pictures().query(0, 3), **more)
    strategy.objective.decide = decide
    return found[0]


def state(strategy: LayerNorm) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in strategy.model.state_dict().items()}


def moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    """Names of what changed; where only some rows of a matrix did, with their numbers."""
    found = set()
    for name, old in before.items():
        if not torch.equal(old, after[name]):
            rows = (old != after[name]).reshape(len(old), -1).any(1).nonzero()[:, 0].tolist()
            found.add(f"{name} {rows}" if name == "keys.keys" or "head" in name else name)
    return found


def watched(strategy: LayerNorm, at: Callable[[int], None]) -> LayerNorm:
    """Calls `at(step)` where the harness may save."""
    strategy.context.tick = lambda step, total: at(step)
    return strategy


# -- the rules ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "setting"),
    [
        ({}, CIL),
        ({"keys": "mean", "head_init": "prototypes", "schedule": "cosine"}, DIL),
        ({"keys": "prototypes", "rectify": False, "temporary_lr": 0.01, "optimizer": "sgd", "momentum": 0.9}, CIL),
        ({"head_init": "prototypes", "rectify_from": "temporary"}, CIL),
        (SINGLE, CIL),
        (SINGLE | {"rectify": False, "attention": False, "detach": True}, ONLINE),
    ],
)
def test_the_rules_hold(settings, setting):
    """Resumed at any step it ends the same, no test data is read, each prediction is of its own sample alone, ..."""
    stream = pictures(setting, tasks=2, train=6, test=2)
    assert check_strategy("layernorm", [stream], **(FAST | settings)) == [setting.name]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"weight_decay": 0.1}, "would move"),
        ({"model": "mlp"}, "which the model mlp is not"),
        (SINGLE | {"keys": "mean"}, "goes with variant=two-forward"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(settings, says):
    options = {} if "model" in settings else {"model.weights": "random"}
    with pytest.raises(UsageError, match=says) as refused:
        started("layernorm", info(CIL, 6, SHAPE), **options, **settings)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("more", [{}, {"keys": "mean", "rectify": False}, SINGLE | {"head_init": "prototypes"}])
def test_more_passes_than_allowed_are_refused(more):
    with pytest.raises(UsageError, match="passes over each task's data"):
        made(pictures(ONLINE), **({"rectify": False} | more))


@pytest.mark.parametrize(
    ("more", "passes"),
    [
        ({}, 4),
        ({"keys": "mean"}, 4),
        ({"keys": "mean", "rectify": False}, 2),
        ({"head_init": "prototypes"}, 6),
        ({"head_init": "prototypes", "rectify_from": "temporary"}, 5),
        (SINGLE, 3),
    ],
)
def test_every_look_at_the_data_is_counted(more, passes):
    stream = pictures(tasks=2)
    strategy = learn(made(stream, **more), stream)
    assert [task.train.drawn["samples"] / len(task.train) for task in stream] == [passes, passes]
    assert strategy.passes() + strategy.extra_passes() == passes


def test_one_task_too_many_for_the_pool_is_refused():
    strategy = learn(made(pool=2), pictures(), 2)
    with pytest.raises(UsageError, match="a pool of 2 tasks, and task 3 begins"):
        learn(strategy, pictures(), 3, first=2)


# -- what there is --------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_before_the_first_task_it_is_the_network_as_it_came():
    x, chosen = probes(pictures()), torch.arange(18) % 4
    for more in ({}, SINGLE):
        strategy = made(**more)
        vit, sets = strategy.model.vit, strategy.model.sets
        assert torch.equal(logits(strategy, x), vit(x))
        assert torch.equal(vit.features(x, sets.plugs(2)), vit.features(x))
        torch.testing.assert_close(vit.features(x, sets.plugs(chosen)), vit.features(x))
        assert strategy.select_task(x, pictures().query(0, 0)).eq(0).all()


def test_each_task_has_memory_of_its_own_of_the_published_size():
    strategy = made(keys="trained")
    sets = strategy.model.sets.sets
    assert len({one.untyped_storage().data_ptr() for one in sets}) == 4
    assert all(one.is_contiguous() and one.numel() == 5 * 2 * 12 for one in sets)
    cost = ledger(strategy, strategy.context)
    assert cost.params_trained == 4 * 120 + 4 * 12 + 6 * 13  # norms, keys, head; the temporary head is not kept
    assert cost.params_total == cost.params_trained + sum(p.numel() for p in strategy.model.vit.body.parameters())
    single = made(**SINGLE)
    assert ledger(single, single.context).params_trained == 4 * 120 + 2 * 4 * 60 + 6 * 13
    assert cost.state_bytes == 0


def test_keys_start_orthogonal():
    same = lambda found: torch.testing.assert_close(found, torch.eye(len(found)))
    keys = made().model.keys.keys.detach()
    same(keys @ keys.T)
    at_norms = made(**SINGLE).model.keys
    for vectors in (at_norms.keys, at_norms.alphas):
        third = torch.stack([one.detach()[3] for one in vectors])
        same(third @ third.T)


# -- stages ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [{}, {"head_init": "prototypes"}, SINGLE, SINGLE | {"attention": False}])
def test_a_stage_moves_what_it_should_and_nothing_else(more):
    """In the second task; rows of other tasks stay bit for bit."""
    stream = pictures()
    strategy = learn(made(stream, **more), stream, 1)
    before, found, ended = [], {}, strategy.after_step
    strategy.adjust_gradients = lambda batch: before.append(state(strategy))

    def after(batch):
        stage = strategy.stages()[batch.epoch]
        found.setdefault(stage, []).append(moved(before[-1], state(strategy)))
        ended(batch)

    strategy.after_step = after
    learn(strategy, stream, 2, first=1)
    rows = lambda head: {f"{head}.weight [2, 3]", f"{head}.bias [2, 3]"}
    expected = {"norms": [{"sets.sets.1"} | rows("temporary.head")] * 2, "head": [rows("vit.head")] * 4}
    if "variant" not in more:
        expected["keys"] = [{"keys.keys [1]"}] * 2
    else:
        at_norms = {"keys.keys.1"} | ({"keys.alphas.1"} if more.get("attention", True) else set())
        expected["norms"] = [one | at_norms for one in expected["norms"]]
    assert found == expected


@pytest.mark.parametrize("more", [{}, SINGLE])
def test_a_task_starts_where_the_one_before_ended(more):
    stream = pictures()
    strategy = learn(made(stream, **more), stream, 1)
    strategy.context.begin(1)
    strategy.tasks_begun += 1
    strategy.objective.reveal(stream.tasks[1])
    strategy._data = stream.tasks[1].train
    before = state(strategy)
    strategy.begin_task(stream.tasks[1])
    after = state(strategy)
    assert torch.equal(after["sets.sets.1"], before["sets.sets.0"])
    assert not torch.equal(after["sets.sets.0"], after["sets.sets.2"])  # it has learnt
    if more:
        assert torch.equal(after["keys.keys.1"], before["keys.keys.0"])
        assert torch.equal(after["keys.alphas.1"], before["keys.alphas.0"])
    else:
        assert torch.equal(after["keys.keys"], before["keys.keys"])


def test_each_stage_has_an_optimizer_of_its_own():
    seen = {}
    strategy = made(head_lr=0.003, temporary_lr=0.004)

    def look(step):
        seen[step] = [
            (group["lr"], len(group["params"]), sum(p in strategy.optimizer.state for p in group["params"]))
            for group in strategy.optimizer.param_groups
        ]

    learn(watched(strategy, look), pictures(), 1)
    assert seen[1] == [(0.02, 1, 1)]
    assert seen[2] == [(0.02, 1, 0), (0.004, 2, 0)]  # nothing is remembered
    assert seen[3] == [(0.02, 1, 1), (0.004, 2, 2)]
    assert seen[4] == [(0.003, 2, 0)]
    assert seen[5] == [(0.003, 2, 2)]


def test_the_matching_loss_of_each_variant():
    stream = pictures()
    x = stream.tasks[0].train.prepare(stream.tasks[0].train.samples)
    strategy = made()
    query, key = strategy.model.vit.features(x), strategy.model.keys.keys[2]
    assert strategy.model.keys.pull(2, query).item() == pytest.approx(
        -F.cosine_similarity(query, key[None]).mean().item()
    )
    model = made(**SINGLE).model
    inputs = []
    plugs = Plugs(norm=lambda n, x: inputs.append(x) or model.sets.pair(n, 2))
    expected = model.vit.features(x, plugs)
    by_hand = [
        F.cosine_similarity(x[:, 0] * model.keys.alphas[2][n], model.keys.keys[2][n][None]).mean()
        for n, x in enumerate(inputs)
    ]
    found, cosine = model.matched(x, 2)
    assert torch.equal(found, expected)
    torch.testing.assert_close(cosine, torch.stack(by_hand).mean())


def test_the_comparison_moves_earlier_norms_unless_detached():
    x = probes(pictures())
    for detach in (False, True):
        strategy = made(**SINGLE, detach=detach)
        strategy.model.matched(x, 0)[1].backward()
        grad = strategy.model.sets.sets[0].grad
        assert (grad is None) if detach else grad[:4].ne(0).any()


@pytest.mark.parametrize("more", [{"keys": "mean"}, SINGLE])
def test_rectification_sees_the_features_of_the_norms_that_are_chosen(more):
    stream, answers = pictures(), []
    strategy = learn(made(stream, **more), stream, 2)
    x = stream.tasks[2].train.prepare(stream.tasks[2].train.samples)

    def look(step):
        if strategy.stages()[(step - 1) // 2] == "head":
            answers.append((strategy._as_at_test(x), logits(strategy, x)))

    learn(watched(strategy, look), stream, 3, first=2)
    assert len(answers) == 4
    assert all(torch.equal(found, answers[0][0]) for found, _ in answers)
    torch.testing.assert_close(strategy.model.vit.head(answers[-1][0]), answers[-1][1])


def counted(strategy: LayerNorm) -> list[int]:
    """Grows by the size of each batch that goes through the transformer."""
    rows, computed = [], strategy.model.vit.features
    strategy.model.vit.features = lambda x, plugs=None: (rows.append(len(x)), computed(x, plugs))[1]
    return rows


def test_what_training_remembers_is_what_it_would_have_computed():
    ends = []
    for augment in (None, lambda x, draw: x):  # with one, each image is a new one in each pass
        stream = pictures(augment=augment)
        strategy = made(stream)
        rows = counted(strategy)
        learn(strategy, stream)
        ends.append((sum(rows), state(strategy), strategy.context.meter.flops))
    (few, remembered, flops), (many, computed, plain) = ends
    assert not moved(remembered, computed)
    assert flops == plain  # the ledger counts as if nothing was remembered
    assert few == 3 * 10 * (1 + 1 + 2) and many == 3 * 10 * (1 + 1 + 2 * 2)  # for key, norms, head


def test_the_temporary_head_is_never_asked_at_test():
    stream = pictures()
    strategy = made(stream)
    asked = []
    strategy.model.temporary["head"].register_forward_hook(lambda *_: asked.append(strategy.step))
    x = probes(stream)

    def look(step):
        before = len(asked)
        logits(strategy, x)
        assert len(asked) == before

    learn(watched(strategy, look), stream)
    assert set(asked) == {2, 3}  # in the steps of its stage


def test_without_rectification_the_head_is_trained_beside_the_norms():
    stream = pictures()
    strategy = made(stream, rectify=False)
    before = state(strategy)
    learn(strategy, stream, 1)
    assert "vit.head.weight [0, 1]" in moved(before, state(strategy))
    assert not {name for name in moved(before, state(strategy)) if "temporary" in name}


@pytest.mark.parametrize(("where", "distance"), [("temporary", 0.0), ("own", None)])
def test_where_rectification_starts(where, distance):
    strategy, seen = made(rectify_from=where), {}
    learn(watched(strategy, lambda step: seen.__setitem__(step, state(strategy))), pictures(), 1)
    gap = (seen[4]["vit.head.weight"] - seen[4]["temporary.head.weight"]).abs().max().item()
    assert gap == distance if distance is not None else gap > 0.001


def test_heads_can_start_as_prototypes_of_what_their_stage_sees():
    stream, seen = pictures(), {}
    strategy = learn(made(stream, head_init="prototypes", lr=1e-9, head_lr=1e-9, head_scale=7.0), stream, 1)
    data = stream.tasks[1].train
    x = data.prepare(data.samples)
    learn(watched(strategy, lambda step: seen.__setitem__(step, state(strategy))), stream, 2, first=1)
    with torch.no_grad():
        found = {"temporary.head": strategy.model.vit.features(x, strategy.model.sets.plugs(1))}
        strategy._data = data
        found["vit.head"] = strategy._computed(x)
    for head, features in found.items():
        for c in (2, 3):
            mean = features[data.targets == c].mean(0)
            row = 7.0 * F.normalize(mean, dim=0) / features.norm(dim=1).mean()
            torch.testing.assert_close(seen[4][f"{head}.weight"][c], row, atol=1e-5, rtol=1e-4)


# -- choosing -------------------------------------------------------------------------------------------------------


def apart(found: Tensor) -> Tensor:
    """[3, D]: keys of which three rows of [N, D] are nearest to one each: away from the mean, to which all are near."""
    mean = F.normalize(found.mean(0), dim=0)
    away = found[[0, 7, 13]] - found.mean(0)
    return F.normalize(away - (away @ mean)[:, None] * mean, dim=1)


@torch.enable_grad()
def chooser(more: dict) -> LayerNorm:
    """After three tasks, test images choosing among all of them."""
    stream = pictures()
    strategy = learn(made(stream, **more), stream)
    model, x = strategy.model, probes(stream)
    with torch.no_grad():
        if more.get("variant"):
            read = []
            model.vit.features(x, Plugs(norm=lambda n, x: read.append(x[:, 0]) or model.sets.pair(n, 0)))
            for t in range(3):
                model.keys.alphas[t].copy_(model.keys.alphas[0])
                model.keys.keys[t].copy_(
                    torch.stack([apart(a * x)[t] for a, x in zip(model.keys.alphas[0], read, strict=True)])
                )
        else:
            model.keys.keys[:3] = apart(model.vit.features(x))
    assert len(strategy.select_task(x, stream.query(0, 3)).unique()) > 1
    return strategy


@pytest.mark.parametrize("more", [{}, SINGLE])
def test_each_sample_chooses_for_itself(more):
    strategy, x = chooser(more), probes(pictures())
    whole = logits(strategy, x)
    for size in (1, 7):
        strategy._over = {}
        torch.testing.assert_close(torch.cat([logits(strategy, part) for part in x.split(size)]), whole)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(2))
    strategy._over = {}
    torch.testing.assert_close(logits(strategy, x[order])[order.argsort()], whole)


def one_by_one(strategy: LayerNorm, x: Tensor, chosen: Tensor) -> Tensor:
    """Features [B, D] through the norms of the tasks `chosen` [B]."""
    vit, sets = strategy.model.vit, strategy.model.sets
    return torch.cat([vit.features(x[i : i + 1], sets.plugs(int(t))) for i, t in enumerate(chosen)])


@torch.no_grad()
def test_a_batch_of_mixed_tasks_is_what_each_sample_would_be_alone():
    strategy, x = chooser({}), probes(pictures())
    chosen = strategy.select_task(x, pictures().query(0, 3))
    alone = one_by_one(strategy, x, chosen)
    torch.testing.assert_close(strategy.model.vit.features(x, strategy.model.sets.plugs(chosen)), alone)
    torch.testing.assert_close(logits(strategy, x), strategy.model.vit.head(alone))
    told = torch.arange(len(x)) % 3
    for strategy in (chooser({}), chooser(SINGLE)):
        alone = strategy.model.vit.head(one_by_one(strategy, x, told))
        torch.testing.assert_close(logits(strategy, x, chosen=told), alone)


@torch.no_grad()
def test_in_single_forward_each_norm_chooses():
    strategy, x = chooser(SINGLE), probes(pictures())
    model, said = strategy.model, []
    for i in range(len(x)):

        def norm(n, inputs):
            read = inputs[:, 0]
            near = [F.cosine_similarity(read * model.keys.alphas[t][n], model.keys.keys[t][n][None]) for t in range(3)]
            said[-1].append(int(torch.stack(near).argmax()))
            return model.sets.sets[said[-1][-1]][n]

        said.append([])
        alone = model.vit.features(x[i : i + 1], Plugs(norm=norm))
        torch.testing.assert_close(logits(strategy, x[i : i + 1]), model.vit.head(alone))
    choices = torch.tensor(said)
    assert (choices != choices[:, :1]).any()
    votes = F.one_hot(choices, 3).sum(1)
    assert torch.equal(strategy.select_task(x, pictures().query(0, 3)), votes.argmax(1))


@pytest.mark.parametrize("more", [{}, SINGLE])
def test_tasks_to_come_are_not_chosen(more):
    stream = pictures()
    strategy = learn(made(stream, **more), stream, 2)
    x, keys = probes(stream), strategy.model.keys.keys
    with torch.no_grad():
        for t in (0, 1):
            keys[t].copy_(-keys[2] if more else -strategy.model.vit.features(x).mean(0))
        if not more:
            keys[2] = -keys[0]
    assert strategy.select_task(x, stream.query(0, 2)).eq(0).all()
    strategy.tasks_begun = 3
    assert strategy.select_task(x, stream.query(0, 3)).eq(2).any()


# -- what is remembered ---------------------------------------------------------------------------------------------


def forgetful(monkeypatch) -> None:
    """Nothing is remembered from one question to the next."""
    held = Memo._hold

    def hold(self, function, x, purpose, counted):
        self.places, self.answers = {}, None
        return held(self, function, x, purpose, counted)

    monkeypatch.setattr(Memo, "_hold", hold)


@pytest.mark.parametrize("more", [{}, {"keys": "prototypes"}, SINGLE])
def test_the_matrix_with_what_is_remembered_is_the_matrix_without(monkeypatch, more):
    settings = FAST | {"lr": 0.05, "head_lr": 0.05} | more
    make = lambda: load_strategy("layernorm")(**settings)
    quick, evidence = run_seed(make(), pictures(), 0)
    forgetful(monkeypatch)
    plain, same = run_seed(make(), pictures(), 0)
    assert (quick.correct, quick.cost, quick.usage, evidence) == (plain.correct, plain.cost, plain.usage, same)
    if not more.get("variant"):
        assert quick.diagnostics["task_selection"] == plain.diagnostics["task_selection"]


def test_only_test_images_that_change_their_choice_are_computed():
    stream = pictures()
    strategy = made(stream, keys="mean")
    x, rows, choices = probes(stream), counted(strategy), []
    for t in range(4):
        if t:
            learn(strategy, stream, t, first=t - 1)
        rows.clear()
        logits(strategy, x)
        choices.append(strategy.select_task(x, stream.query(0, t)))
        new = len(x) if t < 2 else int((choices[t] != choices[t - 1]).sum())
        assert sum(rows) == new, t
        logits(strategy, x.flip(0))
        assert sum(rows) == new


def test_a_row_in_the_middle_of_learning_leaves_nothing_behind():
    stream = pictures()
    x, answers, during = probes(stream), [], []
    quiet, looked_at = made(stream), made(stream)
    watched(looked_at, lambda step: during.append(logits(looked_at, x)))
    for strategy in (quiet, looked_at):
        learn(strategy, stream)
        answers.append(logits(strategy, x))
    assert torch.equal(*answers)
    assert not torch.equal(during[-3], during[-1])


def test_loading_forgets():
    stream = pictures()
    strategy = learn(made(stream), stream, 1)
    x, start = probes(stream), strategy.state_dict()
    start = {**start, "model": state(strategy)}
    before = logits(strategy, x)
    with torch.no_grad():
        start["model"]["sets.sets.0"][:, 1] += 0.5
    strategy.load_state_dict(start)
    assert not torch.allclose(before, logits(strategy, x))


def test_the_ledger_counts_two_forwards_or_one():
    """The plain way: the network as it came at row 0; afterwards a query and features for each test image."""
    flops = {}
    for variant in ("two-forward", "single-forward"):
        stream = pictures()
        strategy = made(stream, variant=variant)
        rows = []
        for t in range(3):
            if t:
                learn(strategy, stream, t, first=t - 1)
            before = strategy.context.meter.flops["eval"]
            Evaluator(stream, torch.device("cpu")).row(strategy, strategy.context, t)
            rows.append(strategy.context.meter.flops["eval"] - before)
        flops[variant] = rows
    head, keys = 2 * 18 * 12 * 6, 2 * 18 * 12 * 4
    forward = flops["two-forward"][0] - head
    assert flops["two-forward"][1:] == [2 * forward + head + keys] * 2
    assert flops["single-forward"][0] == forward + head
    assert flops["single-forward"] == [forward + head] * 3  # cosines there are no matrix products


# -- at its real size -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_vit_b16_trains_and_predicts_within_memory():
    draw = torch.Generator().manual_seed(0)
    parts, tests = [], []
    for t in range(2):
        data = Data(torch.randint(256, (2, 3, 224, 224), generator=draw, dtype=torch.uint8), torch.tensor([t, 2 + t]))
        parts.append(Task(t, "", (t, 2 + t), data))
        tests.append(LabelledTest(data))
    stream = Stream("large", 1, CIL, parts, tests, 200)
    settings = {"model": "vit-b16", "model.weights": "random", "key_epochs": 1, "epochs": 1, "head_epochs": 1}
    strategy = started("layernorm", stream, **settings)
    assert strategy.model.sets.sets[0].numel() == 38_400 and len(strategy.model.vit.norms()) == 25
    assert ledger(strategy, strategy.context).params_trained == 384_000 + 7_680 + 153_800  # 545,480 as published
    for t in (1, 2):
        learn(strategy, stream, t, first=t - 1)
        assert logits(strategy, probes(stream)).isfinite().all()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 < 8e9
    single = started("layernorm", stream, **settings, variant="single-forward")
    at_norms = sum(p.numel() for p in single.model.keys.parameters())
    assert at_norms == 25 * 2 * 10 * 768
    learn(single, stream, 1)
    assert logits(single, probes(stream)).isfinite().all()
