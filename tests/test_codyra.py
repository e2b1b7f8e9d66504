"""Updates of low rank, their ranks chosen by a soft threshold, and the strategy that learns by them."""

from __future__ import annotations

import copy
import json

import pytest
import torch
import torch.nn.functional as F
from carryover.base.errors import UsageError
from carryover.evaluation import run as loop
from carryover.evaluation.run import run_seed
from carryover.strategies import check_strategy, load_strategy
from carryover.strategies.backbones import build
from carryover.strategies.check import blob_stream
from carryover.strategies.codyra import STEPS, CoDyRA, by_class
from carryover.strategies.parts.low_rank import LowRank, attach, begin, merge, ranks, shrink, updates
from carryover.strategies.parts.optimizers import trained
from carryover.streams.core import CIL, ONLINE, TASK_FREE, TIL, StreamInfo
from carryover.tests.toys import captioned, learn, pictures, started
from torch import Tensor, nn

RANDOM = {"model.weights": "random"}
SMALL = RANDOM | {"rank": 4, "steps": 4, "batch_size": 8}
WORDS = StreamInfo("a stream", (3, 24, 24), 4, TIL, "image-text")


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Small(nn.Module):
    """Every kind of layer, and one that is spared."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, 4, 2, stride=2)
        self.conv = nn.Conv2d(4, 6, 3, padding=1)
        self.norm = nn.LayerNorm(6)
        self.qkv = nn.Linear(6, 18)
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(self.patches(x)).flatten(2).mT)
        q, k, v = self.qkv(x).chunk(3, -1)
        return self.head(self.attention(q, k, v, need_weights=False)[0].mean(1))


def small(rank: int = 4, **options) -> tuple[Small, Tensor]:
    """The network with updates, in float64, and inputs."""
    torch.manual_seed(0)
    network = Small().double()
    attach(network, rank, spared=network.head, **options)
    return network, torch.randn(5, 1, 6, 6, dtype=torch.float64, generator=draw())


def moved(network: nn.Module, seed: int = 1) -> None:
    """As if it had learnt."""
    begin(network, draw(seed))
    with torch.no_grad():
        for _, update in updates(network):
            update.B.normal_(generator=draw(seed))


# -- updates --------------------------------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("training", [False, True])
def test_a_fresh_update_changes_nothing(training):
    torch.manual_seed(0)
    plain = Small().double().requires_grad_(False).train(training)  # torch multiplies by frozen weights in its own way
    network, x = small()
    network.train(training)
    assert torch.equal(network(x), plain(x))
    begin(network, draw())
    assert torch.equal(network(x), plain(x))
    for _, update in updates(network):
        assert update.A.abs().max() <= update.A.shape[2] ** -0.5 < 1.1 * update.A.abs().max()
        assert update.w.all() and not update.B.any()
    moved(network)
    assert not torch.allclose(network(x), plain(x))


def test_which_weights_have_an_update():
    network, _ = small(rank=5)
    shapes = {(tuple(W.shape), tuple(u.B.shape), tuple(u.A.shape)) for W, u in updates(network)}
    assert shapes == {
        ((6, 4, 3, 3), (1, 6, 5), (1, 5, 36)),
        ((18, 6), (3, 6, 5), (3, 5, 6)),  # in_proj_weight and qkv: three each
        ((6, 6), (1, 6, 5), (1, 5, 6)),  # out_proj
    }
    assert len(updates(network)) == 4
    names = {name.rpartition(".")[2] for name, p in network.named_parameters() if p.requires_grad}
    assert names == {"A", "B", "w", "weight", "bias"}
    assert {name for name, p in network.named_parameters() if p.requires_grad and "parametr" not in name} == {
        "head.weight",
        "head.bias",
    }
    assert all(update.w.numel() == 6 for _, update in updates(small(rank=9)[0]) if len(update.w) == 1)  # no more
    chosen, _ = small(words="att,conv")
    assert len(updates(chosen)) == 3
    with pytest.raises(UsageError, match="'text': no layer.*: conv, qkv, attention, attention.out_proj"):
        small(words="text")


def test_it_is_the_sum_over_components():
    torch.manual_seed(0)
    W = torch.randn(6, 2, 2, 1)
    update = LowRank(W, 3, parts=2)
    for p in update.parameters():
        nn.init.normal_(p)
    expected = W.clone()
    for part in range(2):
        for i in range(3):
            b, a, w = update.B[part, :, i], update.A[part, i], update.w[part, 0, i]
            expected[3 * part : 3 * part + 3] += (w * torch.outer(b, a)).reshape(3, 2, 2, 1)
    assert torch.allclose(update(W), expected, atol=1e-6)


def test_queries_keys_and_values_are_updated_each_by_itself():
    network, x = small()
    moved(network)
    W, update = next((W, u) for W, u in updates(network) if W is network.qkv.parametrizations.weight.original)
    before = network.qkv.weight.detach().clone()
    with torch.no_grad():
        update.w[1] = 0.0
    after = network.qkv.weight.detach()
    assert torch.equal(after[6:12], W[6:12])
    assert torch.equal(after[:6], before[:6]) and torch.equal(after[12:], before[12:])


def test_the_gradient_reaches_all_three_and_nothing_frozen():
    network, x = small()
    network.train()
    moved(network)
    network(x).square().sum().backward()
    for W, update in updates(network):
        assert W.grad is None
        assert all(p.grad is not None and p.grad.any() for p in update.parameters())
    assert network.head.weight.grad.any() and network.norm.weight.grad is None


def test_the_soft_threshold_by_hand():
    network, _ = small(rank=3)
    begin(network, draw())
    (_, update) = updates(network)[0]
    with torch.no_grad():
        update.w.copy_(torch.tensor([[[0.5, -0.3, 0.2]]]))
    shrink(network, 0.25)
    assert torch.allclose(update.w, torch.tensor([[[0.25, -0.05, 0.0]]], dtype=torch.float64), atol=1e-12)
    assert ranks(network)[0] == 2
    shrink(network, 0.0)
    assert ranks(network)[0] == 2


def test_components_without_importance_are_dropped():
    """They add nothing, whatever the directions are, before the merge and after."""
    network, x = small()
    moved(network)
    shrink(network, 0.8)
    assert 0 < ranks(network).sum() < 4 * 8
    other = copy.deepcopy(network)
    with torch.no_grad():
        for _, update in updates(other):
            gone = (update.w == 0)[:, 0]  # [P, r]
            update.A[gone] = 1e6
            update.B.mT[gone] = -1e6
    assert torch.equal(other(x), network(x))
    merge(network)
    merge(other)
    for (W, _), (V, _) in zip(updates(network), updates(other), strict=True):
        assert torch.equal(W, V)


def test_a_merge_leaves_outputs_as_they_were():
    network, x = small()
    moved(network)
    shrink(network, 0.3)
    before = network(x).detach()
    merge(network)
    assert (network(x) - before).abs().max() < 1e-12
    assert not any(p.any() for _, update in updates(network) for p in update.parameters())
    assert not ranks(network).any()
    begin(network, draw(2))  # and the next one starts from there
    assert (network.train()(x) - before).abs().max() < 1e-12


# -- the strategy ---------------------------------------------------------------------------------------------------


def test_it_keeps_the_rules():
    assert check_strategy("codyra", [captioned(2, 8, 4)], **SMALL | {"steps": 2}) == ["til"]
    blobs = {"model": "mlp", "model.hidden": [8], "steps": 0, "batch_size": 10, "rank": 3, "lr": 0.01}
    assert check_strategy("codyra", [blob_stream(ONLINE, tasks=2, train=20, test=4)], **blobs) == ["online"]


def test_what_is_frozen_stays_until_the_task_is_over():
    stream, seen = captioned(), []

    class Watched(CoDyRA):
        def after_step(self, batch):
            super().after_step(batch)
            seen.append(frozen(self.model))

    def frozen(model):
        return {name: p.detach().clone() for name, p in model.named_parameters() if not p.requires_grad}

    strategy = started(Watched, stream, **SMALL | {"lr": 0.01, "weight_decay": 0.1, "threshold": 0.0})
    start = frozen(strategy.model)
    learn(strategy, stream, 1)
    assert len(seen) == 4 and all(torch.equal(step[name], start[name]) for step in seen for name in start)
    end = frozen(strategy.model)
    for name in start:
        assert torch.equal(start[name], end[name]) != name.endswith(".original"), name


def test_a_fresh_head_is_trained_whole():
    stream = pictures(CIL)
    for model, head in (("slim-resnet18", "head"), ("mlp", "5")):
        strategy = started("codyra", stream, model=model, rank=2, steps=2, lr=0.01)
        plain = {name for name, p in strategy.model.named_parameters() if p.requires_grad and "parametr" not in name}
        assert plain == {f"{head}.weight", f"{head}.bias"}
        layer = strategy.model.get_submodule(head)
        before = layer.weight.detach().clone()
        learn(strategy, stream, 1)
        assert not torch.equal(layer.weight, before)


def test_both_directions_by_hand():
    """A class without images adds nothing; its column takes no part."""
    logits, y = torch.randn(5, 3, generator=draw()), torch.tensor([7, 4, 7, 7, 4])
    expected = 0.0
    for image, label in enumerate(y.tolist()):
        column = logits[:, {4: 0, 7: 2}[label]]
        expected += (column.exp().sum().log() - column[image]) / 3
    assert torch.allclose(by_class(logits, y, torch.tensor([4, 5, 7])), expected)

    strategy = started("codyra", captioned(), **SMALL | {"label_smoothing": 0.2})
    strategy.objective.reveal(captioned().shown(0))
    strategy.objective.reveal(captioned().shown(1))
    batch = type("Batch", (), {"x": torch.rand(4, 3, 24, 24, generator=draw()), "y": torch.tensor([2, 3, 3, 2])})
    model = strategy.model
    words = model.encode_text(model.tokenise([texts[0] for texts in captioned().shown(1).texts]))
    s = model.logit_scale.exp() * F.normalize(model(batch.x), dim=1) @ F.normalize(words, dim=1).T
    by_image = F.cross_entropy(s, batch.y - 2, label_smoothing=0.2)
    assert torch.allclose(strategy.loss(batch), by_image + by_class(s, batch.y, torch.tensor([2, 3])), atol=1e-5)
    one_way = started("codyra", captioned(), **SMALL | {"both_directions": False})
    one_way.objective.reveal(captioned().shown(1))
    assert torch.allclose(one_way.loss(batch), by_image, atol=1e-5)


@pytest.mark.parametrize("total", [81, 500])
def test_thresholds_of_a_task_sum_to_the_published(total):
    strategy, found = load_strategy("codyra")(), []
    strategy._total = total
    for strategy.step in range(total):
        found.append(strategy.threshold())
    first = next(i for i, threshold in enumerate(found) if threshold)
    assert first == (total + 1) // 2 and found == sorted(found)
    assert found[-1] == pytest.approx(0.005 * STEPS / total, rel=0.02) and found[-1] < 0.005 * STEPS / total
    assert sum(found) == pytest.approx(0.625, rel=1e-3)


def test_the_rank_falls_as_the_threshold_rises():
    stream, kept = captioned(), []
    for threshold in (0.0, 0.005, 0.02, 0.2):
        run, _ = run_seed(load_strategy("codyra")(**SMALL | {"threshold": threshold}), stream, 0)
        kept.append(run.diagnostics["rank"])
        assert len(kept[-1]) == 3
    assert kept[0] == [4.0] * 3 and kept[-1] == [0.0] * 3
    assert kept[0] > kept[1] > kept[2] > kept[3]


def test_without_components_left_the_model_is_what_it_was():
    stream = captioned()
    strategy = started("codyra", stream, **SMALL | {"threshold": 1.0})
    start = copy.deepcopy(strategy.model).eval()
    learn(strategy, stream)
    x = torch.rand(3, 3, 24, 24, generator=draw())
    assert torch.equal(strategy.model(x), start(x))


def test_stopped_in_the_middle_of_a_task(monkeypatch, tmp_path):
    """Saved at every step and gone on from a fresh start, the last weights are the same bit for bit."""
    stream, settings, path = captioned(), SMALL | {"lr": 0.01}, tmp_path / "c.safetensors"
    whole = learn(started("codyra", stream, **settings), stream)
    record, evidence = run_seed(load_strategy("codyra")(**settings), stream, 0)
    real = loop.save_state

    class Killed(BaseException):
        pass

    def save(path, state):
        real(path, state)
        raise Killed

    lives, done = 0, None
    with monkeypatch.context() as patch:
        patch.setattr(loop, "save_state", save)
        while done is None and lives < 100:
            strategy, lives = load_strategy("codyra")(**settings), lives + 1
            try:
                done = run_seed(strategy, stream, 0, checkpoint=path, every=0.0)
            except Killed:
                continue
    assert lives == 3 * 4 + 3 + 1
    assert done[0].result_digest() == record.result_digest() and done[1] == evidence
    for (name, p), (_, q) in zip(whole.model.named_parameters(), strategy.model.named_parameters(), strict=True):
        assert torch.equal(p, q), name


def test_a_checkpoint_leaves_out_the_weights_that_no_task_has_changed_yet():
    stream = captioned()
    strategy = started("codyra", stream, **SMALL)
    assert not any(name.endswith(("original", "embed.weight")) for name in strategy.state_dict()["model"])
    learn(strategy, stream, 1)
    held = set(strategy.state_dict()["model"])
    assert "image.0.parametrizations.weight.original" in held and "text.embed.weight" not in held


def test_the_ledger_counts_updates_as_trained_and_answers_at_the_price_of_the_plain_network():
    stream = captioned()
    (run, _), (plain, _) = (
        run_seed(load_strategy(name)(**settings), stream, 0)
        for name, settings in (("codyra", SMALL), ("finetune", RANDOM | {"model": "clip-micro"}))
    )
    added = sum(p.numel() for _, u in updates(started("codyra", stream, **SMALL).model) for p in u.parameters())
    assert run.cost.params_trained == added == run.cost.params_total - plain.cost.params_total
    assert run.cost.eval_flops == plain.cost.eval_flops
    assert run.cost.state_bytes == 0


def test_settings_that_cannot_be():
    with pytest.raises(UsageError, match="another schedule than plateau"):
        started("codyra", captioned(), **SMALL | {"schedule": "plateau"})
    with pytest.raises(UsageError, match="modules='sound'"):
        started("codyra", captioned(), **SMALL | {"modules": "sound"})
    with pytest.raises(UsageError, match="needs boundaries"):
        started("codyra", blob_stream(TASK_FREE), model="mlp")
    for settings in ({"rank": 0}, {"dense": 1.5}, {"threshold": -1.0}):
        with pytest.raises(UsageError, match=next(iter(settings))):
            load_strategy("codyra")(**settings)


# -- CLIP by name ---------------------------------------------------------------------------------------------------


def test_on_a_clip_of_open_clip(tmp_path):
    open_clip = pytest.importorskip("open_clip")
    vision = {"image_size": 32, "layers": 1, "width": 32, "patch_size": 16, "head_width": 16}
    text = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    (tmp_path / "low-rank.json").write_text(json.dumps({"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}))
    open_clip.add_model_config(tmp_path)
    options = {"model": "low-rank", "weights": "random"}
    torch.manual_seed(0)
    plain = build("open-clip", WORDS, **options).eval().requires_grad_(False)
    network = copy.deepcopy(plain)
    attach(network, 4)
    shapes = [tuple(update.B.shape) for _, update in updates(network)]
    blocks = [[(3, w, 4), (1, w, 4), (1, 4 * w, 4), (1, w, 4)] for w in (32, 16)]
    assert sorted(shapes) == sorted(blocks[0] + blocks[1])  # and no embedding, patches or projection
    x = torch.rand(2, 3, 32, 32, generator=draw())
    tokens = network.tokenise(["a cat", "a photo of a dog"])
    begin(network, draw())
    with torch.no_grad():
        assert torch.equal(network(x), plain(x)) and torch.equal(network.encode_text(tokens), plain.encode_text(tokens))

    stream = captioned(tasks=2, train=4, test=2)
    settings = {f"model.{key}": value for key, value in options.items()} | {"model": "open-clip"}
    strategy = started("codyra", stream, **settings, rank=2, steps=2, batch_size=4)
    start = copy.deepcopy(strategy.model).eval()
    learn(strategy, stream, 1)
    assert not torch.equal(strategy.model.encode_text(tokens), start.encode_text(tokens))
    assert not torch.equal(strategy.model(x), start(x))
    assert all(p.requires_grad == ("parametrizations" in name and "original" not in name)
               for name, p in strategy.model.named_parameters())  # fmt: skip
    assert len(trained(strategy.model)) == 3 * 8
