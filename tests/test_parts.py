"""The mathematics inside the strategies, each piece against a formula, a brute force or an independent routine."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from carryover.base.errors import UsageError
from carryover.base.seeds import torch_generator
from carryover.strategies.agem import project_one
from carryover.strategies.backbones.mlp import mlp
from carryover.strategies.backbones.resnet import slim_resnet18
from carryover.strategies.check import blob_stream
from carryover.strategies.context import Meter
from carryover.strategies.gem import project
from carryover.strategies.parts.distillation import distillation
from carryover.strategies.parts.fisher import fisher_diagonal
from carryover.strategies.parts.gradients import flat_gradient, grouped_gradients, set_gradient
from carryover.strategies.parts.memory import Archive, ReservoirMemory, RingMemory
from carryover.strategies.parts.objective import Classification
from carryover.strategies.parts.optimizers import SGD, trained
from carryover.strategies.parts.quadratic import solve_dual
from carryover.streams import batches as batching
from carryover.streams.batches import Batch, batches
from carryover.streams.core import CIL, DIL, ONLINE, TASK_FREE, TIL, Data, Query, Task
from carryover.tests.toys import info, learn, parameters, started
from scipy.optimize import nnls
from scipy.stats import chi2
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

DOUBLE = torch.float64


def problem(seed: int, t: int, P: int = 30, scale: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Reference gradients [t, P] and a gradient [P] that conflicts with some of them, float64."""
    draw = torch_generator("problem", seed, t)
    G = torch.randn(t, P, generator=draw, dtype=DOUBLE) * scale
    g = torch.randn(P, generator=draw, dtype=DOUBLE) * scale - G.mean(0)
    return G, g


# -- the quadratic program ------------------------------------------------------------------------------------------


def brute_force(K: np.ndarray, c: np.ndarray, lower: float) -> np.ndarray:
    """The best feasible point over all choices of which variables are free."""
    t, best, found = len(c), np.inf, None
    for free in itertools.product([False, True], repeat=t):
        free, v = np.array(free), np.full(t, lower)
        if free.any():
            v[free] = np.linalg.solve(K[np.ix_(free, free)], -(c + K @ np.where(free, 0, v))[free])
        value = v @ K @ v / 2 + c @ v
        if (v >= lower - 1e-12).all() and value < best:
            best, found = value, v
    return found


@pytest.mark.parametrize("lower", [0.0, 0.5])
@pytest.mark.parametrize("t", range(1, 7))
def test_quadratic_program_against_all_active_sets(t, lower):
    for seed in range(15):
        G, g = problem(seed, t)
        K, c = (G @ G.T).numpy() + 1e-6 * np.eye(t), (G @ g).numpy()
        assert np.allclose(solve_dual(K, c, lower), brute_force(K, c, lower), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("t", [2, 7, 13, 20])
@pytest.mark.parametrize("duplicates", [False, True])
def test_quadratic_program_against_nonnegative_least_squares(t, duplicates):
    """1/2 v'Kv + c'v is 1/2 |L'v + inv(L) c|^2 with K = LL'. Rows that nearly repeat make K nearly singular."""
    for seed in range(15):
        G, g = problem(seed, t, P=40)
        if duplicates:
            G[t // 2 :] = G[: t - t // 2] + 1e-7 * G[t // 2 :]
        K, c = (G @ G.T).numpy(), (G @ g).numpy()
        K += 1e-4 * K.trace() / t * np.eye(t)
        L = np.linalg.cholesky(K)
        expected = nnls(L.T, -np.linalg.solve(L, c))[0]
        v = solve_dual(K, c)
        assert np.allclose(v, expected, rtol=1e-6, atol=1e-8)
        assert v @ K @ v / 2 + c @ v <= expected @ K @ expected / 2 + c @ expected + 1e-10


@pytest.mark.parametrize("lower", [0.0, 0.5])
def test_quadratic_program_is_optimal_where_the_conditions_say_so(lower):
    for seed, t in itertools.product(range(10), (1, 3, 8, 20)):
        G, g = problem(seed, t)
        K, c = (G @ G.T).numpy() + 1e-3 * np.eye(t), (G @ g).numpy()
        v = solve_dual(K, c, lower)
        slope, tolerance = K @ v + c, 1e-9 * (1 + np.abs(c).max())
        assert (v >= lower).all()
        assert (slope >= -tolerance).all()
        assert np.abs((v - lower) * slope).max() < tolerance * (1 + v.max())


# -- the projection of GEM ------------------------------------------------------------------------------------------


def test_no_conflict_returns_the_gradient_itself():
    G, g = problem(0, 4)
    assert project(g[None].repeat(3, 1), g) is g
    assert project(torch.zeros_like(G), g) is g


def test_projection_ends_the_conflict_up_to_the_ridge():
    for seed, ridge in itertools.product(range(20), (1e-3, 1e-6, 1e-12)):
        G, g = problem(seed, 5)
        z = project(G, g, ridge=ridge)
        slack = ridge * (G @ G.T).trace() / 5
        v = torch.linalg.lstsq(G.T, (z - g)[:, None]).solution[:, 0]
        assert (G @ g).min() < 0
        assert (v > -1e-9).all()
        assert (G @ z >= -slack * v.max() - 1e-9).all()


def test_margin_is_replay_of_every_memory_before_the_projection():
    """v >= m on gradient g is v >= 0 on g + m sum_k g_k."""
    for seed in range(20):
        G, g = problem(seed, 4)
        shifted = project(G, g + 0.5 * G.sum(0), margin=0.0, ridge=1e-13)
        assert torch.allclose(project(G, g, margin=0.5, ridge=1e-13), shifted, rtol=1e-9, atol=1e-9)


def test_one_constraint_is_averaged_gem():
    for seed in range(20):
        G, g = problem(seed, 1)
        expected = g - (G[0] @ g) / (G[0] @ G[0]) * G[0]
        assert torch.allclose(project(G, g, ridge=1e-13), expected, rtol=1e-10, atol=1e-10)
        assert torch.allclose(project_one(G[0], g), expected, rtol=1e-12, atol=1e-12)
        assert abs(project_one(G[0], g) @ G[0]) < 1e-10


def test_averaged_gem_leaves_an_agreeing_gradient_and_survives_a_zero_reference():
    g = torch.randn(50, generator=torch_generator("agem"))
    assert torch.equal(project_one(g, g), g)
    assert torch.equal(project_one(torch.zeros(50), g), g)


def test_projection_is_idempotent_shortens_and_ignores_the_order_of_tasks():
    for seed in range(20):
        G, g = problem(seed, 6)
        z = project(G, g, ridge=1e-13)
        assert torch.allclose(project(G, z, ridge=1e-13), z, rtol=1e-8, atol=1e-8)
        for ridge in (1e-13, 1e-2):
            assert project(G, g, ridge=ridge).norm() <= g.norm() * (1 + 1e-12)
        order = torch.randperm(6, generator=torch_generator("order", seed))
        assert torch.allclose(project(G[order], g, 0.5), project(G, g, 0.5), rtol=1e-9, atol=1e-9)


def test_absolute_ridge_fails_on_small_gradients_and_the_relative_one_does_not():
    """Memories that are fitted well have |g_k|^2 near 1e-5, far below the published ridge of 1e-3."""
    G, g = problem(3, 4, scale=5e-4)
    before = (G @ g).min()
    published, ours = project(G, g, absolute=True), project(G, g)
    assert (G @ published).min() < 0.9 * before  # nearly all of the conflict is left
    assert (G @ ours).min() > 0.01 * before
    # being relative, it gives the same answer at any scale
    assert torch.allclose(project(1e-3 * G, 1e-3 * g), 1e-3 * ours, rtol=1e-8, atol=0)


# -- gradients ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", ["mlp", "slim-resnet18"])
def test_vectorised_gradients_are_those_of_a_loop(network):
    torch.manual_seed(0)
    shape = (3, 8, 8)
    model = (mlp(shape, 6, hidden=(16,)) if network == "mlp" else slim_resnet18(shape, 6, filters=10)).double()
    next(model.parameters()).requires_grad_(False)  # a frozen parameter has no column
    x, y = torch.randn(3, 5, *shape, dtype=DOUBLE), torch.randint(6, (3, 5))
    G = grouped_gradients(model, F.cross_entropy, x, y)
    total = grouped_gradients(model, lambda *a: F.cross_entropy(*a, reduction="sum"), x, y, additive=True)
    for k in range(3):
        model.zero_grad()
        F.cross_entropy(model(x[k]), y[k]).backward()
        assert torch.allclose(G[k], flat_gradient(model), rtol=1e-10, atol=1e-12)
        assert torch.allclose(total[k], 5 * G[k], rtol=1e-10, atol=1e-12)


def test_vectorised_gradients_taken_in_several_passes_are_the_same(monkeypatch):
    from carryover.strategies.parts import gradients

    torch.manual_seed(0)
    model, x, y = mlp((5,), 3).double(), torch.randn(7, 4, 5, dtype=DOUBLE), torch.randint(3, (7, 4))
    whole = grouped_gradients(model, F.cross_entropy, x, y)
    monkeypatch.setattr(gradients, "AT_ONCE", 45)
    assert torch.allclose(grouped_gradients(model, F.cross_entropy, x, y), whole, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("at_once", [45, 2**20])
def test_an_additive_loss_may_be_taken_of_several_groups_at_once(monkeypatch, at_once):
    from carryover.strategies.parts import gradients

    monkeypatch.setattr(gradients, "AT_ONCE", at_once)
    torch.manual_seed(0)
    model, x, y = mlp((5,), 3).double(), torch.randn(7, 4, 5, dtype=DOUBLE), torch.randint(3, (7, 4))
    weight = torch.rand(7, 4, dtype=DOUBLE)

    def loss(logits, y, weight):
        return (F.cross_entropy(logits, y, reduction="none") * weight).sum()

    one_by_one = grouped_gradients(model, loss, x, y, weight)
    at_once = grouped_gradients(model, loss, x, y, weight, additive=True)
    assert torch.allclose(at_once, one_by_one, rtol=1e-12, atol=1e-15)


def test_flat_gradients_go_there_and_back():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    model[0](torch.randn(4, 3)).sum().backward()  # the second layer gets no gradient
    flat = flat_gradient(model)
    assert flat.shape == (14,)
    assert (flat[8:] == 0).all()
    set_gradient(model, 2 * flat)
    assert torch.equal(flat_gradient(model), 2 * flat)


def test_classes_that_do_not_compete_get_no_gradient():
    objective = Classification(info(TIL), "setting", torch.device("cpu"))
    for t in range(3):
        objective.reveal(Task(t, "", (2 * t, 2 * t + 1), None))
    model = mlp((1, 4, 4), 6)
    y = torch.tensor([2, 3, 3, 2])
    objective.loss(model(torch.randn(4, 1, 4, 4)), y).backward()
    rows = model[-1].weight.grad.abs().sum(1)
    assert (rows[[2, 3]] > 0).all() and (rows[[0, 1, 4, 5]] == 0).all()
    G = grouped_gradients(model, objective.loss, torch.randn(2, 4, 1, 4, 4), torch.stack([y, y - 2]))
    head = G[:, -6 * 101 : -6].reshape(2, 6, 100).abs().sum(2)
    assert (head[0, [0, 1, 4, 5]] == 0).all() and (head[1, 2:] == 0).all() and (head[1, :2] > 0).all()


# -- objective ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "columns", "heads"),
    [
        (TIL, [2, 3], [[0, 1]]),
        (CIL, [0, 1, 2, 3], [[0, 1]]),
        (ONLINE, [0, 1, 2, 3], [[0, 1]]),
        (DIL, [0, 1, 2, 3, 4, 5], [[0, 1]]),
    ],
)
def test_who_competes_with_whom(setting, columns, heads):
    objective = Classification(info(setting), "setting", torch.device("cpu"))
    for t in range(2):
        objective.reveal(Task(t, "", (2 * t, 2 * t + 1), None))
    logits = torch.randn(1, 6)
    restricted = objective.restrict(logits, torch.tensor([3]))
    assert torch.isfinite(restricted[0]).nonzero()[:, 0].tolist() == columns
    expected = -logits[0, 3] + logits[0, columns].logsumexp(0)
    assert torch.allclose(objective.loss(logits, torch.tensor([3])), expected)
    assert objective.old_heads() == heads


def test_old_heads_are_one_per_task_with_task_ids_and_one_in_all_without():
    for setting, expected in ((TIL, [[0, 1], [2, 3]]), (CIL, [[0, 1, 2, 3]])):
        objective = Classification(info(setting), "setting", torch.device("cpu"))
        assert objective.old_heads() == []
        for t in range(3):
            objective.reveal(Task(t, "", (2 * t, 2 * t + 1), None))
        assert objective.old_heads() == expected


def test_decisions_stay_among_the_classes_asked_for():
    objective = Classification(info(), "setting", torch.device("cpu"))
    logits = torch.tensor([[9.0, 1, 2, 8, 0, 0], [0, 3, 1, 2, 9, 0]])
    assert objective.decide(logits, Query((1, 2, 3), 6)).tolist() == [3, 1]
    assert objective.decide(logits, Query(tuple(range(6)), 6)).tolist() == [0, 4]
    assert objective.decide(logits, Query((), 6)).tolist() == [-1, -1]


# -- Fisher information and elastic weight consolidation ------------------------------------------------------------


class Logistic(nn.Module):
    """Two classes, one parameter: logits (0, w x)."""

    def __init__(self, w: float) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(w, dtype=DOUBLE))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([torch.zeros_like(x[:, 0]), self.w * x[:, 0]], dim=1)


def test_fisher_of_a_logistic_model_in_closed_form():
    """The gradient of -log p(y|x) is (sigmoid(wx) - y) x."""
    draw = torch_generator("logistic")
    x, y = torch.randn(40, 1, generator=draw, dtype=DOUBLE), torch.randint(2, (40,), generator=draw)
    expected = ((torch.sigmoid(0.7 * x[:, 0]) - y) * x[:, 0]).square().mean()
    pieces = [(x[:13], y[:13]), (x[13:], y[13:])]  # uneven batches weigh by their samples
    assert torch.allclose(fisher_diagonal(Logistic(0.7), F.cross_entropy, pieces)["w"], expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("kind", ["chain", "several vectors to a sample", "any network"])
def test_fisher_is_that_of_single_samples_and_not_of_the_batch_mean(kind):
    torch.manual_seed(0)
    model, x, y = mlp((5,), 3, hidden=(7,)).double(), torch.randn(20, 5, dtype=DOUBLE), torch.randint(3, (20,))
    if kind == "several vectors to a sample":
        model = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Flatten(), nn.Linear(28, 3)).double()
        x = torch.randn(20, 4, 5, dtype=DOUBLE)
    elif kind == "any network":
        model = nn.Sequential(model, nn.LayerNorm(3)).double()
    total = torch.zeros(sum(p.numel() for p in model.parameters()), dtype=DOUBLE)
    for i in range(20):
        model.zero_grad()
        F.cross_entropy(model(x[i : i + 1]), y[i : i + 1]).backward()
        total += flat_gradient(model).square() / 20
    found = torch.cat([f.reshape(-1) for f in fisher_diagonal(model, F.cross_entropy, [(x, y)]).values()])
    assert torch.allclose(found, total, rtol=1e-10, atol=1e-15)
    assert (found >= 0).all()
    model.zero_grad()
    F.cross_entropy(model(x), y).backward()
    assert flat_gradient(model).square().sum() < 0.5 * found.sum()


def ewc(**settings):
    """EWC that keeps each task's Fisher information and solution, as the formula has them."""
    from carryover.strategies.ewc import EWC

    class Watched(EWC):
        def end_task(self, task):
            super().end_task(task)
            self.pairs = [*getattr(self, "pairs", []), (self.seen, [p.detach().clone() for p in trained(self.model)])]

        def _fisher(self, task):
            self.seen = super()._fisher(task)
            return [f.clone() for f in self.seen]

    return learn(started(Watched, STREAM, **settings), STREAM, 2)


STREAM = blob_stream(CIL)


def explicit_penalty(strategy, pairs):
    return sum(
        strategy.config.strength / 2 * (f * (p - theta).square()).sum()
        for fisher, anchor in pairs
        for f, theta, p in zip(fisher, anchor, trained(strategy.model), strict=True)
    )


def pull(strategy):
    """What EWC adds to a zero gradient, before it is shortened for an implicit step."""
    for p in trained(strategy.model):
        p.grad = None
    strategy.adjust_gradients(None)
    c = strategy.config.lr * strategy.config.strength
    held = zip(trained(strategy.model), strategy.information, strict=True)
    return torch.cat([(p.grad * (1 + c * f)).reshape(-1) for p, f in held])


@pytest.mark.parametrize("strength", [3.0, 1e6])
def test_the_penaltys_step_is_the_implicit_one(strength):
    """The new weights minimise |theta' - (theta - lr g)|^2 / 2 lr + strength / 2 F (theta' - anchor)^2."""
    strategy = learn(started("ewc", STREAM, strength=strength, lr=0.1), STREAM, 1)
    anchor = [p.detach().clone() for p in trained(strategy.model)]
    with torch.no_grad():
        for p in trained(strategy.model):
            p += 0.1 * torch.randn_like(p)
            p.grad = torch.randn_like(p)
    before = [(p.detach().clone(), p.grad.clone()) for p in trained(strategy.model)]
    strategy.adjust_gradients(None)
    strategy.optimizer.step()
    for p, (theta, g), a, f in zip(trained(strategy.model), before, anchor, strategy.information, strict=True):
        slope = (p - (theta - 0.1 * g)) / 0.1 + strength * f * (p - a)
        assert slope.abs().max() <= 1e-4 * (1 + strength * f.max())
        assert torch.isfinite(p).all()


def test_two_sums_are_the_penalties_of_all_tasks():
    strategy = ewc(strength=3.0)
    with torch.no_grad():
        for p in trained(strategy.model):
            p += 0.1 * torch.randn_like(p)
    penalty = explicit_penalty(strategy, strategy.pairs)
    expected = torch.cat([g.reshape(-1) for g in torch.autograd.grad(penalty, trained(strategy.model))])
    assert expected.abs().max() > 1e-3
    assert torch.allclose(pull(strategy), expected, rtol=1e-4, atol=1e-6)


def test_penalty_does_not_pull_at_its_anchor():
    strategy = learn(started("ewc", STREAM), STREAM, 1)
    assert (pull(strategy) == 0).all()
    assert all((f >= 0).all() for f in strategy.information)
    assert sum(f.sum() for f in strategy.information) > 0


def test_online_penalty_decays_and_has_one_anchor():
    strategy = ewc(decay=0.25, strength=2.0)
    (first, _), (second, latest) = strategy.pairs
    for held, f1, f2 in zip(strategy.information, first, second, strict=True):
        assert torch.allclose(held, f2 + 0.25 * f1, rtol=1e-6, atol=0)
    assert pull(strategy).abs().max() < 1e-7
    with torch.no_grad():
        for p in trained(strategy.model):
            p += 0.1
    penalty = explicit_penalty(strategy, [(strategy.information, latest)])
    expected = torch.cat([g.reshape(-1) for g in torch.autograd.grad(penalty, trained(strategy.model))])
    assert torch.allclose(pull(strategy), expected, rtol=1e-4, atol=1e-6)


def test_fisher_batches_do_not_matter_and_samples_can_be_limited():
    whole, pieces, few = (
        learn(started("ewc", STREAM, **s), STREAM, 1).information
        for s in ({}, {"fisher_batch": 4}, {"fisher_samples": 5})
    )
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-9) for a, b in zip(whole, pieces, strict=True))
    assert not all(torch.allclose(a, b, rtol=1e-2, atol=1e-9) for a, b in zip(whole, few, strict=True))


def test_true_fisher_draws_its_labels_from_the_network():
    strategy = started("ewc", STREAM, fisher="true")
    strategy.objective.reveal(STREAM.tasks[0])
    x = STREAM.tasks[0].train.samples[:1].expand(4000, -1, -1, -1)
    drawn = strategy._sampled(x, torch.zeros(4000, dtype=torch.int64))
    chances = torch.softmax(strategy.model(x[:1])[0, :2], 0)
    assert drawn.max() <= 1  # classes that are not seen yet do not compete
    assert abs((drawn == 1).double().mean() - chances[1]) < 4 * math.sqrt(0.25 / 4000)


# -- memories -------------------------------------------------------------------------------------------------------


def test_reservoir_keeps_every_sample_with_the_same_chance():
    capacity, offered, trials = 10, 40, 1500
    kept = np.zeros(offered)
    draw = torch_generator("reservoir")
    for _ in range(trials):
        memory = ReservoirMemory(capacity)
        for part in torch.arange(offered).split(7):
            memory.add(part[:, None], part, draw)
        assert len(memory) == capacity and len(memory.targets.unique()) == capacity
        kept[memory.targets.numpy()] += 1
    chance = capacity / offered
    # a trial keeps exactly `capacity`, so the counts are negatively correlated and one degree of freedom is lost
    statistic = ((kept - trials * chance) ** 2 / (trials * chance * (1 - chance))).sum() * (offered - 1) / offered
    assert chi2.ppf(1e-4, offered - 1) < statistic < chi2.ppf(1 - 1e-4, offered - 1)


def test_reservoir_in_batches_is_the_sequential_algorithm():
    slots: list[int | None] = [None] * 6
    draws = torch.rand(60, generator=torch_generator("same"), dtype=DOUBLE).tolist()
    for n, draw in enumerate(draws):
        place = n if n < 6 else int(draw * (n + 1))
        if place < 6:
            slots[place] = n
    for size in (1, 4, 25, 60):
        memory, generator = ReservoirMemory(6), torch_generator("same")
        for part in torch.arange(60).split(size):
            memory.add(part[:, None].float(), part, generator)
        assert memory.targets.tolist() == slots
        assert torch.equal(memory.samples[:, 0].long(), memory.targets)  # samples and targets stay together


def test_reservoir_reads_written_slots_alone():
    memory = ReservoirMemory(100)
    memory.add(torch.ones(3, 2), torch.ones(3, dtype=torch.int64), torch_generator(0))
    x, y = memory.draw(500, torch_generator(1))
    assert len(memory) == 3 and (x == 1).all() and (y == 1).all()
    assert memory.nbytes == 3 * (2 * 4 + 8)


@pytest.mark.parametrize("kind", ["reservoir", "ring", "all"])
def test_the_bytes_of_a_memory_count_targets_of_several_numbers_once(kind):
    """As actions are."""
    memory = {"reservoir": lambda: ReservoirMemory(8), "ring": lambda: RingMemory(4), "all": Archive}[kind]()
    x, y = torch.zeros(3, 5), torch.zeros(3, 4)
    if kind == "ring":
        memory.begin_task()
    memory.add(x, y, *[torch.Generator()] * (kind == "reservoir"))
    assert memory.nbytes == 3 * (5 * 4 + 4 * 4)


def ring(per_task: int, *tasks: list[list[int]]) -> RingMemory:
    """A ring memory after tasks, each a list of batches of labels; samples repeat their label."""
    memory = RingMemory(per_task)
    for task in tasks:
        memory.begin_task()
        for batch in task:
            y = torch.tensor(batch)
            memory.add(y[:, None].float(), y)
    return memory


def test_ring_holds_the_last_samples_of_each_task():
    memory = ring(4, [[1, 2, 3], [4, 5, 6]], [[7, 8]], [[11, 12, 13, 14, 15, 16]])
    assert memory.counts == [4, 2, 4]
    assert sorted(memory.targets[0].tolist()) == [3, 4, 5, 6]
    assert memory.targets[0].tolist() == [5, 6, 3, 4]  # wrapped in place
    assert memory.targets[1, :2].tolist() == [7, 8]
    assert sorted(memory.targets[2].tolist()) == [13, 14, 15, 16]  # a batch larger than the ring
    assert torch.equal(memory.samples[..., 0].long(), memory.targets)
    assert len(memory) == 10


def test_ring_goes_on_rightly_after_a_batch_larger_than_itself():
    memory = ring(4, [[1, 2, 3, 4, 5, 6], [7], [8, 9]])
    assert sorted(memory.targets[0].tolist()) == [6, 7, 8, 9]


def test_ring_reads_written_slots_of_the_tasks_asked_for():
    memory = ring(8, [[1, 2]], [[3]], [[9] * 8])
    x, y = memory.draw(3000, 2, torch_generator("ring"))
    assert set(y.tolist()) == {1, 2, 3}
    assert torch.equal(x[:, 0].long(), y)
    shares = torch.bincount(y)[1:4] / 3000  # uniform over samples, not over tasks
    assert (shares - 1 / 3).abs().max() < 0.04


@pytest.mark.parametrize("make", [lambda: ReservoirMemory(5), lambda: RingMemory(5), Archive])
def test_memories_survive_saving_when_empty_and_when_full(make):
    empty = make()
    empty.load_state_dict(make().state_dict())
    assert len(empty) == 0 and empty.nbytes == 0


def test_gem_weighs_written_slots_alone():
    stream = blob_stream(TIL, train=9)
    gem = learn(started("gem", stream, memory=30), stream, 1)
    x, y, weight = gem._references(stream.tasks[1])
    assert x.shape == (1, 30, 1, 4, 4)
    assert weight[0].tolist() == pytest.approx([1 / 9] * 9 + [0] * 21)
    gem.objective.reveal(stream.tasks[1])
    G = grouped_gradients(gem.model, gem._memory_loss, x, y, weight)
    gem.model.zero_grad()
    data = stream.tasks[0].train
    gem.objective.loss(gem.model(data.samples), data.targets).backward()
    assert torch.allclose(G[0], flat_gradient(gem.model), rtol=1e-4, atol=1e-6)


# -- strategies that are small -------------------------------------------------------------------------------------


def test_gem_leaves_no_conflict_in_the_gradient_that_it_steps_along():
    stream = blob_stream(DIL)
    gem = learn(started("gem", stream, margin=0.0), stream, 1)
    gem.references = gem._references(stream.tasks[1])
    data = Data(stream.tasks[0].train.samples, 1 - stream.tasks[0].train.targets)  # the opposite of what it learnt
    batch = Batch(data.samples, data.targets, data.samples, data.prepare)
    gem.loss(batch).backward()
    before = flat_gradient(gem.model)
    gem.adjust_gradients(batch)
    after = flat_gradient(gem.model)
    G = grouped_gradients(gem.model, gem._memory_loss, *gem.references)
    assert gem.projected == 1
    assert (G @ before).min() < 0
    assert (G @ after).min() > 1e-3 * (G @ before).min()


@pytest.mark.parametrize("name", ["gem", "agem"])
@pytest.mark.parametrize("settings", [{"momentum": 0.9}, {"optimizer": "adam"}])
def test_projections_refuse_optimizers_that_break_them(name, settings):
    with pytest.raises(UsageError, match="plain SGD"):
        started(name, STREAM, **settings)


def test_replay_joins_memory_and_batch_in_one_loss():
    er = learn(started("er", STREAM, epochs=3, replay_batch=7), STREAM, 1)
    assert er.memory.added == 25  # every sample is offered once, in the first of three passes
    er.tasks_begun = 2
    er.objective.reveal(STREAM.tasks[1])
    er.context.begin(1)
    data = STREAM.tasks[1].train
    batch = Batch(data.samples[:5], data.targets[:5], data.samples[:5], data.prepare)
    x, y = er.memory.draw(7, torch_generator(0, 1, "replay"))
    logits = er.model(torch.cat([batch.x, x]))[:, :4]
    assert torch.allclose(er.loss(batch), F.cross_entropy(logits, torch.cat([batch.y, y])))
    assert er.cost_key(batch) == (7,)


def test_replay_of_nothing_is_fine_tuning():
    """In the first step there is nothing to replay."""
    one = blob_stream(CIL, train=10)
    both = [parameters(learn(started(name, one), one, 1)) for name in ("er", "finetune")]
    assert torch.equal(*both)


def test_joint_training_is_training_on_everything_at_once():
    joint = learn(started("joint", STREAM), STREAM, 2)
    model = started("joint", STREAM).model  # the same initial weights
    everything = Data(
        *(torch.cat([getattr(t.train, part) for t in STREAM.tasks[:2]]) for part in ("samples", "targets"))
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=joint.config.lr)
    for batch in batches(everything, 10, 1, (0, 1, "batches")):
        optimizer.zero_grad()
        F.cross_entropy(model(batch.x)[:, :4], batch.y).backward()
        optimizer.step()
    expected = torch.cat([p.detach().reshape(-1) for p in model.parameters()])
    assert torch.allclose(parameters(joint), expected, rtol=1e-5, atol=1e-6)


def test_independent_networks_never_forget():
    stream = blob_stream(TIL)
    strategy = started("independent", stream)
    x = stream.tests[0].data.samples
    answers = []
    for k in range(3):
        learn(strategy, stream, k + 1, first=k)
        answers.append(strategy.predict(x, stream.query(0, k + 1)))
    assert torch.equal(answers[0], answers[1]) and torch.equal(answers[0], answers[2])
    weights = [state["1.weight"] for state in strategy.finished]
    assert not torch.allclose(weights[0], weights[1], atol=1e-2)


def test_distillation_has_no_gradient_where_student_and_teacher_agree():
    teacher = torch.randn(8, 4, generator=torch_generator("teacher"), dtype=DOUBLE)
    student = teacher.clone().requires_grad_()
    loss = distillation(student, teacher, 2.0)
    loss.backward()
    assert abs(loss.item()) < 1e-12 and student.grad.abs().max() < 1e-15
    other = torch.randn(8, 4, generator=torch_generator("student"), dtype=DOUBLE)
    p, q = torch.softmax(teacher / 2, 1), torch.softmax(other / 2, 1)
    expected = 4 * (p * (p / q).log()).sum(1).mean()
    assert torch.allclose(distillation(other, teacher, 2.0), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("setting", [TIL, CIL, DIL])
def test_the_first_step_without_forgetting_is_that_of_fine_tuning(setting):
    """The teacher is then the network itself."""
    stream = blob_stream(setting)
    lwf = learn(started("lwf", stream), stream, 1)
    lwf.tasks_begun = 2
    lwf.objective.reveal(stream.tasks[1])
    lwf.begin_task(stream.tasks[1])
    data = stream.tasks[1].train
    batch = Batch(data.samples, data.targets, data.samples, data.prepare)
    gradients = []
    for loss in (lwf.loss(batch), lwf.objective.loss(lwf.model(batch.x), batch.y)):
        lwf.model.zero_grad()
        loss.backward()
        gradients.append(flat_gradient(lwf.model))
    assert torch.allclose(*gradients, rtol=1e-5, atol=1e-7)


def test_the_teacher_keeps_its_running_statistics():
    stream = blob_stream(CIL)
    lwf = learn(started("lwf", stream, model="slim-resnet18", **{"model.norm": "batch", "model.filters": 4}), stream, 1)
    before = {name: value.clone() for name, value in lwf.model.state_dict().items()}
    learn(lwf, stream, 2, first=1)
    assert all(torch.equal(lwf.teacher[name], value) for name, value in before.items())


# -- optimizer, batches, meter --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("momentum", "decay"), [(0.0, 0.0), (0.9, 0.0), (0.0, 0.01), (0.9, 0.01)])
def test_our_descent_is_that_of_torch(momentum, decay):
    torch.manual_seed(0)
    ours, theirs = mlp((5,), 3, hidden=(4,)), mlp((5,), 3, hidden=(4,))
    theirs.load_state_dict(ours.state_dict())
    pairs = [
        (ours, SGD(list(ours.parameters()), 0.1, momentum, decay)),
        (theirs, torch.optim.SGD(theirs.parameters(), 0.1, momentum, weight_decay=decay)),
    ]
    for step in range(10):
        x = torch.randn(6, 5)
        for model, optimizer in pairs:
            optimizer.zero_grad()
            (model(x).square().mean() if step % 3 else model[1](x).square().mean()).backward()  # some get no gradient
            optimizer.step()
        for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert torch.allclose(p, q, rtol=0, atol=1e-7)


def data_of(count: int, augment=None) -> Data:
    """Samples that are their own numbers."""
    return Data(torch.arange(count, dtype=torch.float32)[:, None], torch.arange(count), augment=augment)


@pytest.mark.parametrize("elements", [7, 20, 10**6])  # one batch, several, all of the data at a time
def test_every_sample_comes_once_in_every_pass(monkeypatch, elements):
    monkeypatch.setattr(batching, "CHUNK_ELEMENTS", elements)
    data = data_of(45)
    found = list(batches(data, 7, 3, ("key",)))
    assert [len(b.y) for b in found] == ([7] * 6 + [3]) * 3
    passes = torch.cat([b.y for b in found]).split(45)
    assert all(sorted(order.tolist()) == list(range(45)) for order in passes)
    assert not torch.equal(passes[0], passes[1])
    assert all(torch.equal(b.x[:, 0].long(), b.y) and torch.equal(b.stored, b.x) for b in found)
    assert data.drawn["samples"] == 135


def jitter(x, generator):
    return x + torch.rand(x.shape, generator=generator)


@pytest.mark.parametrize("elements", [7, 20, 10**6])
@pytest.mark.parametrize("augment", [None, jitter])
def test_starting_later_is_skipping(monkeypatch, elements, augment):
    monkeypatch.setattr(batching, "CHUNK_ELEMENTS", elements)
    data = data_of(45, augment)
    whole = list(batches(data, 7, 2, (1, 2, "key")))
    for start in range(len(whole) + 1):
        data.drawn["samples"] = 0
        rest = list(batches(data, 7, 2, (1, 2, "key"), start))
        assert len(rest) == len(whole) - start
        assert all(
            torch.equal(a, b)
            for x, y in zip(rest, whole[start:], strict=True)
            for a, b in zip(x[:3], y[:3], strict=True)
        )
        assert data.drawn["samples"] == sum(len(b.y) for b in whole[start:])


def test_chunks_change_no_batch_where_nothing_is_drawn_for_them(monkeypatch):
    whole = list(batches(data_of(45), 7, 1, ("key",)))
    monkeypatch.setattr(batching, "CHUNK_ELEMENTS", 1)
    assert all(torch.equal(a.y, b.y) for a, b in zip(whole, batches(data_of(45), 7, 1, ("key",)), strict=True))


@pytest.mark.parametrize("name", ["finetune", "er", "ewc", "agem", "gem", "lwf", "joint"])
def test_the_meter_counts_what_torch_counts(name):
    stream = blob_stream(DIL, tasks=2, train=43)  # with a short last batch
    strategy = started(name, stream, epochs=2)
    with FlopCounterMode(display=False) as counter:
        learn(strategy, stream)
    assert strategy.context.meter.flops["train"] == counter.get_total_flops() > 0


def test_the_meter_counts_a_perceptron_as_paper_and_pencil_do():
    """Forward and weight gradients 2BP each, input gradients 2BP less the first layer's; the weights make P."""
    stream = blob_stream(DIL, tasks=1, train=30)
    meter = learn(started("finetune", stream, epochs=2), stream).context.meter
    first, rest = 16 * 100, 100 * 100 + 100 * 2
    expected = 2 * 60 * (2 * (first + rest) + rest)
    assert meter.flops["train"] == pytest.approx(expected, rel=0.01)
    assert (meter.steps, meter.samples) == (6, 60)


def test_strategies_refuse_settings_that_withhold_what_they_need():
    for name in ("gem", "agem", "ewc", "lwf"):
        with pytest.raises(UsageError, match="needs boundaries"):
            started(name, info(TASK_FREE))
    with pytest.raises(UsageError, match="needs task id at test"):
        started("independent", info(CIL))
    with pytest.raises(UsageError, match="allows 1 pass"):
        started("finetune", info(ONLINE), epochs=2)


def test_work_inside_a_step_is_counted_apart_from_it():
    """So that a step's cost does not depend on whether its first one had the inner work."""
    a = torch.ones(3, 3)  # a product is 54 operations
    for inner_first in (True, False):
        meter = Meter()
        for inner in (inner_first, not inner_first, True, False):
            with meter.step(0, 1):
                a @ a
                if inner:
                    with meter.work("train", "inner"):
                        a @ a @ a
        assert meter.flops["train"] == 4 * 54 + 2 * 108
