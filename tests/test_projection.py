"""Gradient projection: exact subspaces, outputs that stand still, and CUBER against a literal restatement."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from carryover.base.errors import UsageError
from carryover.strategies import Context, check_strategy, gpm
from carryover.strategies.backbones import build
from carryover.strategies.check import blob_stream
from carryover.strategies.cuber import CUBER
from carryover.strategies.flops import FlopCount
from carryover.strategies.parts import rotated as rotated_part
from carryover.strategies.parts.rotated import Rotated, rotated, rotated_layers, turned_ahead
from carryover.strategies.parts.subspaces import Inputs, Subspaces
from carryover.strategies.parts.survey import survey
from carryover.streams import from_arrays, permuted
from carryover.streams.core import CIL, DIL, TIL, Data, LabelledTest
from carryover.tests.toys import info, learn, parameters, started
from torch import Tensor, nn
from torch.func import functional_call

THRESHOLDS = (0.5, 0.9, 0.95, 0.999, 1.0)


def inputs(d: int = 12, rank: int = 5, n: int = 40, seed: int = 0) -> Tensor:
    """[n, d] float64 of low rank, with unequal energies."""
    draw = torch.Generator().manual_seed(seed)
    scales = torch.tensor([3.0**-k for k in range(rank)], dtype=torch.float64)
    return (
        torch.randn(n, rank, generator=draw, dtype=torch.float64)
        * scales
        @ torch.randn(rank, d, generator=draw, dtype=torch.float64)
    )


def energy(X: Tensor, B: Tensor) -> float:
    """Share of the energy of inputs [n, d] in the span of orthonormal columns [d, r]."""
    return float((X @ B).square().sum() / X.square().sum())


def taken(X: Tensor) -> Inputs:
    """Inputs [n, d], kept as they are or by their Gram matrix."""
    seen = Inputs(X.shape[1])
    for part in X.split(7):
        seen.add(part)
    assert (seen.gram is None) == (len(X) <= X.shape[1])
    return seen


def grown(*tasks: Tensor, threshold: float = 0.9, **options) -> Subspaces:
    pool = Subspaces(tasks[0].shape[1])
    for X in tasks:
        pool.grow(taken(X), threshold, **options)
    return pool


# -- subspaces ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [40, 10], ids=["many", "few"])
@pytest.mark.parametrize("choose", [False, True])
@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_a_pool_is_orthonormal_and_spans_what_it_must_and_no_more(threshold, choose, count):
    tasks = [inputs(seed=s, n=count) for s in range(4)]
    pool = Subspaces(12)
    for t, X in enumerate(tasks):
        before = pool.basis.shape[1]
        new = pool.grow(taken(X), threshold, choose=choose)
        O = pool.basis
        assert (O.T @ O - torch.eye(O.shape[1])).abs().max() < 1e-10
        assert O.shape[1] == before + new <= 12
        B = O[:, pool.columns(t)]
        assert energy(X, B) >= threshold - 1e-9
        if choose or new:  # without the weakest of the columns that it chose, it would be too few
            weakest = (X @ B).square().sum(0).argmin() if choose else B.shape[1] - 1
            assert energy(X, B[:, torch.arange(B.shape[1]) != weakest]) < threshold
        Q = pool.completed()
        assert (Q.T @ Q - torch.eye(12)).abs().max() < 1e-10
        assert torch.equal(Q[:, : O.shape[1]], O)


@pytest.mark.parametrize("count", [40, 10], ids=["many", "few"])
@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_gram_matrices_give_the_subspaces_of_singular_vectors(threshold, count):
    X, Y = inputs(seed=1, n=count), inputs(seed=2, n=count)
    pool = grown(X, threshold=threshold)
    U, s, _ = torch.linalg.svd(X.T, full_matrices=False)
    count = int((s.square().cumsum(0) < (threshold - 1e-12) * s.square().sum()).sum()) + 1
    assert pool.basis.shape[1] == count
    angles = torch.linalg.svdvals(U[:, :count].T @ pool.basis)
    assert (1 - angles).max() < 1e-12  # of principal angles the cosines
    # the second task by the published procedure: singular vectors of what the pool leaves over
    O = U[:, :count]
    residual = Y.T - O @ (O.T @ Y.T)
    V, s, _ = torch.linalg.svd(residual, full_matrices=False)
    inside, whole = (O.T @ Y.T).square().sum(), Y.square().sum()
    more = int((inside + s.square().cumsum(0) < (threshold - 1e-12) * whole).sum()) + 1
    more = 0 if inside >= (threshold - 1e-12) * whole else more
    assert pool.grow(taken(Y), threshold) == more
    expected = torch.cat([O, V[:, :more]], 1)
    assert (1 - torch.linalg.svdvals(expected.T @ pool.basis)).abs().max() < 1e-10


def test_the_published_code_stops_short():
    X, Y = inputs(seed=1), inputs(seed=2)
    whole, short = grown(X, Y), grown(X, Y, short=True)
    first = grown(X), grown(X, short=True)
    assert first[0].basis.shape[1] - first[1].basis.shape[1] == 1
    assert energy(X, first[1].basis) < 0.9
    assert whole.basis.shape[1] >= short.basis.shape[1]
    long, left_out = grown(X, Y, choose=True), Subspaces(12)
    left_out.basis, left_out.masks = (t.clone() for t in vars(grown(X, choose=True)).values())
    new = left_out.grow(taken(Y), 0.9, choose=True, short=True)
    assert new == long.basis.shape[1] - grown(X, choose=True).basis.shape[1] - 1
    strongest = long.basis[:, grown(X, choose=True).basis.shape[1]]
    assert (left_out.basis.T @ strongest).abs().max() < 1e-10


def test_subspaces_are_joined_and_not_added_up():
    pool = grown(inputs(seed=1), inputs(seed=1) + 0.01 * inputs(seed=5), choose=True, threshold=0.95)
    shared = pool.masks[0] & pool.masks[1]
    assert shared.any()
    G = torch.randn(3, 12, dtype=torch.float64)
    held = pool.project(G)
    assert (held @ pool.basis).abs().max() < 1e-12
    assert torch.allclose(pool.project(held), held, atol=1e-12)  # idempotent
    P = pool.project(torch.eye(12, dtype=torch.float64))
    assert torch.allclose(P, P.T, atol=1e-12)  # symmetric
    parts = [pool.basis[:, pool.columns(j)] for j in range(2)]
    added = G - sum(G @ B @ B.T for B in parts)
    assert (added @ pool.basis).abs().max() > 0.01  # what both own is taken away twice


def test_the_smaller_of_pool_and_complement_is_taken_and_says_the_same():
    G = torch.randn(3, 12, dtype=torch.float64)
    for count in range(13):
        pool = Subspaces(12)
        pool.basis = torch.linalg.qr(torch.randn(12, 12, dtype=torch.float64)).Q[:, :count]
        literal = G - G @ pool.basis @ pool.basis.T
        assert torch.allclose(pool.project(G), literal, atol=1e-12)


def test_gram_matrices_of_wide_layers_are_put_together_of_blocks():
    X = inputs(d=300, rank=40, n=350)
    seen = taken(X)
    assert torch.allclose(seen.gram, X.T @ X, rtol=1e-9) and seen.energy == pytest.approx(float(X.square().sum()))


def test_weak_directions_are_orthonormal_too():
    """The eigenvectors that a few inputs have in common with their own products lose digits with their energy."""
    draw = torch.Generator().manual_seed(0)
    U = torch.linalg.qr(torch.randn(12, 6, generator=draw, dtype=torch.float64)).Q
    X = torch.randn(9, 6, generator=draw, dtype=torch.float64) * 10.0 ** -torch.arange(6) @ U.T
    pool = grown(X, threshold=1.0)
    assert (pool.basis.T @ pool.basis - torch.eye(6)).abs().max() < 1e-10


# -- layers in coordinates ------------------------------------------------------------------------------------------

LAYERS = {
    "linear": (lambda: nn.Linear(6, 4, bias=False), (5, 6)),
    "biased": (lambda: nn.Linear(6, 4), (5, 6)),
    "many rows": (lambda: nn.Linear(6, 4), (3, 7, 6)),
    "convolution": (lambda: nn.Conv2d(2, 4, 3, bias=False), (5, 2, 7, 6)),
    "strided, padded": (lambda: nn.Conv2d(2, 4, (3, 2), stride=(2, 1), padding=1), (5, 2, 7, 6)),
    "dilated, grouped": (lambda: nn.Conv2d(4, 6, 2, dilation=2, groups=2), (5, 4, 7, 6)),
}
each_layer = pytest.mark.parametrize(("make", "shape"), LAYERS.values(), ids=list(LAYERS))


def turned(make, shape, picks=()):
    """A layer in float64, the same in coordinates of a random basis, the basis, and an input."""
    torch.manual_seed(0)
    layer = Rotated(make().double())
    plain = Rotated(make().double())
    plain.layer.load_state_dict(layer.layer.state_dict())
    basis = torch.linalg.qr(torch.randn(layer.width, layer.width, dtype=torch.float64)).Q
    layer.turn(basis, [torch.tensor(pick) for pick in picks])
    return layer, plain, basis, torch.randn(shape, dtype=torch.float64)


@each_layer
def test_in_coordinates_a_layer_is_the_same_function(make, shape):
    layer, plain, _, x = turned(make, shape, picks=([0, 2], [2, 3, 1]))
    assert torch.allclose(layer(x), plain(x), atol=1e-12)
    layer.turn_back()
    assert torch.equal(layer.weight, plain.weight)  # nothing was learnt, and nothing is rounded
    assert list(layer.state_dict()) == list(plain.state_dict())


@each_layer
def test_vectors_are_what_the_weight_is_multiplied_with(make, shape):
    layer, plain, _, x = turned(make, shape)
    vectors, groups = plain.vectors(x), getattr(plain.layer, "groups", 1)
    bias = plain.layer.bias if plain.layer.bias is not None else 0
    y = plain(x).movedim(1, -1) if x.ndim == 4 else plain(x)
    rows = plain.weight.flatten(1).chunk(groups)
    found = torch.cat(
        [v @ w.T for v, w in zip(vectors.unflatten(0, (len(x), groups, -1)).unbind(1), rows, strict=True)], -1
    )
    assert torch.allclose(found.reshape(y.shape) + bias, y, atol=1e-12)


@each_layer
def test_held_columns_leave_outputs_along_them_alone(make, shape):
    """Whatever the free columns become, and on both ways through a linear layer."""
    layer, plain, basis, x = turned(make, shape)
    pool = Subspaces(layer.width)
    vectors = layer.vectors(x[:1])[:3]
    pool.grow(taken(vectors), 1.0)
    layer.turn_back()
    layer.turn(pool.completed())
    R = pool.basis.shape[1]
    with torch.no_grad():
        layer.coordinates[:, R:] += torch.randn_like(layer.coordinates[:, R:])
    layer.turn_back()
    change = (layer.weight - plain.weight).flatten(1)
    assert change.abs().max() > 0.1
    assert (change @ vectors.T).abs().max() < 1e-12


@each_layer
def test_a_mask_in_coordinates_is_the_projection_of_the_gradient(make, shape):
    layer, plain, _, x = turned(make, shape)
    pool = Subspaces(layer.width)
    pool.grow(taken(layer.vectors(x[:1])[:2]), 1.0)
    layer.turn_back()
    layer.turn(pool.completed())
    layer(x).square().sum().backward()
    plain(x).square().sum().backward()
    g = layer.coordinates.grad.clone()
    g[:, : pool.basis.shape[1]] = 0
    expected = pool.project(plain.weight.grad.flatten(1))
    assert 0 < pool.basis.shape[1] < layer.width and expected.abs().max() > 0.01
    assert torch.allclose(g @ pool.completed().T, expected, atol=1e-10)


@each_layer
def test_scalings_are_the_scaled_weight_projection(make, shape):
    """y = W~ x with W~ = W + sum_j W B_j (Q_j - I) B_j', and both gradients, by hand and by autograd."""
    picks = ([0, 2], [2, 3, 1])
    layer, plain, U, x = turned(make, shape, picks)
    with torch.no_grad():
        for D in layer.scalings:
            D.normal_()
    Bs, Ds = [U[:, pick] for pick in picks], [D.detach() for D in layer.scalings]
    W = plain.weight.detach().flatten(1)
    A = torch.eye(layer.width) + sum(B @ D @ B.T for B, D in zip(Bs, Ds, strict=True))
    plain.weight.data = (W @ A).view_as(plain.weight)
    torch.manual_seed(1)
    seed = torch.randn_like(plain(x))
    assert torch.allclose(layer(x), plain(x), atol=1e-10)
    (layer(x) * seed).sum().backward()
    (plain(x) * seed).sum().backward()
    G = plain.weight.grad.flatten(1)  # at W~
    assert torch.allclose(layer.coordinates.grad, G @ A.T @ U, atol=1e-10)
    for B, D in zip(Bs, layer.scalings, strict=True):
        assert torch.allclose(D.grad, B.T @ W.T @ G @ B, atol=1e-10)


def test_a_network_in_coordinates_is_the_same_network():
    shape = (3, 8, 8)
    for name, options in (("mlp", {}), ("slim-resnet18", {"filters": 4})):
        torch.manual_seed(0)
        network = build(name, info(shape=shape), **options)
        torch.manual_seed(0)
        other = rotated(build(name, info(shape=shape), **options))
        x = torch.randn(2, *shape)
        assert torch.equal(network(x), other(x))
        kinds = (nn.Linear, nn.Conv2d)
        assert len(rotated_layers(other)) == sum(isinstance(module, kinds) for module in network.modules())


@pytest.mark.parametrize("batch", [3, 30])
def test_a_layer_with_inputs_turned_ahead_turns_those_of_evaluation(batch):
    network = rotated(nn.Sequential(nn.Flatten(), nn.Linear(12, 7), nn.ReLU(), nn.Linear(7, 2)))
    data = Data(torch.randint(256, (batch, 3, 2, 2), dtype=torch.uint8), torch.zeros(batch).long())
    with torch.no_grad():
        plain = network(data.prepare(data.samples))
        network[1].turn(torch.linalg.qr(torch.randn(12, 12, dtype=torch.float64)).Q)
        ahead = turned_ahead(network, data, Context(0).meter)
        assert ahead.samples.shape == (batch, 12) and network[1].ahead
        assert torch.allclose(network.train()(ahead.prepare(ahead.samples)), plain, atol=1e-5)
        assert torch.allclose(network.eval()(data.prepare(data.samples)), plain, atol=1e-5)


def test_convolutions_that_are_not_understood_are_refused():
    with pytest.raises(UsageError, match="zeros for padding"):
        rotated(nn.Sequential(nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular")))


# -- the strategies -------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Double:
    """Inputs in float64, so that what should stand still can be seen to."""

    def __call__(self, x: Tensor) -> Tensor:
        return x.double()


def doubles(setting, shape=(3, 8, 8), tasks=3, train=12):
    """A stream in float64 of few images, so that a threshold of 1 leaves room."""
    stream = blob_stream(setting, tasks=tasks, train=train)
    draw = torch.Generator().manual_seed(3)
    parts = []
    for task in stream.tasks:
        x = torch.randn(len(task.train), *shape, generator=draw)
        parts.append(dataclasses.replace(task, train=Data(x, task.train.targets, Double())))
    tests = [LabelledTest(task.train) for task in parts]
    return dataclasses.replace(stream, tasks=parts, tests=tests)


def one_head(stream):
    """The same two classes in every task."""
    tasks = [
        dataclasses.replace(t, classes=(0, 1), train=dataclasses.replace(t.train, targets=t.train.targets % 2))
        for t in stream.tasks
    ]
    return dataclasses.replace(stream, tasks=tasks, classes=2)


def in_double(name, stream, **settings):
    strategy = started(name, stream, **settings)
    strategy.model.double()
    return strategy


NETWORKS = {
    "mlp": {"model": "mlp", "model.hidden": [50, 40], "model.bias": False},
    "mlp with biases": {"model": "mlp", "model.hidden": [50, 40]},
    "residual": {"model": "slim-resnet18", "model.filters": 10},
}


@pytest.mark.parametrize("network", NETWORKS.values(), ids=list(NETWORKS))
@pytest.mark.parametrize(
    ("setting", "optimizer"),
    [(TIL, "sgd"), (DIL, "sgd"), (DIL, "adam")],
    ids=["own rows", "shared head", "shared head, Adam"],
)
def test_gpm_leaves_the_outputs_of_old_tasks_alone(setting, network, optimizer):
    """With a threshold of 1, on the stored inputs: linear layers, convolutions of any stride, shortcuts, norms."""
    stream = doubles(setting, tasks=3, train=4)
    momentum = {"momentum": 0.9} if optimizer == "sgd" else {}
    strategy = in_double("gpm", stream, threshold=1.0, lr=0.01, epochs=4, optimizer=optimizer, **momentum, **network)
    kept, moved = [], 0.0
    for t, task in enumerate(stream.tasks):
        before = torch.cat([layer.weight.detach().flatten() for layer in strategy.layers.values()])
        learn(strategy, stream, t + 1, t)
        after = torch.cat([layer.weight.detach().flatten() for layer in strategy.layers.values()])
        moved = float((after - before).abs().max())
        x = task.train.prepare(task.train.samples)
        rows = list(task.classes)
        with torch.no_grad():
            kept.append((x, rows, strategy.model(x)[:, rows].clone()))
            for x, rows, y in kept:
                assert (strategy.model(x)[:, rows] - y).abs().max() < 1e-10
        assert moved > 1e-4, "it did not learn"


def test_without_protection_they_would_not_stand_still():
    """The same with a threshold at which nothing is held: what the test above would notice."""
    stream = doubles(DIL, tasks=2)
    strategy = in_double("gpm", stream, threshold=0.0, lr=0.01, epochs=4, **NETWORKS["mlp"])
    x = stream.tasks[0].train.prepare(stream.tasks[0].train.samples)
    learn(strategy, stream, 1)
    y = strategy.model(x).clone()
    learn(strategy, stream, 2, 1)
    assert (strategy.model(x) - y).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["trgp", "cuber"])
def test_scaled_tasks_stand_still_too(name):
    """With their own scalings, whose effective inputs the bases span; regime 3 is left out, which may change them."""
    stream = one_head(doubles(TIL, shape=(20,), tasks=4, train=4))
    settings = {"epsilon2": 1.0} if name == "cuber" else {}
    strategy = in_double(
        name, stream, threshold=1.0, epsilon1=0.0, lr=0.05, epochs=6, batch_size=4, **settings, **NETWORKS["mlp"]
    )
    kept = []
    for t, task in enumerate(stream.tasks):
        learn(strategy, stream, t + 1, t)
        x = task.train.prepare(task.train.samples)
        kept.append((t, x, outputs(strategy, t, x)))
        for j, x, y in kept:
            assert (outputs(strategy, j, x) - y).abs().max() < 1e-10
    assert any(pairs for own in strategy.scalings for pairs in own.values())
    assert all(float(D.abs().max()) > 1e-4 for own in strategy.scalings for pairs in own.values() for _, D in pairs)


@pytest.mark.parametrize("network", [NETWORKS["mlp"], NETWORKS["residual"]], ids=["mlp", "residual"])
def test_a_scaled_task_is_looked_at_with_its_scalings(network):
    """What is protected is A x, which the weight is multiplied with; gradients are of the weight, through W A."""
    stream = doubles(TIL, tasks=3, train=6)
    trgp = learn(in_double("trgp", stream, threshold=0.8, epsilon1=0.0, lr=0.05, epochs=4, **network), stream)
    task, own, leaves, used, seen = stream.tasks[2], trgp.scalings[2], {}, {}, {}
    found = trgp.look(task, 0, trgp.objective.loss)
    assert any((D - D.T).abs().max() > 1e-4 for pairs in own.values() for _, D in pairs)
    for name in trgp.guarded:
        W = leaves[name] = trgp.layers[name].weight.detach().clone().requires_grad_()
        Bs = [trgp.subspaces[name].basis[:, trgp.subspaces[name].columns(j)] for j, _ in own[name]]
        scaled = [W.flatten(1) @ B @ D @ B.T for B, (_, D) in zip(Bs, own[name], strict=True)]
        used[f"{name}.layer.weight"] = W + sum(scaled).view_as(W)
        A = torch.eye(len(Bs[0])) + sum(B @ D @ B.T for B, (_, D) in zip(Bs, own[name], strict=True))
        trgp.layers[name].register_forward_pre_hook(
            lambda layer, args, name=name, A=A: seen.update({name: layer.vectors(args[0].detach()) @ A.T})
        )
    x, y = task.train.prepare(task.train.samples), task.train.targets
    trgp.objective.loss(functional_call(trgp.model, used, (x,)), y).backward()
    for name, W in leaves.items():
        X = found.inputs[name]
        gram = X.rows.T @ X.rows if X.gram is None else X.gram
        assert torch.allclose(gram, seen[name].T @ seen[name], atol=1e-9)
        assert torch.allclose(found.gradients[name], W.grad.flatten(1), atol=1e-10)


def test_the_published_code_looks_at_plain_inputs_and_scales_where_the_first_layer_does():
    stream = one_head(blob_stream(TIL, tasks=3))
    trgp = learn(started("trgp", stream, threshold=0.9, epsilon1=0.0, parity=True), stream)
    assert trgp.scalings[2]["1"]
    found = trgp.look(stream.tasks[2], 0).inputs["1"].gram
    X = stream.tasks[2].train.prepare(stream.tasks[2].train.samples).flatten(1)
    assert torch.allclose(found, (X.T @ X).double(), rtol=1e-4)
    for first, parity, layers in ((0.1, True, []), (0.9, True, ["1", "3", "5"]), (0.1, False, ["3", "5"])):
        trgp = learn(started("trgp", stream, parity=parity), stream, 1)
        trgp.shares = lambda name, G, first=first: torch.tensor([first if name == "1" else 0.9])
        learn(trgp, stream, 2, 1)
        assert list(trgp.scalings[1]) == layers


def test_related_tasks_are_found_by_as_many_samples_as_asked_for():
    stream = one_head(blob_stream(TIL, tasks=2))
    for samples, drawn in ((7, 7), (0, 25)):
        trgp = learn(started("trgp", stream, regime_samples=samples), stream)
        assert trgp.context.meter.samples == 2 * (25 + 25) + drawn


def test_each_task_is_answered_with_its_own_scalings():
    stream = one_head(blob_stream(TIL, tasks=3))
    trgp = learn(started("trgp", stream, threshold=0.9, epsilon1=0.0, epochs=5), stream)
    x = 5 * torch.randn(300, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    answers = [trgp.predict(x, stream.query(j, 3)) for j in range(3)]
    for j, answer in enumerate(answers):
        assert torch.equal(answer, outputs(trgp, j, x).argmax(1))
    assert not torch.equal(answers[1], answers[2]) and not torch.equal(answers[0], answers[1])
    with torch.no_grad():
        assert torch.equal(answers[0], trgp.model(x).argmax(1))  # the first task scales nothing


@pytest.mark.parametrize("parity", [False, True])
def test_scaled_weights_are_made_anew_after_each_task(parity):
    stream = one_head(blob_stream(TIL, tasks=3))
    cuber = started("cuber", stream, threshold=0.5, epsilon1=0.0, demotion="never", parity=parity)
    learn(cuber, stream, 2)
    x = stream.tasks[1].train.prepare(stream.tasks[1].train.samples)
    before = outputs(cuber, 1, x)
    learn(cuber, stream, 3, 2)
    after = outputs(cuber, 1, x)
    cuber._ready = None
    assert torch.equal(outputs(cuber, 1, x), after) and not torch.equal(after, before)


def outputs(strategy, task: int, x: Tensor) -> Tensor:
    with torch.no_grad():
        return functional_call(strategy.model, strategy.weights(task), (x,)).clone()


def test_survey_sums_products_of_inputs_and_means_gradients():
    stream = doubles(DIL, shape=(3, 6, 6), train=10)
    strategy = in_double("gpm", stream, model="slim-resnet18", **{"model.filters": 4})
    strategy.objective.reveal(stream.tasks[0])
    data, layers = stream.tasks[0].train, strategy.layers
    found = survey(strategy.model, layers, data, Context(0), loss=strategy.objective.loss, batch_size=3)
    seen = {}
    hooks = [
        layer.register_forward_pre_hook(lambda m, args, name=name: seen.update({name: args[0]}))
        for name, layer in layers.items()
    ]
    strategy.objective.loss(strategy.model(data.prepare(data.samples)), data.targets).backward()
    for hook in hooks:
        hook.remove()
    for name, layer in layers.items():
        X = layer.vectors(seen[name].detach())
        own = found.inputs[name]
        assert torch.allclose(own.rows.T @ own.rows if own.gram is None else own.gram, X.T @ X, atol=1e-9)
        assert torch.allclose(found.gradients[name], layer.weight.grad.flatten(1), atol=1e-12)
    some, others = (survey(strategy.model, layers, data, Context(seed), samples=4) for seed in (0, 1))
    assert some.inputs["head"].energy < found.inputs["head"].energy and not some.gradients
    assert some.inputs["head"].energy != others.inputs["head"].energy  # they are drawn


def test_a_survey_is_taken_in_evaluation_mode():
    network = rotated(nn.Sequential(nn.Dropout(0.5), nn.Linear(6, 4))).train()
    x = torch.randn(5, 6)
    found = survey(network, {"1": network[1]}, Data(x, torch.zeros(5).long()), Context(0))
    assert torch.equal(found.inputs["1"].rows, x.double()) and network.training


def test_gradients_of_a_task_are_of_as_many_samples_as_asked_for():
    stream = one_head(blob_stream(TIL, tasks=1))
    cuber = learn(started("cuber", stream, basis_samples=5, gradient_samples=0), stream)
    whole = cuber.look(stream.tasks[0], 0, cuber.objective.loss).gradients
    assert cuber.context.meter.samples == 25 + 5 + 2 * 25
    for name, kept in cuber.memories[0].items():
        assert torch.equal(kept, whole[name])


def test_thresholds_grow_from_task_to_task(monkeypatch):
    given, grow = [], Subspaces.grow
    monkeypatch.setattr(
        Subspaces, "grow", lambda pool, X, share, **how: given.append(share) or grow(pool, X, share, **how)
    )
    stream = blob_stream(TIL, tasks=3)
    learn(started("gpm", stream, threshold=[0.8, 0.9], threshold_growth=0.06), stream)
    assert given == pytest.approx([0.8, 0.9, 0.86, 0.96, 0.92, 1.0])


# -- what it costs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gpm", "trgp", "cuber"])
@pytest.mark.parametrize("batch_size", [4, 20, 32])
def test_inputs_turned_ahead_change_neither_result_nor_ledger(name, batch_size, monkeypatch):
    """With fewer samples in a batch than the layer has rows, as many or more."""
    stream = one_head(blob_stream(TIL, tasks=3, train=50))
    settings = {"epochs": 3, "batch_size": batch_size, "model.hidden": [20, 12]}
    settings |= {} if name == "gpm" else {"epsilon1": 0.0}
    ends, ahead = [], []

    def noted(*args):
        data = turned_ahead(*args)
        ahead.append(data.samples.ndim == 2)
        return data

    monkeypatch.setattr(gpm, "turned_ahead", noted)
    for most in (rotated_part.AHEAD, 0):
        monkeypatch.setattr(rotated_part, "AHEAD", most)
        ends.append(learn(started(name, stream, **settings), stream))
    assert ahead == [False, True, True] + [False] * 3
    assert torch.allclose(parameters(ends[0]), parameters(ends[1]), atol=1e-5)
    assert ends[0].context.meter.flops == ends[1].context.meter.flops
    assert ends[0].context.meter.samples == ends[1].context.meter.samples


def test_augmented_inputs_are_not_turned_ahead():
    stream = blob_stream(TIL, tasks=2)
    drawn = []

    def augment(x, generator):
        assert x.ndim == 4
        drawn.append(len(x))
        return x

    tasks = [dataclasses.replace(t, train=dataclasses.replace(t.train, augment=augment)) for t in stream.tasks]
    stream = dataclasses.replace(stream, tasks=tasks)
    learn(started("gpm", stream, epochs=3), stream)
    assert sum(drawn) == 2 * 3 * 25  # every pass of both tasks; none for the bases


@pytest.mark.parametrize(
    "seen",
    [{}, {"loss": F.cross_entropy}, {"loss": F.cross_entropy, "inputs": False}],
    ids=["inputs", "both", "gradients"],
)
def test_the_ledger_has_every_product_of_a_survey(seen):
    """Inputs are kept as they are at first, then their Gram matrix is grown; and two surveys differ in cost."""
    stream = blob_stream(TIL, tasks=1, train=100)
    strategy = started("gpm", stream, **{"model.hidden": [30, 20]})
    data, context = stream.tasks[0].train, strategy.context
    for options in ({}, seen):
        before = context.meter.flops["train"]
        with FlopCount() as count:
            survey(strategy.model, strategy.layers, data, context, batch_size=9, **options)
        assert context.meter.flops["train"] - before == count.total > 0


def test_under_autocast_scalings_work_and_bases_are_exact():
    layer, _, _, x = turned(*LAYERS["many rows"], picks=([0, 2], [2, 3, 1]))
    few, rows = layer.float(), torch.randn(50, 6)
    few.turning = few.turning.float()
    with torch.autocast("cpu", torch.bfloat16):
        assert few(x.float()).dtype == few(x.float()[:1, :1]).dtype == torch.bfloat16
    network = rotated(nn.Sequential(nn.Linear(6, 4)))

    def half(x):
        with torch.autocast("cpu", torch.bfloat16):
            return network(x)

    wrapped = nn.Module()
    wrapped.network, wrapped.forward = network, half
    found = survey(wrapped, {"network.0": network[0]}, Data(rows, torch.zeros(50).long()), Context(0))
    assert torch.allclose(found.inputs["network.0"].gram, (rows.T @ rows).double(), rtol=1e-5)


# -- CUBER, by hand -------------------------------------------------------------------------------------------------


def sorted_by(G, gamma, B_columns, **settings):
    """The regimes of one layer of width 6 for a gradient [2, 6], old gradients, and old subspaces (axes)."""
    cuber = started("cuber", info(TIL, shape=(6,)), **{"model.hidden": [2]} | settings)
    cuber.guarded, name = ["1"], "1"
    pool = cuber.subspaces[name]
    pool.basis = torch.eye(6, dtype=torch.float64)[:, :5]
    pool.masks = torch.tensor([[c in columns for c in range(5)] for columns in B_columns])
    cuber.memories = [{name: torch.as_tensor(g, dtype=torch.float32)} for g in gamma]
    cuber.gradients_now = lambda task: {name: torch.as_tensor(G, dtype=torch.float32)}
    cuber.context.task = 1
    selected = cuber.select(None)[name]
    return selected, cuber.freed[name]


def test_regimes_by_hand():
    G = torch.zeros(2, 6)
    G[0, 0], G[1, 1] = 3.0, 4.0
    assert sorted_by(G, [G], [[2, 3]]) == ([], [])  # orthogonal: regime 1
    assert sorted_by(G, [-G], [[0, 1]]) == ([0], [])  # inside, against: regime 2
    assert sorted_by(G, [G], [[0, 1]]) == ([0], [0])  # inside, along: regime 3
    assert sorted_by(G, [G], [[0]], epsilon1=0.6) == ([0], [0])  # exactly 3/5 of the norm
    assert sorted_by(G, [G], [[0]], epsilon1=0.61) == ([], [])
    H = G.clone()
    H[1, 1] = -4.0  # cosine (9 - 16) / 25
    assert sorted_by(G, [H], [[0, 1]], epsilon2=0.0) == ([0], [])
    H[1, 1] = 0.0  # cosine 3/5
    assert sorted_by(G, [H], [[0, 1]], epsilon2=0.59) == ([0], [0])
    assert sorted_by(G, [H], [[0, 1]], epsilon2=0.61) == ([0], [])


def test_at_most_two_tasks_and_those_with_the_largest_share():
    G = torch.zeros(2, 6)
    G[0] = torch.tensor([1.0, 2.0, 3.0, 0.0, 0.0, 0.0])
    old = [[0, 2], [1, 2], [0, 1, 2], [3]]
    assert sorted_by(G, [G, G, -G, G], old) == ([2, 1], [1])
    assert sorted_by(G, [G, G, -G, G], old, most=1) == ([2], [])
    assert sorted_by(G, [G, G, -G, G], old, most=3) == ([2, 1, 0], [1, 0])
    assert sorted_by(G, [G, 2 * G, -G, G], old, rank_by="correlation", most=2)[0] == [0, 1]


class Literal:
    """CUBER's training of one task on a bias-free MLP as the paper writes it: float64, autograd through W~, projections
    multiplied out. No coordinates, no masks over columns, no activations scaled."""

    def __init__(self, cuber: CUBER, strength: float, squared: bool, how: str) -> None:
        self.names, self.strength, self.squared, self.how = cuber.guarded, strength, squared, how
        self.W = {n: cuber.layers[n].weight.detach().clone().requires_grad_() for n in self.names}
        self.before = {n: w.detach().clone() for n, w in self.W.items()}
        self.B, self.Q, self.gamma, self.regime3, self.others = {}, {}, {}, {}, {}
        for n in self.names:
            pool, chosen = cuber.subspaces[n], cuber.selected[n]
            bases = [pool.basis[:, pool.columns(j)] for j in range(len(pool.masks))]
            self.B[n] = {j: bases[j] for j in chosen}
            self.Q[n] = {j: torch.eye(bases[j].shape[1], dtype=torch.float64).requires_grad_() for j in chosen}
            self.gamma[n] = {j: cuber.memories[j][n].double() for j in cuber.freed[n]}
            self.regime3[n] = {j: True for j in cuber.freed[n]}
            self.others[n] = [bases[j] for j in range(len(bases)) if j not in cuber.freed[n]]
        self.demoted: list[tuple[int, str, int]] = []

    def step(self, number: int, x: Tensor, y: Tensor, lr: float) -> None:
        h = x
        for i, n in enumerate(self.names):
            W = self.W[n]
            scaled = W + sum(W @ B @ (self.Q[n][j] - torch.eye(B.shape[1])) @ B.T for j, B in self.B[n].items())
            h = F.linear(F.relu(h) if i else h, scaled)
        leaves = [*self.W.values(), *(Q for n in self.names for Q in self.Q[n].values())]
        grads = dict(zip(map(id, leaves), torch.autograd.grad(F.cross_entropy(h, y), leaves), strict=True))
        with torch.no_grad():
            for n in self.names:
                g = grads[id(self.W[n])]
                for j, gamma in self.gamma[n].items():
                    if self.how == "batch" and self.regime3[n][j] and (gamma * g).sum() < 0:
                        self.regime3[n][j] = False
                        self.demoted.append((number, n, j))
                now = [j for j, free in self.regime3[n].items() if free]
                for j in now:
                    D = (self.W[n] - self.before[n]) @ self.B[n][j] @ self.B[n][j].T
                    size = D.norm()
                    if self.squared:
                        g = g + 2 * self.strength * D
                    elif size > 0:
                        g = g + self.strength * D / size
                held = self.others[n] + [self.B[n][j] for j in self.regime3[n] if j not in now]
                if held:  # one orthonormal basis of all that is held together
                    U, s, _ = torch.linalg.svd(torch.cat(held, 1), full_matrices=False)
                    U = U[:, s > 1e-9]
                    g = g - g @ U @ U.T
                self.W[n] -= lr * g
                for Q in self.Q[n].values():
                    Q -= lr * grads[id(Q)]


@pytest.mark.parametrize(
    ("strength", "squared", "how"),
    [(0.0, False, "never"), (0.0, False, "batch"), (0.5, False, "batch"), (0.3, True, "never"), (0.7, False, "never")],
)
def test_cuber_is_the_literal_cuber(strength, squared, how):
    """Same weights and scalings after a task of 45 steps, same demotions at the same steps."""
    base = doubles(TIL, shape=(12,), tasks=4, train=60)
    tasks = []
    for task in base.tasks:  # one problem over and over, a little different each time, one head
        y = task.train.targets % 2
        x = base.tasks[0].train.samples + 0.3 * task.train.samples + 0.4 * (2 * y[:, None] - 1)
        tasks.append(dataclasses.replace(task, classes=(0, 1), train=Data(x, y, Double())))
    stream = dataclasses.replace(base, tasks=tasks, tests=base.tests, classes=2)
    settings = {"strength": strength, "squared": squared, "demotion": how, "epsilon1": 0.2, "threshold": 0.7}
    cuber = in_double(
        "cuber", stream, lr=0.02, epochs=5, batch_size=7,
        **settings, **{"model.hidden": [9, 8], "model.bias": False},
    )  # fmt: skip
    learn(cuber, stream, 3)
    literal, seen = None, []
    real = type(cuber).loss

    class Spy(type(cuber)):
        def loss(self, batch):
            seen.append((batch.x.clone(), batch.y.clone()))
            return real(self, batch)

        def adjust_gradients(self, batch):
            nonlocal literal
            if literal is None:
                literal = Literal(self, strength, squared, how)
            literal.step(self.step, *seen[-1], 0.02)
            super().adjust_gradients(batch)

        def end_task(self, task):
            seen.append({n: [D.detach().clone() for D in self.layers[n].scalings] for n in self.guarded})
            super().end_task(task)

    cuber.__class__ = Spy
    learn(cuber, stream, 4, 3)
    assert sum(map(len, cuber.freed.values())) >= 2 and sum(map(len, cuber.selected.values())) >= 3
    for n in cuber.guarded:
        assert torch.allclose(cuber.layers[n].weight, literal.W[n], atol=1e-9)
        assert (literal.W[n] - literal.before[n]).abs().max() > 1e-3
        for D, Q in zip(seen[-1][n], literal.Q[n].values(), strict=True):
            assert torch.allclose(D + torch.eye(len(D)), Q, atol=1e-9)
            assert D.abs().max() > 1e-4
        steps = {j: int(s) for j, s in zip(cuber.freed[n], cuber.verdicts[n]["step"], strict=True)}
        if how == "batch":
            assert {j: s for j, s in steps.items() if s >= 0} == {j: s for s, m, j in literal.demoted if m == n}
            told = cuber.context.diagnostics
            at = [told[f"demoted_at/{n}/{k}"][3] for k in range(1, int(told[f"demoted/{n}"][3]) + 1)]
            assert at == [s / 45 for s in steps.values() if s >= 0]
    if how == "batch":
        assert literal.demoted


def test_the_regulariser_is_zero_where_training_starts():
    cuber = started("cuber", info(TIL, shape=(6,)), strength=3.0)
    layer = cuber.layers["1"]
    layer.turn(torch.eye(6, dtype=torch.float64))
    columns = torch.ones(1, 6, dtype=torch.bool)
    assert not cuber.regulariser(layer, columns).any()
    with torch.no_grad():
        layer.coordinates[0, 0] += 2.0
    assert torch.allclose(cuber.regulariser(layer, columns).norm(), torch.tensor(3.0))  # unsquared: of constant length
    assert not cuber.regulariser(layer, ~columns).any()


def test_without_related_tasks_all_three_are_gpm():
    """Bases aside, which gpm chooses otherwise: with a threshold of 1 both hold all that was seen."""
    stream = doubles(TIL, shape=(20,), tasks=3, train=5)
    settings = {"threshold": 1.0, "lr": 0.1, "epochs": 5, "model.hidden": [30], "model.bias": False}
    ends = []
    for name, more in (("gpm", {}), ("trgp", {"most": 0}), ("cuber", {"most": 0})):
        strategy = learn(in_double(name, stream, **settings, **more), stream)
        ends.append(torch.cat([layer.weight.detach().flatten() for layer in strategy.layers.values()]))
    assert torch.allclose(ends[0], ends[1], atol=1e-9) and torch.allclose(ends[0], ends[2], atol=1e-9)


def verdict_of(cosines, **settings):
    """(still free, step of demotion) after judging a sequence of cosines."""
    cuber = started("cuber", info(TIL), **settings)
    verdict = {"free": torch.ones(1, dtype=torch.bool), "mean": torch.zeros(1), "step": torch.tensor([-1])}
    freed = []
    for number, cosine in enumerate(cosines):
        cuber.step = number
        freed.append(bool(cuber.judge(verdict, torch.tensor([cosine]))))
    return freed, int(verdict["step"])


def test_demotion_by_hand():
    noise = [0.5, 0.4, -0.1, 0.5, 0.5]
    assert verdict_of(noise, demotion="never") == ([True] * 5, -1)
    assert verdict_of(noise, demotion="batch") == ([True, True, False, False, False], 2)
    assert verdict_of(noise, demotion="step") == ([True, True, False, True, True], 2)
    assert verdict_of(noise, demotion="smoothed", grace=0) == ([True] * 5, -1)
    falling = [0.5, -0.1, -0.5, -0.5, 0.9]
    assert verdict_of(falling, demotion="smoothed", smoothing=0.5, grace=0)[1] == 2  # means .25, .075, -.2125
    assert verdict_of(falling, demotion="smoothed", smoothing=0.5, grace=3)[1] == 3
    # the mean is of what was seen, not of zeros before it
    assert verdict_of([0.5] * 3, demotion="smoothed", smoothing=0.99, grace=0, epsilon2=0.4)[1] == -1


# -- rules ----------------------------------------------------------------------------------------------------------

VARIANTS = [
    ("gpm", {"momentum": 0.9, "basis_samples": 7, "threshold_growth": 0.01}),
    ("gpm", {"model": "lenet", "model.width": 0.05, "optimizer": "adam", "lr": 0.01}),
    ("trgp", {"epsilon1": 0.0, "parity": True}),
    ("trgp", {"regime_head": "fitted", "epsilon1": 0.0}),
    ("trgp", {"model": "lenet", "model.width": 0.05, "epsilon1": 0.0}),
    ("cuber", {"epsilon1": 0.0, "demotion": "never", "strength": 0.1}),
    ("cuber", {"epsilon1": 0.0, "demotion": "step", "strength": 0.1, "squared": True, "gradient_samples": 5}),
    ("cuber", {"epsilon1": 0.0, "grace": 1, "smoothing": 0.5, "rank_by": "correlation"}),
]


@pytest.mark.parametrize(("name", "settings"), VARIANTS)
@pytest.mark.parametrize("shared", [False, True], ids=["own rows", "shared head"])
def test_the_rules_hold_off_the_defaults(name, settings, shared):
    stream = blob_stream(DIL if shared else TIL, tasks=3).with_setting(TIL)
    small = {} if "model" in settings else {"model.hidden": [12, 10]}
    assert check_strategy(name, [stream], **settings, **small) == ["til"]


def test_what_cannot_be_held_is_refused():
    for settings, says in (
        ({"weight_decay": 0.1}, "weight_decay"),
        ({"model": "slim-resnet18", "model.norm": "batch"}, "batch normalisation"),
        ({"threshold": [0.9] * 7}, "7 entries"),
    ):
        with pytest.raises(UsageError, match=says):
            started("gpm", info(shape=(3, 8, 8)), **settings)
    with pytest.raises(UsageError, match="task id at test"):
        started("cuber", info(DIL))
    assert started("gpm", info(DIL)).name == "gpm"
    short = {"threshold": [0.9, 0.9]}  # of three layers; the head is held, too, where all tasks share its rows
    stream = blob_stream(DIL, tasks=2)
    with pytest.raises(UsageError, match="no entry for the head.*give 3 entries"):
        learn(started("gpm", stream, **short), stream)
    stream = blob_stream(TIL, tasks=2)
    assert learn(started("gpm", stream, **short), stream).guarded == ["1", "3"]


@pytest.mark.parametrize("settings", [{}, {"parity": True}, {"regime_head": "fitted"}])
@pytest.mark.parametrize("name", ["gpm", "trgp", "cuber"])
def test_a_head_of_ones_own_rows_may_be_all_there_is(name, settings):
    """Then there is nothing to hold but those of earlier classes."""
    stream = blob_stream(TIL, tasks=2)
    settings = {key: value for key, value in settings.items() if name != "gpm" or key == "parity"}
    strategy = learn(started(name, stream, **settings, **{"model.hidden": []}), stream, 1)
    old = strategy.layers["1"].weight.clone()
    learn(strategy, stream, 2, 1)
    assert torch.equal(strategy.layers["1"].weight[:2], old[:2])
    assert not torch.equal(strategy.layers["1"].weight[2:], old[2:])


@pytest.mark.parametrize("settings", [{}, {"momentum": 0.9}, {"optimizer": "adam", "lr": 0.01}], ids=str)
def test_what_is_demoted_stands_still_whatever_the_optimizer(settings):
    seen = []

    class Demoting(CUBER):
        def cosines(self, name, G):
            return torch.ones(len(self.memories))

        def judge(self, verdict, cosines):
            return verdict["free"] & (self.step < 2)

        def after_step(self, batch):
            super().after_step(batch)
            if self.watched:
                columns = self.watched["1"].columns[0]
                parts = columns, ~columns & ~self.watched["1"].held
                seen.append([self.layers["1"].coordinates[:, part].detach().clone() for part in parts])

    stream = one_head(blob_stream(TIL, tasks=2, train=40))
    learn(started(Demoting, stream, epsilon1=0.0, **settings), stream)
    demoted, free = zip(*seen, strict=True)
    assert len(seen) == 4 and not torch.equal(demoted[0], demoted[1])
    assert torch.equal(demoted[1], demoted[2]) and torch.equal(demoted[1], demoted[3])
    assert not torch.equal(free[1], free[2]) and not torch.equal(free[2], free[3])


def test_rows_of_earlier_classes_stand_still_in_a_growing_head():
    stream = blob_stream(CIL, tasks=2)
    gpm = started("gpm", stream)
    learn(gpm, stream, 1)
    old = gpm.layers["5"].weight[:2].clone(), gpm.layers["5"].layer.bias[:2].clone()
    learn(gpm, stream, 2, 1)
    assert torch.equal(gpm.layers["5"].weight[:2], old[0]) and torch.equal(gpm.layers["5"].layer.bias[:2], old[1])
    assert "5" not in gpm.guarded


def test_the_pool_fills_up_and_the_record_tells():
    draw = torch.Generator().manual_seed(0)
    labelled = from_arrays(torch.randn(120, 6, 6, generator=draw)[:, None], torch.arange(120) % 3)
    stream = permuted(labelled, 3, name="noise", setting=TIL)
    gpm = learn(started("gpm", stream, threshold=[0.8, 0.9, 0.9]), stream)
    used = gpm.context.diagnostics["used/1"]
    assert 0 < used[0] < used[1] < used[2] <= 1
    assert used[2] == gpm.subspaces["1"].used


def test_a_fitted_head_points_where_the_labels_are():
    """New rows are random; solved for, the head alone already separates the classes."""
    stream = blob_stream(TIL, tasks=2, train=60, noise=0.3)
    trgp = learn(started("trgp", stream, regime_head="fitted"), stream, 1)
    task = stream.tasks[1]
    trgp.objective.reveal(task)
    fitted = trgp.fitted_head(task)
    x, y = task.train.prepare(task.train.samples), task.train.targets
    with torch.no_grad():
        before = trgp.objective.loss(trgp.model(x), y)
        after = trgp.objective.loss(functional_call(trgp.model, fitted, (x,)), y)
    assert after < 0.3 * before
    changed = (fitted["5.layer.weight"] != trgp.layers["5"].weight).any(1)
    assert changed.tolist() == [c in task.classes for c in range(stream.classes)]
