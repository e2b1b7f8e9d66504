"""Policies that look: without pictures nothing has changed, with them all that is shown counts, and LIBERO's three."""

from __future__ import annotations

import math
from functools import cache

import pytest
import torch
from carryover.base.errors import UsageError
from carryover.strategies import check_strategy
from carryover.strategies.backbones import build, registry
from carryover.strategies.backbones.libero_policies import Eye, Layer
from carryover.strategies.backbones.patches import SIDE, Patches
from carryover.strategies.backbones.policies import Parts
from carryover.strategies.parts.batch_norm import refuse_batch_norm
from carryover.streams import load_stream
from carryover.streams.core import DIL, Stream, StreamInfo
from carryover.tests.toys import granted, learn, started
from torch import Tensor, nn

torch.set_num_threads(1)
SMALL = {
    "bc-resnet-rnn": {"embed": 8, "hidden": 8, "layers": 1, "read": 8},
    "bc-resnet-t": {"embed": 8, "depth": 2, "heads": 2, "size": 6, "mlp": 12, "read": 8},
    "bc-vit-t": {
        "patch": 4, "look": 16, "look_depth": 2, "look_heads": 2, "look_size": 6,
        "embed": 8, "depth": 2, "heads": 2, "size": 6, "mlp": 12, "read": 8,
    },
    "bc-transformer": {"width": 8, "depth": 2, "hidden": 12},
}  # fmt: skip
LIBERO = [name for name in SMALL if name != "bc-transformer"]
PLAIN = {"robot": (3,), "entities": (4, 5), "words": (6,)}


def info(layout: dict[str, tuple[int, ...]], history: int, actions: int = 3) -> StreamInfo:
    return StreamInfo("toy", (history, sum(map(math.prod, layout.values()))), actions, DIL, "policy", layout)


def views(size: int = 16, cameras: int = 2, **other: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    names = ("agentview_rgb", "eye_in_hand_rgb", "third_rgb")[:cameras]
    return {name: (3, size, size) for name in names} | (other or {"robot": (9,), "language": (12,)})


def network(name: str, facts: StreamInfo, **options) -> nn.Module:
    torch.manual_seed(0)
    return build(name, facts, **(SMALL[name] | options)).eval()


def drawn(facts: StreamInfo, count: int = 4) -> Tensor:
    return torch.rand(count, *facts.shape, generator=torch.Generator().manual_seed(1))


@cache
def seen(history: int = 1, demonstrations: int = 2) -> Stream:
    """Two tasks by a small camera."""
    options = {"n_tasks": 2, "demonstrations": demonstrations, "attempts": 2, "val_fraction": 0.5}
    return load_stream("libero-object-mini", history=history, observe="camera", camera_size=16, **options)


# -- bc-transformer -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "count", "weights", "outputs", "after"),
    [
        ("bc-mlp", 47_491, 14475.8409, 0.888599, 0.00734103),
        ("bc-rnn", 156_035, 19398.3443, 0.490421, 0.32372683),
        ("bc-transformer", 51_043, 15875.2734, 1.833136, 0.44976282),
    ],
)
def test_without_pictures_a_policy_is_what_it_was_before_there_were_any(name, count, weights, outputs, after):
    """Parameters, how often was drawn for them, and outputs, as of the version before."""
    facts = info(PLAIN, 2)
    torch.manual_seed(0)
    net = build(name, facts).eval()
    assert torch.rand(1).item() == pytest.approx(after)
    assert sum(p.numel() for p in net.parameters()) == count
    assert sum(p.detach().double().abs().sum().item() for p in net.parameters()) == pytest.approx(weights)
    x = torch.linspace(-1, 1, 4 * 58).view(4, 2, 29)
    x[..., 23:] = torch.arange(6)
    assert net(x).abs().sum().item() == pytest.approx(outputs, rel=1e-4)


def test_parts_come_out_as_they_went_in():
    layout = views(4, 2, robot=(3,), words=(5,), entities=(2, 3))
    facts = info(layout, 3)
    pictures, robot, things = torch.rand(2, 3, 2, 3, 4, 4), torch.rand(2, 3, 3), torch.rand(2, 3, 2, 3)
    words = torch.ones(2, 3, 5)
    x = torch.cat([pictures.flatten(2), robot, words, things.flatten(2)], 2)
    assert x.shape[1:] == facts.shape
    parts = Parts(layout, trained=False)(x)
    assert torch.equal(parts[0], robot) and torch.equal(parts[1], things) and torch.equal(parts[3], pictures)
    assert len(Parts(PLAIN, trained=False)(torch.zeros(1, 2, 29))) == 3


@pytest.mark.parametrize("size", [16, 17, 32, 64, 100, 128])
def test_a_picture_makes_25_to_64_tokens(size):
    look = Patches(2, size, 6)
    tokens = look(torch.rand(2, 3, 2, 3, size, size), torch.zeros(2, 6), torch.zeros(2, 6))
    count = tokens.shape[2] // 2
    assert tokens.shape == (2, 3, 2 * count, 6) and 25 <= count <= SIDE * SIDE


@pytest.mark.parametrize("name", list(SMALL))
def test_all_that_is_shown_counts(name):
    """Each camera by itself, the robot and the instruction, and what was shown before."""
    facts = info(views(), 3)
    net, x = network(name, facts), drawn(facts)
    said = net(x)
    assert said.shape == (4, net.head.out_features) and net.head.act(said).shape == (4, 3)
    at = 0
    for part, shape in facts.layout.items():
        other = x.clone()
        other[:, -1, at : at + math.prod(shape)] = 1 - other[:, -1, at : at + math.prod(shape)]
        assert (net(other) - said).abs().amax(1).min() > 1e-6, part
        at += math.prod(shape)
    older = x.clone()
    older[:, 0, : 3 * 16 * 16] = 0
    assert (net(older) - said).abs().amax(1).min() > 1e-7
    swapped = torch.cat([x[..., 768:1536], x[..., :768], x[..., 1536:]], 2)
    assert (net(swapped) - said).abs().max() > 1e-5, "it cannot tell its cameras apart"


@pytest.mark.parametrize("name", list(SMALL))
def test_an_answer_does_not_depend_on_what_else_is_asked(name):
    facts = info(views(), 2)
    net, x = network(name, facts), drawn(facts, 6)
    whole = net(x)
    assert torch.allclose(whole[4:5], net(x[4:5]), atol=1e-5)
    assert torch.allclose(whole.flip(0), net(x.flip(0)), atol=1e-5)


@pytest.mark.parametrize("name", list(SMALL))
def test_every_parameter_is_learnt(name):
    facts = info(views(), 2)
    net = network(name, facts)
    net(drawn(facts)).square().sum().backward()
    idle = [key for key, p in net.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert not idle


def test_a_policy_learns_to_point_at_what_it_sees():
    """A bright spot: the way there is the answer. Who does not look learns nothing beyond the middle."""
    draw = torch.Generator().manual_seed(0)
    facts = info(views(16, 1, robot=(3,), task=(2,)), 1, 2)
    at = torch.randint(0, 16, (512, 2), generator=draw)
    x = torch.zeros(512, 1, *facts.shape[1:])
    x[torch.arange(512), 0, at[:, 1] * 16 + at[:, 0]] = 1
    x[..., -2] = 1
    y = (at - 7.5) / 10
    net = network("bc-transformer", facts, width=16, hidden=32).train()
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    for step in range(150):
        rows = torch.arange(32) + 32 * (step % 14)
        loss = net.head.loss(net(x[rows]), y[rows]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    blind = net.head.loss(torch.zeros(64, 2), y[448:]).mean()
    assert net.head.loss(net(x[448:]), y[448:]).mean() < 0.3 * blind


@pytest.mark.parametrize(
    ("name", "layout", "says"),
    [
        ("bc-mlp", views(), "does not look at agentview_rgb; set model=bc-transformer"),
        ("bc-rnn", views(), "does not look at agentview_rgb; set model=bc-transformer"),
        ("bc-resnet-t", PLAIN, "set stream.observe=camera, or model=bc-transformer"),
        ("bc-vit-t", views(8, 1), "leaves no patch of a picture of 8 pixels"),
        ("bc-transformer", views(8, 1), "more than 8 pixels a side, not 8"),
        ("bc-transformer", {"a_rgb": (3, 16, 16), "b_rgb": (3, 8, 8), "robot": (2,), "task": (2,)}, "one size"),
        ("bc-resnet-t", views(cameras=1, robot=(3,)), "one of words, task, language"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(name, layout, says):
    with pytest.raises(UsageError, match=says) as refused:
        build(name, info(layout, 2))
    assert "\n" not in str(refused.value)


# -- LIBERO's three -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "count"), [("bc-resnet-rnn", 18_056_107), ("bc-resnet-t", 4_333_707), ("bc-vit-t", 6_333_771)]
)
def test_published_sizes(name, count):
    """As their docstrings have it, for LIBERO's inputs and its actions of 7 numbers."""
    facts = info(views(128, robot=(9,), language=(768,)), 10, 7)
    net = build(name, facts)
    assert sum(p.numel() for p in net.parameters()) == count
    assert f"{count:,}" in registry.load(name).__doc__
    assert net.head.out_features == 5 * (2 * 7 + 1)
    refuse_batch_norm(net, "it mixes samples")


def test_those_who_come_later_are_not_seen_and_the_short_way_is_the_long_one():
    torch.manual_seed(0)
    layer, x = Layer(8, 2, 6, 12, 0.1).eval(), torch.rand(3, 6, 8)
    step = torch.arange(3).repeat_interleave(2)
    sees = step[:, None] >= step
    whole, later = layer(x, sees), x.clone()
    later[:, 4:] += 1
    assert torch.equal(layer(later, sees)[:, :4], whole[:, :4])
    assert (layer(x)[:, :4] - whole[:, :4]).abs().max() > 1e-4, "without a mask they see all"
    assert torch.allclose(layer(x, sees, slice(4, 5)), whole[:, 4:5], atol=1e-6)


def test_an_eye_hears_the_instruction_in_every_block():
    torch.manual_seed(0)
    eye, x, said = Eye(4, 8).eval(), torch.rand(2, 3, 32, 32), torch.rand(2, 4)
    assert len(eye.film) == len(eye.blocks) == 4
    plain = eye(x, said)
    for film in eye.film:
        kept = film.weight.detach().clone()
        with torch.no_grad():
            film.weight.zero_()
            assert (eye(x, said) - plain).abs().max() > 1e-6
            film.weight.copy_(kept)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("bc-resnet-rnn", marks=pytest.mark.slow),
        pytest.param("bc-resnet-t", marks=pytest.mark.slow),
        "bc-vit-t",
    ],
)
def test_the_rules_hold_with_libero_s_policies(name):
    """Resumed at any step it ends the same, dropout included; the same seed, the same policy; ..."""
    own = {"model": name, "steps": 2, "batch_size": 3, "lr": 0.01, "optimizer": "adamw"}
    small = SMALL[name] | ({} if name == "bc-resnet-rnn" else {"dropout": 0.2})
    assert check_strategy("finetune", [seen(2)], **own, **{f"model.{k}": v for k, v in small.items()}) == ["dil"]


@pytest.mark.parametrize("strategy", ["er", "ewc", "gem", "packnet", "gpm"])
@pytest.mark.parametrize("name", ["bc-resnet-t", "bc-transformer"])
def test_strategies_that_look_at_many_gradients_or_hold_weights_do_so_with_policies_that_look(strategy, name):
    stream = seen(2).with_setting(granted(strategy, DIL))
    own = {"steps": 1, "schedule": "constant", "warmup": 0.0, "optimizer": "sgd", "batch_size": 4, "model": name}
    more = {"memory": 2} if strategy in ("er", "gem") else {"fisher_samples": 3} if strategy == "ewc" else {}
    small = {f"model.{key}": value for key, value in SMALL[name].items()}
    made = learn(started(strategy, stream, **(own | more | small)), stream)
    assert torch.isfinite(torch.cat([p.detach().flatten() for p in made.model.parameters()])).all()
    frames = stream.tasks[0].train.prepare(stream.tasks[0].train.samples[:3])
    assert made.predict(frames, stream.query(0, 2)).shape == (3, 3)


def test_a_mixture_and_a_plain_head():
    facts = info(views(), 2)
    plain, mixture = (network("bc-resnet-t", facts, head=kind) for kind in ("plain", "mixture"))
    x = drawn(facts)
    assert plain(x).shape == (4, 3) and mixture(x).shape == (4, 35)
    with pytest.raises(UsageError, match="head='three' must be one of"):
        network("bc-resnet-t", facts, head="three")
