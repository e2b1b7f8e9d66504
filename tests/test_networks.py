"""Networks of the papers on gradient projection: their sizes, what they refuse, and that each sample is alone."""

from __future__ import annotations

import pytest
import torch
from carryover.base.errors import UsageError
from carryover.evaluation.run import run_seed
from carryover.strategies import load_strategy
from carryover.strategies.backbones import build
from carryover.strategies.backbones.mlp import mlp
from carryover.strategies.backbones.resnet import slim_resnet18
from carryover.strategies.parts.optimizers import is_head
from carryover.streams.core import TIL
from carryover.tests.toys import info, learn, pictures, started
from torch import nn

CIFAR = info(classes=100, shape=(3, 32, 32))
NARROW = {"small-alexnet": {"width": 0.1}, "lenet": {"width": 0.2}}


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("name", "options", "parameters"),
    [
        # 3 64 4^2 + 64 128 3^2 + 128 256 2^2 + 256 2^2 2048 + 2048^2 + 2048 100, and two for each normalised channel
        ("small-alexnet", {}, 207_872 + 6_291_456 + 204_800 + 9_088),
        ("small-alexnet", {"norm": "batch"}, 6_713_216),
        ("small-alexnet", {"norm": "none", "dropout": False}, 6_704_128),
        # 3 20 5^2 + 20 50 5^2 + 50 8^2 800 + 800 500 + 500 100
        ("lenet", {}, 1_500 + 25_000 + 2_560_000 + 400_000 + 50_000),
        ("lenet", {"lrn": True}, 3_036_500),
        ("slim-resnet18", {}, 1_109_240),
        ("slim-resnet18", {"stem_stride": 2}, 1_109_240),
    ],
)
def test_number_of_parameters(name, options, parameters):
    model = build(name, CIFAR, **options)
    assert count(model) == parameters
    assert model.eval()(torch.rand(2, 3, 32, 32)).shape == (2, 100)


def test_layers_of_the_published_networks():
    alexnet = build("small-alexnet", CIFAR)
    shares = [(name, layer.p) for name, layer in alexnet.named_children() if isinstance(layer, nn.Dropout)]
    assert shares == [("dropout1", 0.2), ("dropout2", 0.2), ("dropout3", 0.5), ("dropout4", 0.5), ("dropout5", 0.5)]
    first = ["conv1", "norm1", "relu1", "dropout1", "pool1", "conv2"]
    assert [name for name, _ in alexnet.named_children()][:6] == first
    assert not any("dropout" in name for name, _ in build("small-alexnet", CIFAR, dropout=False).named_children())
    for name in NARROW:
        layers = [layer for layer in build(name, CIFAR).modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
        assert len(layers) == {"small-alexnet": 6, "lenet": 5}[name]
        assert all(layer.bias is None for layer in layers)


@pytest.mark.parametrize("name", ["small-alexnet", "lenet", "slim-resnet18"])
def test_the_head_is_called_head(name):
    model = build(name, CIFAR)
    head = [parameter for parameter, _ in model.named_parameters() if is_head(parameter)]
    assert head and all(parameter.startswith("head.") for parameter in head)
    assert model.head.out_features == 100
    assert len(started("finetune", CIFAR, model=name, head_lr=0.5).optimizer.param_groups) == 2


@pytest.mark.parametrize("shape", [(3, 19, 19), (1, 28, 28), (3, 32, 32), (3, 19, 40), (3, 84, 84)])
def test_any_size_that_leaves_something(shape):
    for name, options in NARROW.items():
        model = build(name, info(shape=shape), **options)
        assert model(torch.rand(2, *shape)).shape == (2, 6)
    assert build("lenet", info(shape=(3, 1, 2)), width=0.2)(torch.rand(2, 3, 1, 2)).shape == (2, 6)


@pytest.mark.parametrize(
    ("name", "shape", "options", "message"),
    [
        ("small-alexnet", (3, 18, 18), {}, "at least 19 x 19"),
        ("small-alexnet", (3, 40, 18), {}, "at least 19 x 19"),
        ("small-alexnet", (16,), {}, "at least 19 x 19"),
        ("small-alexnet", (3, 32, 32), {"norm": "layer"}, "norm='layer'"),
        ("small-alexnet", (3, 32, 32), {"dropout": 0.5}, "dropout=0.5"),
        ("small-alexnet", (3, 32, 32), {"width": 0}, "width=0"),
        ("lenet", (3, 32, 32), {"width": -1.0}, "width=-1.0"),
        ("lenet", (3, 32, 32), {"width": float("inf")}, "width=inf"),
        ("lenet", (3, 32, 32), {"width": "wide"}, "lenet"),
        ("lenet", (3, 32, 32), {"lrn": 2}, "lrn=2"),
        ("lenet", (16,), {}, "reads images"),
        ("slim-resnet18", (3, 32, 32), {"stem_stride": 3}, "stem_stride=3"),
        ("mlp", (3, 4, 4), {"init": "zero"}, "init='zero'"),
    ],
)
def test_what_cannot_be_built_says_why(name, shape, options, message):
    with pytest.raises(UsageError, match=message) as caught:
        build(name, info(shape=shape), **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", NARROW)
@pytest.mark.parametrize("training", [False, True])
def test_a_sample_is_alone(name, training):
    """In training, too, where nothing is dropped."""
    options = NARROW[name] | ({"dropout": False} if name == "small-alexnet" else {"lrn": True})
    torch.manual_seed(0)
    model, x = build(name, CIFAR, **options).double().train(training), torch.rand(4, 3, 32, 32).double()
    together = model(torch.cat([x, 100 * x]))[:4]
    torch.testing.assert_close(together, torch.cat([model(one) for one in x.split(1)]))


def test_widths_are_scaled():
    alexnet, lenet = build("small-alexnet", CIFAR, width=0.25), build("lenet", CIFAR, width=2)
    assert [alexnet.conv1.out_channels, alexnet.conv3.out_channels, alexnet.full5.out_features] == [16, 64, 512]
    assert [lenet.conv1.out_channels, lenet.full3.in_features, lenet.full4.out_features] == [40, 6400, 1000]
    assert build("lenet", CIFAR, width=0.001).conv1.out_channels == 1
    assert [alexnet.norm1.num_groups, alexnet.norm4.num_groups] == [16, 1]


def test_responses_are_normalised_by_their_neighbours():
    layer = build("lenet", CIFAR, lrn=True).lrn1
    x = 100 * torch.rand(2, 20, 3, 3).double()
    around = x[:, 8:12].square().mean(1)  # of filter 10: two before it, itself and one after it
    torch.testing.assert_close(layer(x)[:, 10], x[:, 10] / (1 + 0.001 / 9 * around) ** 0.75)


def test_initial_weights_of_the_perceptron():
    torch.manual_seed(0)
    plain = nn.Linear(16, 8)
    torch.manual_seed(0)
    kaiming = mlp((16,), 3, hidden=8, init="kaiming")[1]
    torch.manual_seed(0)
    xavier = mlp((16,), 3, hidden=8)[1]
    assert torch.equal(kaiming.weight, plain.weight) and torch.equal(kaiming.bias, plain.bias)
    assert not torch.equal(xavier.weight, plain.weight) and not xavier.bias.any()
    assert mlp((1, 28, 28), 10, init="kaiming", bias=False)[1].weight.abs().max() <= 1 / 28
    assert xavier.weight.abs().max() > 1 / 4  # the bound of the other


@pytest.mark.parametrize("name", NARROW)
def test_initial_weights_keep_the_signal(name):
    """A network without normalisation answers neither nothing nor without bound."""
    options = {"norm": "none", "dropout": False} if name == "small-alexnet" else {}
    torch.manual_seed(0)
    logits = build(name, CIFAR, **options)(torch.rand(64, 3, 32, 32))
    assert 0.05 < logits.std(0).mean() < 5


def test_a_stem_of_stride_two_halves_the_image():
    x = torch.rand(2, 3, 84, 84)
    for stride, side in ((1, 84), (2, 42)):
        model = slim_resnet18((3, 84, 84), 5, filters=4, stem_stride=stride)
        assert model.stem(x).shape == (2, 4, side, side)
        assert model(x).shape == (2, 5)


@pytest.mark.parametrize("name", NARROW)
def test_they_learn(name):
    stream = pictures(TIL, tasks=1, train=40, test=40)
    settings = {f"model.{option}": value for option, value in NARROW[name].items()}
    if name == "small-alexnet":
        settings["model.dropout"] = False
    strategy = load_strategy("finetune")(model=name, epochs=8, lr=0.05, **settings)
    assert run_seed(strategy, stream, 0)[0].correct[1][0] >= 36


def test_memories_go_through_dropout():
    """The gradients of all memories are taken in one pass, each with units of its own dropped."""
    gem = started("gem", pictures(TIL), model="small-alexnet", **{"model.width": 0.1})
    learn(gem, pictures(TIL), 2)
    assert gem.tasks_begun == 2
