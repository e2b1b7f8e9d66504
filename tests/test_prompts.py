"""DualPrompt and L2P: prompts are what the papers say, each sample chooses for itself, and what is frozen stays."""

from __future__ import annotations

import re
import resource
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import torch
from carryover.base.errors import UsageError
from carryover.evaluation.run import run_seed
from carryover.strategies import check_strategy
from carryover.strategies.backbones import build, vits
from carryover.strategies.backbones.vit import Plugs
from carryover.strategies.config import TrainConfig, configure
from carryover.strategies.core import load_strategy
from carryover.strategies.dualprompt import DualPrompt, DualPromptConfig, Prompted
from carryover.strategies.l2p import L2P, L2PConfig, Pooled
from carryover.strategies.parts import keys
from carryover.strategies.parts.features import Memo
from carryover.strategies.parts.prompts import Prefixes, frozen_vit
from carryover.streams.batches import batches
from carryover.streams.core import CIL, DIL, ONLINE, TASK_FREE, Data, LabelledTest, Stream, Task
from carryover.tests.toys import info, learn, pictures, started
from torch import Tensor, nn

pytest.importorskip("timm")
torch.set_num_threads(1)

SHAPE = (3, 24, 24)
CONTROL = {"g_length": 0, "e_length": 0}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """vit-micro in its form, but smaller: 17 tokens, 5 blocks, 2 heads of width 8."""
    monkeypatch.setattr(vits, "MICRO", {"patch_size": 6, "embed_dim": 16, "depth": 5, "num_heads": 2})


pictures = partial(pictures, train=14, test=5)


def made(strategy: type = DualPrompt, stream: Stream | None = None, noise: float = 0.3, **settings):
    """After `setup`, on a body whose features tell images apart, as those of a trained one do."""
    settings = {"model.weights": "random", "batch_size": 8, "lr": 0.01} | settings
    strategy = started(strategy, stream or pictures(), **settings)
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in strategy.model.vit.body.parameters():
            p.add_(noise * torch.randn(p.shape, generator=draw))
    return strategy


def logits(strategy, x: Tensor, stream: Stream, seen: int, **more) -> Tensor:
    """[B, C] on the way to a prediction."""
    found = []
    decide = strategy.objective.decide
    strategy.objective.decide = lambda values, query: found.append(values) or decide(values, query)
    with torch.no_grad():
        strategy.predict(x, stream.query(0, seen), **more)
    strategy.objective.decide = decide
    return found[0]


def probes(stream: Stream) -> Tensor:
    """All test images."""
    return torch.cat([test.data.prepare(test.data.samples) for test in stream.tests])


def state(strategy) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in strategy.model.state_dict().items()}


def moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


# -- the rules ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "settings", "setting"),
    [
        ("dualprompt", {}, CIL),
        ("dualprompt", {"epochs": 1}, ONLINE),
        ("dualprompt", {"keys": "prototypes", "prefix_init": "mean", "head_init": "prototypes", "e_length": 1}, CIL),
        ("dualprompt", {"keys": "mean", "keys_at_test": "all", "copy": False, "head_lr": 0.001}, DIL),
        ("dualprompt", CONTROL, CIL),
        ("dualprompt", {"e_length": 0, "schedule": "cosine"}, CIL),
        ("l2p", {}, CIL),
        ("l2p", {"epochs": 1, "top": 2}, TASK_FREE),
    ],
)
def test_the_rules_hold(name, settings, setting):
    """Resumed at any step it ends the same, no test data is read, each prediction is of its own sample alone, ..."""
    settings = {"epochs": 2, "batch_size": 4, "model.weights": "random"} | settings
    stream = pictures(setting, tasks=2, train=6, test=2)
    assert check_strategy(name, [stream], **settings) == [setting.name]


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("dualprompt", {"weight_decay": 0.1}, "would move"),
        ("l2p", {"weight_decay": 0.1}, "would move"),
        ("dualprompt", {"model": "mlp"}, "which the model mlp is not"),
        ("l2p", {"model": "mlp"}, "which the model mlp is not"),
        ("dualprompt", {"g_blocks": (0, 5)}, "from 0 to 4"),
        ("dualprompt", {"e_blocks": [2, 2]}, "name each once"),
        ("l2p", {"top": 11}, "larger pool"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(name, settings, says):
    options = {} if "model" in settings else {"model.weights": "random"}
    with pytest.raises(UsageError, match=says) as refused:
        started(name, info(CIL, 6, SHAPE), **options, **settings)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("more", [{"keys": "mean"}, {"prefix_init": "mean"}, {"head_init": "prototypes"}])
def test_a_second_look_at_the_data_is_refused_where_there_is_one_pass(more):
    with pytest.raises(UsageError, match="dualprompt makes 2 passes over each task.s data, but pictures allows 1 pass"):
        made(stream=pictures(ONLINE), epochs=1, **more)


def test_every_look_at_the_data_is_counted():
    stream = pictures()
    learn(made(epochs=2, keys="mean", prefix_init="mean", head_init="prototypes"), stream)
    assert [task.train.drawn["samples"] / len(task.train) for task in stream] == [5, 4, 4]


def test_one_task_too_many_for_the_pool_is_refused():
    strategy = made(pool=2, epochs=1)
    learn(strategy, pictures(), 2)
    with pytest.raises(UsageError, match="a pool of 2 tasks, and task 3 begins"):
        learn(strategy, pictures(), 3, first=2)


def test_classes_of_two_tasks_have_no_prototypes_that_tell_the_task():
    with pytest.raises(UsageError, match="class 0 is of two tasks"):
        learn(made(stream=pictures(DIL), keys="prototypes", epochs=1), pictures(DIL))


# -- prefixes -------------------------------------------------------------------------------------------------------


def by_hand(vit, x: Tensor, keys: dict[int, list[list[Tensor]]]) -> Tensor:
    """Features [B, D] with prefixes [block][sample] = (key, value), each [H, L, d]; attention written out."""
    body = vit.body
    x = body._pos_embed(body.patch_embed(vit._prepared(x)))
    for i, block in enumerate(body.blocks):
        rows = []
        for b, tokens in enumerate(block.norm1(x)):
            q, k, v = block.attn.qkv(tokens).reshape(len(tokens), 3, vit.heads, -1).permute(1, 2, 0, 3)
            for key, value in keys.get(i, {b: []})[b]:
                k, v = torch.cat([key, k], 1), torch.cat([value, v], 1)
            weights = (q @ k.mT / q.shape[-1] ** 0.5).softmax(2)  # [H, N, L + N]
            rows.append((weights @ v).transpose(0, 1).flatten(1))
        x = x + block.attn.proj(torch.stack(rows))
        x = x + block.mlp(block.norm2(x))
    return body.norm(x)[:, 0]


@torch.no_grad()
def test_each_samples_prefixes_are_what_attention_by_hand_makes_of_them():
    """Keys are keys, values are values, of the chosen task, of the right block; blocks may have both kinds."""
    model = made(g_blocks=(0, 3), g_length=2, e_blocks=(3, 1), e_length=3).model
    x, chosen = probes(pictures())[:4], torch.tensor([2, 0, 9, 0])
    G, E = model.general.values, model.expert.values
    of = lambda P, which, i: (P[which, i, 0], P[which, i, 1])
    prefixes = {
        0: [[of(G, 0, 0)] for _ in chosen],
        3: [[of(G, 0, 1), of(E, j, 0)] for j in chosen],
        1: [[of(E, j, 1)] for j in chosen],
    }
    torch.testing.assert_close(model.features(x, chosen), by_hand(model.vit, x, prefixes), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.vit.features(x), by_hand(model.vit, x, {}), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_prefixes_stand_in_front_and_none_is_none():
    vit = build("vit-micro", info(CIL, 6, SHAPE), weights="random").eval()
    k, v = torch.rand(4, 2, 17, 8), torch.rand(4, 2, 17, 8)
    prefixes = Prefixes(vit, (1, 3), 5, 7, "small")
    chosen = torch.tensor([3, 0, 6, 3])
    assert prefixes.before(2, k, v, chosen) == (k, v)
    for which in (chosen, 3):
        new_k, new_v = prefixes.before(3, k, v, which)
        assert new_k.shape == new_v.shape == (4, 2, 22, 8)
        assert torch.equal(new_k[:, :, 5:], k) and torch.equal(new_v[:, :, 5:], v)
        assert torch.equal(new_k[3, :, :5], prefixes.values[3, 1, 0])
        assert torch.equal(new_v[3, :, :5], prefixes.values[3, 1, 1])
    x = probes(pictures())[:3]
    empty = Prefixes(vit, range(5), 0, 1, "small")
    torch.testing.assert_close(vit.features(x, Plugs(attend=lambda *kv: empty.before(*kv, 0))), vit.features(x))


def test_the_published_starts():
    for init, low, high in (("uniform", -1, 1), ("small", 0, 0.01)):
        for values in (made(prefix_init=init).model.expert.values, made(L2P, prompt_init=init).model.prompts):
            assert low <= values.min() < low + 0.1 * (high - low) and high - 0.1 * (high - low) < values.max() < high


def test_prefixes_can_start_at_the_mean_key_and_value_of_the_first_tasks_images():
    stream = pictures()
    strategy = made(prefix_init="mean", e_blocks=(2, 0), e_length=400, lr=1e-9, epochs=1)
    learn(strategy, stream, 1)
    seen = {}

    def watch(block, k, v):
        seen[block] = (k.mean((0, 2)), v.mean((0, 2)))
        return k, v

    data = stream.tasks[0].train
    with torch.no_grad():
        strategy.model.vit.features(data.prepare(data.samples), Plugs(attend=watch))
    for i, block in enumerate((2, 0)):
        for part in (0, 1):
            found = strategy.model.expert.values[4, i, part].detach()
            assert torch.allclose(found.mean(1), seen[block][part], atol=0.005)
            assert found.std(1).mean().item() == pytest.approx(0.02, rel=0.05)


# -- each sample chooses for itself ---------------------------------------------------------------------------------

SELECTING = [(DualPrompt, {}), (DualPrompt, {"keys": "prototypes"}), (DualPrompt, CONTROL), (L2P, {"top": 3})]


def answers(strategy, stream: Stream, sizes: tuple[int, ...]) -> list[Tensor]:
    """Logits [N, C] of all test images in batches of several sizes, in another order, and among other images."""
    x = probes(stream)
    cut = lambda x, n: torch.cat([logits(strategy, part, stream, 3) for part in x.split(n)])
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(2))
    among = logits(strategy, torch.cat([x, torch.rand(3 * len(x), *SHAPE)]), stream, 3)[: len(x)]
    return [*(cut(x, n) for n in sizes), cut(x[order], 7)[order.argsort()], among]


@torch.no_grad()
def choices(strategy, stream: Stream) -> None:
    """See to it that the test images do not all choose the same prompts, or nothing is tried."""
    found = strategy.queries.ask(probes(stream))
    if isinstance(strategy, L2P):  # its keys have all come to lie together
        strategy.model.keys.keys.copy_(found[::7][:10])
        chosen = strategy.model.keys.similarity(found, 10).topk(strategy.config.top).indices
    elif strategy.model.keys is None:
        return
    else:
        chosen = strategy.model.keys.choose(found, 3)
    assert len(chosen.unique(dim=0)) > 1


@pytest.mark.parametrize(("kind", "settings"), SELECTING)
def test_answers_do_not_depend_on_the_batch(kind, settings):
    stream = pictures(test=22)
    strategy = learn(made(kind, lr=0.05, epochs=2, **settings), stream)
    choices(strategy, stream)
    first, *others = answers(strategy, stream, (64, 1, 7))
    for other in others:
        torch.testing.assert_close(other, first, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("kind", "parity"), [(DualPrompt, "scrambled"), (DualPrompt, "batchwise"), (L2P, "batchwise")])
def test_parity_with_the_published_codes_fails_that_test(kind, parity):
    stream = pictures(test=22)
    strategy = learn(made(kind, lr=0.05, epochs=2, parity=parity, **({} if kind is DualPrompt else {"top": 3})), stream)
    choices(strategy, stream)
    together, alone, *_ = answers(strategy, stream, (64, 1))
    assert not torch.allclose(alone, together, rtol=1e-2, atol=1e-2)


@torch.no_grad()
def test_the_scramble_is_the_published_one():
    """Chosen 0, 1, 2, 0: (K0, K1), (K2, K0), (V0, V1), (V2, V0) stand where (K, V) of each belong."""
    vit = made().model.vit
    prefixes = Prefixes(vit, (0,), 1, 3, "uniform", scrambled=True)
    k = v = torch.zeros(4, 2, 17, 8)
    new_k, new_v = prefixes.before(0, k, v, torch.tensor([0, 1, 2, 0]))
    K, V = prefixes.values[:, 0, 0], prefixes.values[:, 0, 1]
    for b, (key, value) in enumerate([(K[0], K[1]), (K[2], K[0]), (V[0], V[1]), (V[2], V[0])]):
        assert torch.equal(new_k[b, :, :1], key) and torch.equal(new_v[b, :, :1], value)


def test_batchwise_means_the_choice_of_most(monkeypatch):
    strategy = made(parity="batchwise")
    monkeypatch.setattr(keys.TaskKeys, "choose", lambda *_: torch.tensor([0, 2, 1, 2]))
    assert strategy.select_task(probes(pictures())[:4], None).tolist() == [2, 2, 2, 2]
    pool = made(L2P, parity="batchwise", top=2, pool=4)
    cosine = torch.tensor([[0.9, 0.8, 0.1, 0.0], [0.9, 0.1, 0.8, 0.0], [0.0, 0.1, 0.8, 0.9]])
    monkeypatch.setattr(keys.TaskKeys, "similarity", lambda *_: cosine)
    values, chosen = pool._match(torch.zeros(3, 16))
    assert chosen.tolist() == [[0, 2]] * 3  # two votes each, against one and one
    assert torch.equal(values, cosine[:, [0, 2]])


def test_parity_is_marked_in_the_record_and_the_default_is_judged():
    stream = pictures(tasks=2)
    runs = {}
    for parity in ("none", "batchwise", "scrambled"):
        settings = {"model.weights": "random", "epochs": 1, "parity": parity}
        runs[parity], _ = run_seed(DualPrompt(**settings), stream, 0)
    assert [run.usage.test_batch for run in runs.values()] == [None, 24, 24]
    assert runs["none"].diagnostics.keys() == {"task_selection", "oracle_accuracy"}
    assert L2P(parity="batchwise").test_batch == 16 and L2P().test_batch is None


def test_keys_of_tasks_to_come_take_part_where_asked_for():
    stream = pictures()
    for scope, most in (("seen", 1), ("all", 10)):
        strategy = made(keys_at_test=scope, epochs=1, lr=1e-9)
        learn(strategy, stream, 1)
        with torch.no_grad():
            strategy.model.keys.keys[9] = strategy.queries.ask(probes(stream)).mean(0)
        assert int(strategy.select_task(probes(stream), stream.query(0, 1)).max()) == most - 1


def test_the_evaluator_may_choose_instead():
    stream = pictures()
    strategy = learn(made(lr=0.05), stream)
    x, query = probes(stream), stream.query(0, 3)
    own = logits(strategy, x, stream, 3)
    assert torch.equal(logits(strategy, x, stream, 3, chosen=strategy.select_task(x, query)), own)
    other = (strategy.select_task(x, query) + 1) % 3
    assert not torch.isclose(logits(strategy, x, stream, 3, chosen=other), own).all(1).any()


@pytest.mark.parametrize("settings", [CONTROL, {"e_length": 0}])
def test_without_expert_prompts_the_task_is_that_of_the_answer(settings):
    stream = pictures()
    strategy = learn(made(epochs=1, **settings), stream)
    x, query = probes(stream), stream.query(0, 3)
    assert torch.equal(strategy.select_task(x, query), strategy.predict(x, query) // 2)
    told = strategy.predict(x, query, torch.zeros(len(x), dtype=torch.long))
    assert torch.equal(told, strategy.predict(x, query))


# -- what is trained, and what is not -------------------------------------------------------------------------------


@pytest.mark.parametrize("copy", [True, False])
def test_a_task_moves_its_own_prompt_key_and_rows_and_the_general_prompt(copy):
    stream = pictures()
    strategy = learn(made(copy=copy, epochs=2), stream, 1)
    before, began = state(strategy), {}
    begin = strategy.begin_task
    strategy.begin_task = lambda task: (begin(task), began.update(state(strategy)))
    learn(strategy, stream, 2, first=1)
    after = state(strategy)
    assert moved(before, after) == {
        "general.values", "expert.values", "keys.keys", "vit.head.weight", "vit.head.bias"
    }  # fmt: skip
    own = {"expert.values": [1], "keys.keys": [1], "vit.head.weight": [2, 3], "vit.head.bias": [2, 3]}
    for name, theirs in own.items():
        rows = [i for i in range(len(after[name])) if not torch.equal(before[name][i], after[name][i])]
        assert rows == theirs
    assert torch.equal(began["expert.values"][1], began["expert.values"][0]) == copy
    assert torch.equal(began["keys.keys"], before["keys.keys"])  # keys are not copied


@pytest.mark.parametrize("kind", [DualPrompt, L2P])
def test_rows_of_other_tasks_have_no_gradient_at_all(kind):
    stream = pictures()
    strategy = learn(made(kind, epochs=1), stream, 2)
    batch = next(batches(stream.tasks[1].train, 8, 1, (0,)))
    strategy.optimizer.zero_grad()
    strategy.loss(batch).backward()
    head = strategy.model.vit.head
    others = [0, 1, 4, 5]
    assert head.weight.grad[[2, 3]].abs().min() > 0
    assert head.weight.grad[others].abs().max() == 0 and head.bias.grad[others].abs().max() == 0
    assert all(p.grad is None for p in strategy.model.vit.body.parameters())
    if kind is DualPrompt:
        grad = strategy.model.expert.values.grad
        assert grad[1].abs().max() > 0 and grad[[0, *range(2, 10)]].abs().max() == 0


def test_the_matching_loss_is_minus_the_mean_cosine_and_turns_the_key():
    stream = pictures()
    strategy = learn(made(epochs=1, pull=3.0), stream, 1)
    batch = next(batches(stream.tasks[0].train, 8, 1, (0,)))
    key, query = strategy.model.keys.keys[0], strategy.queries.ask(batch.x)
    cosine = nn.functional.cosine_similarity(query, key[None], dim=1).mean()
    plain = strategy.objective.loss(strategy.model.vit.head(strategy.model.features(batch.x, 0)), batch.y)
    loss = strategy.loss(batch)
    torch.testing.assert_close(loss, plain - 3 * cosine)
    strategy.optimizer.zero_grad()
    loss.backward()
    grad = strategy.model.keys.keys.grad[0]
    assert grad.norm() > 1e-3 and float((grad @ key).detach().abs() / (grad.norm() * key.norm()).detach()) < 1e-4
    with pytest.raises(RuntimeError):  # closed-form keys are not trained
        made(keys="mean").model.keys.keys.sum().backward()


@pytest.mark.parametrize("kind", [DualPrompt, L2P])
def test_the_query_is_of_the_network_without_prompts_in_every_mode(kind):
    stream = pictures()
    strategy = made(kind, epochs=1, **{"model.drop_path": 0.5})
    x = probes(stream)
    before = strategy.queries.ask(x)
    learn(strategy, stream, 1)
    strategy.model.train()
    assert torch.equal(strategy.queries.ask(x), before)
    assert strategy.model.vit.training
    torch.testing.assert_close(before, strategy.model.eval().vit.features(x))


def watch(vit, counted: list[int]) -> None:
    """Count the images that are asked about without prompts."""
    plain = vit.features

    def features(x: Tensor, plugs: Plugs | None = None) -> Tensor:
        counted.extend([len(x)] if plugs is None else [])
        return plain(x, plugs)

    vit.features = features


@pytest.mark.parametrize(("kind", "settings"), [(DualPrompt, {}), (DualPrompt, CONTROL), (L2P, {})])
@pytest.mark.parametrize("augmented", [False, True])
def test_what_is_remembered_changes_neither_answers_nor_ledger(kind, settings, augmented, monkeypatch):
    flip = lambda x, generator: x.flip(3) if torch.rand(1, generator=generator) < 0.5 else x
    stream = pictures(tasks=2, augment=flip if augmented else None)
    outcomes, asked = [], []
    for plain in (False, True):
        if plain:
            monkeypatch.setattr(Memo, "__call__", lambda self, function, x, purpose="eval": function(x))
            monkeypatch.setattr(Memo, "foresee", lambda *_: None)
        strategy = made(kind, stream, epochs=2, **settings)
        asked.append(counted := [])
        watch(strategy.model.vit, counted)
        learn(strategy, stream)
        found = [logits(strategy, probes(stream), stream, 2) for _ in range(2)]
        outcomes.append((state(strategy), found, strategy.context.meter.flops["train"]))
    (remembered, found, flops), (anew, found_anew, flops_anew) = outcomes
    for name, value in anew.items():
        torch.testing.assert_close(remembered[name], value, rtol=1e-4, atol=1e-5)
    for a, b in zip(found, found_anew, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
        assert torch.equal(a.argmax(1), b.argmax(1))
    assert flops == flops_anew
    assert [sum(counted) for counted in asked] == [56 + 10 if augmented else 28 + 10, 56 + 20]


def test_the_control_is_a_head_on_frozen_features():
    """The same recipe written out: Adam anew for each task, clipped gradients, the task's classes alone."""
    stream = pictures()
    strategy = made(stream=stream, epochs=3, head_lr=0.02, clip=0.5, **CONTROL)
    vit = strategy.model.vit
    W, b = vit.head.weight.detach().clone().requires_grad_(), vit.head.bias.detach().clone().requires_grad_()
    assert [p.shape for p in strategy.model.parameters() if p.requires_grad] == [W.shape, b.shape]
    learn(strategy, stream)
    for t, task in enumerate(stream):
        adam = torch.optim.Adam([W, b], lr=0.02)
        for batch in batches(task.train, 8, 3, (0, t, "batches")):
            with torch.no_grad():
                features = vit.features(batch.x)
            own = features @ W.T[:, [2 * t, 2 * t + 1]] + b[[2 * t, 2 * t + 1]]
            adam.zero_grad()
            nn.functional.cross_entropy(own, batch.y - 2 * t).backward()
            nn.utils.clip_grad_norm_([W, b], 0.5)
            adam.step()
    torch.testing.assert_close(vit.head.weight, W, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(vit.head.bias, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("setting", [CIL, DIL])
def test_head_rows_can_start_as_prototypes_of_features_with_the_tasks_prompt(setting):
    stream = pictures(setting)
    strategy = made(stream=stream, head_init="prototypes", head_scale=7.0, lr=1e-9)
    learn(strategy, stream, 1)
    after_one = strategy.model.vit.head.weight.detach().clone()
    learn(strategy, stream, 2, first=1)
    rows = strategy.model.vit.head.weight.detach()
    assert torch.allclose(rows[:2], after_one[:2], atol=1e-6)  # nobody starts anew what an earlier task has learnt
    data, task = stream.tasks[0].train, 0
    if setting is CIL:
        assert torch.equal(rows[4:], after_one[4:])
        data, task = stream.tasks[1].train, 1
    with torch.no_grad():
        found = strategy.model.features(data.prepare(data.samples), task)
    for c in stream.tasks[task].classes:
        mean = nn.functional.normalize(found[data.targets == c].mean(0), dim=0)
        assert torch.allclose(rows[c], 7 * mean / found.norm(dim=1).mean(), atol=1e-4)


# -- L2P ------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_a_pool_adds_its_tokens_and_reads_their_mean_in_any_order():
    model = made(L2P, prompt_length=3, pool=6, top=2).model
    x, chosen = probes(pictures())[:3], torch.tensor([[4, 1], [0, 5], [1, 2]])
    seen = []
    hook = model.vit.body.norm.register_forward_hook(lambda module, args, out: seen.append(out))
    found = model(x, chosen)
    hook.remove()
    assert seen[0].shape == (3, 17 + 2 * 3, 16)
    torch.testing.assert_close(found, model.vit.head(seen[0][:, 17:].mean(1)))
    torch.testing.assert_close(model(x, chosen.flip(1)), found, rtol=1e-4, atol=1e-5)
    for i in range(3):  # each sample has its own
        torch.testing.assert_close(model(x[i : i + 1], chosen[i : i + 1]), found[i : i + 1], rtol=1e-4, atol=1e-5)


def test_only_chosen_prompts_and_keys_are_trained_and_their_cosines_summed():
    stream = pictures()
    strategy = made(L2P, top=3, pool=10, pull=2.0)
    learn(strategy, stream, 1)
    batch = next(batches(stream.tasks[0].train, 4, 1, (0,)))
    query, pool = strategy.queries.ask(batch.x), strategy.model.keys.keys
    cosine = nn.functional.cosine_similarity(query[:, None], pool[None], dim=2)  # [B, M]
    chosen = cosine.sort(1, descending=True).indices[:, :3]
    used = set(chosen.flatten().tolist())
    assert len(used) < 10
    plain = strategy.objective.loss(strategy.model(batch.x, chosen), batch.y)
    strategy.optimizer.zero_grad()
    loss = strategy.loss(batch)
    torch.testing.assert_close(loss, plain - 2 * cosine.gather(1, chosen).sum() / 4)
    loss.backward()
    for p in (strategy.model.prompts, pool):
        assert {i for i in range(10) if p.grad[i].abs().max() > 0} == used


# -- in their own size ----------------------------------------------------------------------------------------------


def test_trainable_parameters_are_those_of_the_papers():
    vit = build("vit-b16", info(CIL, 100, (3, 224, 224)), weights="random")
    cases = [
        (Prompted, DualPromptConfig(), 100, 330_340),
        (Prompted, DualPromptConfig(e_length=20), 200, 1_098_440),
        (Pooled, L2PConfig(prompt_length=10, top=4), 100, 161_380),
    ]
    for kind, config, classes, count in cases:
        vit.head = nn.Linear(768, classes)
        model = kind(frozen_vit(vit, "prompts", config), config, classes)
        assert sum(p.numel() for p in model.parameters() if p.requires_grad) == count


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dualprompt", "l2p"])
def test_a_step_and_a_prediction_on_vit_b16(name):
    draw = torch.Generator().manual_seed(0)
    data = lambda t: Data(torch.randint(256, (2, 3, 224, 224), generator=draw).byte(), torch.tensor([2 * t, 2 * t + 1]))
    tasks = [Task(t, str(t), (2 * t, 2 * t + 1), data(t)) for t in range(2)]
    stream = Stream("two pairs", 1, CIL, tasks, [LabelledTest(data(t)) for t in range(2)], 4)
    strategy = load_strategy(name)(configure(load_strategy(name).Config, {
        "model": "vit-b16", "model.weights": "random", "model.normalise": "none", "epochs": 1
    }, name))  # fmt: skip
    run, _ = run_seed(strategy, stream, 0)
    assert run.status == "complete" and run.cost.steps == 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 < 8e9


def test_the_example_of_the_docs_keeps_the_rules():
    @dataclass(frozen=True)
    class MyConfig(TrainConfig):
        model: str = "vit-micro"

    text = (Path(__file__).parents[1] / "docs" / "extending.md").read_text(encoding="utf-8")
    (block,) = (part for part in re.findall(r"```python\n(.*?)```", text, re.S) if "class Shifted" in part)
    names = {"MyConfig": MyConfig, "__name__": "example"}
    exec(block, names)
    stream = pictures(tasks=2)
    assert check_strategy(names["Shifted"], [stream], **{"model.weights": "random"}) == ["cil"]
    strategy = learn(started(names["Shifted"], stream, lr=0.1, **{"model.weights": "random"}), stream, 1)
    assert strategy.model.shift.abs().min() > 0
