"""Class means, ridge and logistic regression on frozen features: exact, independent of order, alone for each sample."""

from __future__ import annotations

import dataclasses
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from carryover.base.errors import UsageError
from carryover.evaluation.evaluator import Evaluator
from carryover.evaluation.run import run_seed
from carryover.strategies import check_strategy
from carryover.strategies.aper import APER
from carryover.strategies.backbones import vits
from carryover.strategies.core import load_strategy
from carryover.strategies.parts.logistic import logistic
from carryover.strategies.parts.prototypes import Prototypes
from carryover.strategies.parts.ridge import RIDGES, RandomFeatures, Ridge, choose_ridge, spectrum
from carryover.streams.core import DIL, ONLINE, SETTINGS, TASK_FREE, TIL, Data, Setting, Stream, Task
from carryover.tests.toys import info, learn, parameters, pictures, started
from torch import Tensor

pytest.importorskip("timm")
torch.set_num_threads(1)

CPU = torch.device("cpu")
RANDOM = {"model.weights": "random"}
ADAPTING = {"epochs": 2, "batch_size": 4}
STRATEGIES = {
    "simplecil": RANDOM,
    "linear-probe": RANDOM,
    "ranpac": RANDOM | {"width": 40},
    "aper": RANDOM | ADAPTING,
}
each = pytest.mark.parametrize("name", STRATEGIES)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """vit-micro in its form, but smaller: 17 tokens, 3 blocks, 2 heads of width 8."""
    monkeypatch.setattr(vits, "MICRO", {"patch_size": 6, "embed_dim": 16, "depth": 3, "num_heads": 2})


pictures = partial(pictures, train=8, test=6, noise=0.3)


def made(name: str, stream: Stream | None = None, **settings):
    """After `setup`."""
    return started(name, stream or pictures(), **STRATEGIES[name] | settings)


def questions(stream: Stream) -> Tensor:
    """All test inputs."""
    return torch.cat([test.data.prepare(test.data.samples) for test in stream.tests])


# -- all of them ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "settings", "accepted"),
    [
        ("simplecil", {}, ["til", "cil", "dil", "online", "task-free"]),
        ("linear-probe", {"tolerance": 1e-3}, ["til", "cil", "dil", "online"]),
        ("ranpac", {}, ["til", "cil", "dil", "online"]),
        ("aper", {}, ["til", "cil", "dil"]),
    ],
)
def test_the_rules_hold(name, settings, accepted):
    """Predictions alone, resume exact at every step, nothing read that is withheld; and refusals where due."""
    streams = [pictures(setting) for setting in SETTINGS.values()]
    assert check_strategy(name, streams, **STRATEGIES[name] | settings) == accepted


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("aper", {"adapt": "norms", "optimizer": "adam", "momentum": 0.0}),
        ("aper", {"adapt": "full", "clip": 1.0}),
        ("ranpac", {"adapt": "adapter", **ADAPTING}),
        ("ranpac", {"width": 0, "ridge": 1.0}),
    ],
)
def test_the_rules_hold_off_the_defaults(name, settings):
    assert check_strategy(name, [pictures(tasks=2, train=6)], **STRATEGIES[name] | settings) == ["cil"]


@each
def test_batches_leave_no_trace(name):
    stream = pictures(test=7, noise=1.0)
    strategy = learn(made(name, stream), stream)
    x, query = questions(stream), stream.query(0, 3)
    alone = torch.cat([strategy.predict(one, query) for one in x.split(1)])
    for size in (1, 7, 64):
        assert Evaluator(stream, CPU, size).row(strategy, strategy.context, 3).tolist() == [
            bool(a == y) for a, y in zip(alone, torch.cat([t.data.targets for t in stream.tests]), strict=True)
        ]
        strategy.memo.places.clear()  # computed again, in other batches
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    assert torch.equal(strategy.predict(x[order], query), alone[order])
    assert len(alone.unique()) > 2


@each
def test_what_is_remembered_is_computed_once_and_counted_every_time(name):
    stream = pictures()
    strategy = made(name, stream)
    asked = []
    features = strategy.model.features
    strategy.model.features = lambda x: asked.append(len(x)) or features(x)
    learn(strategy, stream, 1)
    x, meter, asked[:] = questions(stream), strategy.context.meter, []
    costs = []
    for _ in range(2):
        before = meter.flops["eval"]
        with meter.work("eval", "question", len(costs)):
            strategy.predict(x, stream.query(0, 1))
        costs.append(meter.flops["eval"] - before)
    assert asked == [len(x)] and costs[0] == costs[1] > 0
    learn(strategy, stream, 2, first=1)
    strategy.predict(x, stream.query(0, 2))
    assert asked == [len(x), len(stream.tasks[1].train)]


@pytest.mark.parametrize(
    ("name", "drawn", "steps", "passes"),
    [("simplecil", [8, 8, 8], 0, 3), ("linear-probe", [8, 8, 8], 0, 3), ("ranpac", [8, 8, 8], 0, 3),
     ("aper", [24, 8, 8], 4, 5)],
)  # fmt: skip
def test_every_pass_is_in_the_ledger(name, drawn, steps, passes):
    run, _ = run_seed(load_strategy(name)(**STRATEGIES[name]), pictures(), 0)
    assert run.status == "complete" and run.usage.drawn == drawn
    assert (run.cost.steps, run.cost.samples_seen) == (steps, 8 * passes)
    kept = (24, 24 * (16 * 4 + 8)) if name == "linear-probe" else (0, 0)  # features and labels
    assert (run.cost.replay_samples, run.cost.replay_bytes) == kept
    state = {
        "simplecil": 8 * (6 * 16 + 6),
        "linear-probe": 4 * (6 * 16 + 6),
        "ranpac": 8 * 40 * (40 + 6) + 4 * 40 * 6,
        "aper": 8 * (6 * 32 + 6),
    }
    assert run.cost.state_bytes == state[name]
    assert (run.cost.params_trained > 0) == (name == "aper")
    assert run.correct[0] == [0, 0, 0] and sum(run.correct[3]) > 9  # of 18, where chance is 3


def forward(stream: Stream, order: list[int]) -> Stream:
    """The stream with its tasks in another order."""
    tasks = [dataclasses.replace(stream.tasks[k], index=i) for i, k in enumerate(order)]
    return dataclasses.replace(stream, tasks=tasks, tests=[stream.tests[k] for k in order])


@pytest.mark.parametrize("name", ["simplecil", "linear-probe", "ranpac"])
def test_the_order_of_tasks_leaves_no_trace(name):
    stream = pictures(noise=1.0)
    settings = {"ridge": 10.0} if name == "ranpac" else {}
    one, other = (learn(made(name, s, **settings), s) for s in (stream, forward(stream, [2, 0, 1])))
    x = questions(stream)
    if name == "simplecil":
        assert torch.equal(one.prototypes.sums, other.prototypes.sums)
    scores = [s.scores(s.model.features(x)) for s in (one, other)]
    torch.testing.assert_close(*scores, rtol=1e-4, atol=1e-4)
    assert torch.equal(*(s.predict(x, stream.query(0, 3)) for s in (one, other)))


@each
def test_a_class_without_samples_is_answered_only_alone(name):
    stream = pictures(Setting("open", label_space="all"))
    stream = dataclasses.replace(stream, classes=5)
    strategy = learn(made(name, stream), stream)
    assert set(strategy.predict(questions(stream), stream.query(0, 3)).tolist()) <= {0, 1}
    til = pictures(TIL)
    strategy = learn(made(name, til), til, 1)
    assert strategy.predict(questions(til), til.query(2, 1)).unique().tolist() == [4]


@each
def test_a_model_without_features_is_refused(name):
    with pytest.raises(UsageError, match=f"^{name} works on features, and the model mlp tells none") as caught:
        started(name, info(shape=(3, 24, 24)), model="mlp")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "setting"), [("aper", ONLINE), ("ranpac", ONLINE), ("aper", TASK_FREE)])
def test_adapting_needs_more_than_one_pass(name, setting):
    says = f"{name} makes 3 passes over each task's data, but pictures allows 1|needs boundaries"
    with pytest.raises(UsageError, match=says):
        made(name, pictures(setting), **ADAPTING, adapt="adapter")


# -- class means ----------------------------------------------------------------------------------------------------


def test_class_means_are_the_same_in_any_order_and_in_any_pieces():
    draw = torch.Generator().manual_seed(0)
    size = 10 ** (10 * torch.rand(500, 1, generator=draw) - 4)  # sums in float64 would be rounded
    f = size * torch.randn(500, 8, generator=draw)
    y = torch.arange(500) % 3
    whole = Prototypes(4, 8, CPU)
    whole.add(f, y)
    order = torch.randperm(500, generator=draw)
    pieces = Prototypes(4, 8, CPU)
    for part in order.split(7):
        pieces.add(f[part], y[part])
    assert torch.equal(whole.sums, pieces.sums) and torch.equal(whole.means(), pieces.means())
    for c in range(3):
        torch.testing.assert_close(whole.means()[c], f[y == c].double().mean(0).float())
    cosine = whole.cosine(f)
    torch.testing.assert_close(cosine[:, 1], F.cosine_similarity(f, whole.means()[1][None]))
    assert (cosine[:, 3] == -1).all() and not whole.means()[3].any()


def test_one_task_of_all_classes_gives_the_prototypes_of_many_tasks():
    stream = pictures()
    data = [task.train for task in stream]
    joint = Data(torch.cat([d.samples for d in data]), torch.cat([d.targets for d in data]))
    once = dataclasses.replace(stream, tasks=[Task(0, "all", tuple(range(6)), joint)], tests=stream.tests[:1])
    one, many = learn(made("simplecil", once), once), learn(made("simplecil"), stream)
    # a product over 24 rows may round otherwise than one over 8, the sums then do not add to that
    torch.testing.assert_close(one.prototypes.means(), many.prototypes.means(), rtol=0, atol=1e-6)
    remembered = {}
    for strategy in (one, many):  # the same features for the same image
        features = strategy.model.features
        row = lambda x, f=features: remembered.setdefault(x.numpy().tobytes(), f(x[None])[0])
        strategy.model.features = lambda x, row=row: torch.stack([row(image) for image in x])
        strategy.prototypes = Prototypes(6, 16, CPU)
    learn(one, once), learn(many, stream)
    assert torch.equal(one.prototypes.sums, many.prototypes.sums) and one.prototypes.sums.any()
    assert torch.equal(one.prototypes.means(), many.prototypes.means())


def test_any_network_that_tells_features_will_do(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "import torch\n"
        "class Flat(torch.nn.Linear):\n"
        "    width = 5\n"
        "    def features(self, x):\n"
        "        return self(x.flatten(1))\n"
        "def flat(shape, classes):\n"
        "    return Flat(torch.tensor(shape).prod(), 5)\n"
    )
    model = {"model": f"{path}:flat"}
    assert check_strategy("simplecil", **model) == ["til", "cil", "dil", "online", "task-free"]
    with pytest.raises(UsageError, match="adapt=adapter changes a vision transformer"):
        started("aper", info(), **model)
    assert started("aper", info(), adapt="full", **model).model.width == 10


# -- adapting on the first task -------------------------------------------------------------------------------------


@pytest.mark.parametrize("adapt", ["adapter", "norms", "full"])
def test_a_change_begins_as_none_and_is_trained_in_the_first_task_alone(adapt):
    stream = pictures()
    strategy = made("aper", stream, adapt=adapt, adapter_width=3)
    x = questions(stream)
    with torch.no_grad():
        start, changed = strategy.model.features(x).chunk(2, 1)
        torch.testing.assert_close(start, changed, rtol=0, atol=1e-6)
    blank = parameters(strategy)
    body = {name: p.clone() for name, p in strategy.model.network.named_parameters()}
    steps = []
    strategy.context.tick = lambda step, total: steps.append((step, total))
    learn(strategy, stream, 1)
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    after = parameters(strategy)
    assert not torch.equal(after, blank)
    with torch.no_grad():
        same, changed = strategy.model.features(x).chunk(2, 1)
    assert torch.equal(same, start) and (changed - start).abs().max() > 1e-4
    learn(strategy, stream, 3, first=1)
    assert len(steps) == 4 and torch.equal(parameters(strategy), after)
    assert all(torch.equal(p, body[name]) for name, p in strategy.model.network.named_parameters())


def test_the_first_tasks_class_means_are_of_adapted_features():
    stream = pictures()
    strategy = learn(made("aper", stream), stream, 1)
    data = stream.tasks[0].train
    with torch.no_grad():
        f = strategy.model.features(data.prepare(data.samples))
    expected = torch.stack([f[data.targets == c].mean(0) for c in (0, 1)])
    torch.testing.assert_close(strategy.prototypes.means()[:2], expected)
    assert strategy.prototypes.counts.tolist() == [4, 4, 0, 0, 0, 0]


def test_only_the_first_tasks_classes_compete_and_the_rate_falls_to_nothing():
    seen = []

    class Watched(APER):
        def after_step(self, batch):
            head = self.model.head
            seen.append((head.bias.grad[2:].abs().max().item(), self.optimizer.param_groups[0]["lr"]))

    stream = pictures(tasks=2)
    learn(started(Watched, stream, **STRATEGIES["aper"]), stream)
    assert [outside for outside, _ in seen] == [0.0] * 4
    assert [round(rate, 4) for _, rate in seen] == [0.05, 0.0427, 0.025, 0.0073]


# -- ridge ----------------------------------------------------------------------------------------------------------


def regression(n: int, m: int, classes: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """Random features [n, m], classes [n], one-hot [n, classes]."""
    draw = torch.Generator().manual_seed(n + m)
    y = torch.randint(classes, (n,), generator=draw)
    f = torch.randn(n, 6, generator=draw) + 2 * torch.eye(classes, 6)[y]
    return RandomFeatures(6, m, 0, "test")(f), y, F.one_hot(y, classes).double()


@pytest.mark.parametrize(("n", "m"), [(30, 80), (80, 30), (40, 40)])
def test_one_decomposition_gives_the_solution_of_every_ridge(n, m):
    """Fewer samples than features (dual) and more (primal), against a plain solve."""
    h, _, Y = regression(n, m)
    H = h.double()
    V, s, B = spectrum(H, Y)
    assert len(s) == min(n, m)
    for ridge in (1e-2, 1.0, 1e2, 1e5):
        plain = torch.linalg.solve(H.T @ H + ridge * torch.eye(m, dtype=torch.float64), H.T @ Y)
        torch.testing.assert_close(V / (s + ridge) @ B, plain, rtol=1e-8, atol=1e-8)


def test_sums_task_by_task_are_sums_at_once(monkeypatch):
    monkeypatch.setattr("carryover.strategies.parts.ridge.CHUNK", 16)
    h, y, Y = regression(90, 25)
    once, parts = Ridge(25, 3, CPU), Ridge(25, 3, CPU)
    once.add(h, y)
    for index in torch.randperm(90).split(20):
        parts.add(h[index], y[index])
    for ridge in (1e-3, 10.0):
        W = once.solve(ridge)
        torch.testing.assert_close(W, parts.solve(ridge), rtol=1e-9, atol=1e-9)
        H = h.double()
        torch.testing.assert_close((H.T @ H + ridge * torch.eye(25)) @ W, H.T @ Y, rtol=1e-8, atol=1e-6)
    again = Ridge(25, 3, CPU)
    again.load_state_dict(once.state_dict())
    assert torch.equal(again.solve(10.0), once.solve(10.0))  # solving leaves the sums as they are


@pytest.mark.parametrize(("n", "m"), [(50, 80), (120, 40)])
def test_the_ridge_is_the_best_on_a_fifth_that_was_not_fitted(n, m):
    h, y, Y = regression(n, m)
    H, order = h.double(), torch.randperm(n, generator=torch.Generator().manual_seed(3))
    fit, held = order[: n * 4 // 5], order[n * 4 // 5 :]
    errors = []
    for ridge in RIDGES:
        G = H[fit].T @ H[fit] + ridge * torch.eye(m, dtype=torch.float64)
        errors.append((H[held] @ torch.linalg.solve(G, H[fit].T @ Y[fit]) - Y[held]).square().mean())
    best = RIDGES[int(torch.stack(errors).argmin())]
    assert choose_ridge(h, y, torch.Generator().manual_seed(3)) == best and best not in (RIDGES[0], RIDGES[-1])


def test_fewer_samples_than_features_can_be_solved_at_any_ridge():
    h, y, _ = regression(20, 200)
    sums = Ridge(200, 3, CPU)
    sums.add(1000 * h, y)
    W = sums.solve(max(1e-8, sums.least()))
    assert torch.equal((1000 * h.double() @ W).argmax(1), y)


def test_ranpac_is_ridge_regression_on_all_samples():
    stream = pictures(noise=1.0)
    strategy = learn(made("ranpac", stream, ridge=5.0), stream)
    x = torch.cat([task.train.prepare(task.train.samples) for task in stream])
    y = torch.cat([task.train.targets for task in stream])
    H = F.relu(strategy.model.features(x) @ strategy.lift.weight).double()
    G = H.T @ H + 5 * torch.eye(40, dtype=torch.float64)
    W = torch.linalg.solve(G, H.T @ F.one_hot(y).double())
    torch.testing.assert_close(strategy.weights, W.float(), rtol=1e-3, atol=1e-4)
    assert strategy.context.diagnostics["ridge"] == [5.0] * 3
    assert abs(float(strategy.lift.weight.std()) - 1) < 0.1
    other = started("ranpac", stream, seed=1, **STRATEGIES["ranpac"])
    assert not torch.equal(other.lift.weight, strategy.lift.weight)


def test_a_ridge_that_drowns_in_rounding_is_raised():
    stream = pictures()
    strategy = learn(made("ranpac", stream, width=500, ridge=1e-12), stream)
    assert all(1e-10 < ridge < 1e-5 for ridge in strategy.context.diagnostics["ridge"])
    data = stream.tasks[1].train
    assert torch.equal(strategy.predict(data.prepare(data.samples), stream.query(0, 3)), data.targets)


def test_ranpac_reads_adapted_features_alone():
    strategy = learn(made("ranpac", **ADAPTING, adapt="norms"), pictures(), 1)
    assert strategy.model.width == 16 and not strategy.adapting
    assert [p.shape[0] for p in strategy.lift.parameters()] == [16]


# -- linear probe ---------------------------------------------------------------------------------------------------


def test_the_probe_finds_the_one_solution():
    from sklearn.linear_model import LogisticRegression

    draw = torch.Generator().manual_seed(0)
    y = torch.randint(3, (150,), generator=draw)
    x = torch.randn(150, 5, generator=draw) * torch.tensor([1.0, 5.0, 0.1, 1.0, 2.0]) + y[:, None]
    x[:, 3] = 7.0  # constant
    W, b, reached = logistic(x, 2 * y, 6, 0.01, 1e-8, 1000)
    assert reached < 1e-8 and b[[1, 3, 5]].isneginf().all() and not W[[1, 3, 5]].any()
    z = (x - x.mean(0)) / x.std(0, correction=0).clamp(min=1e-9)
    theirs = LogisticRegression(C=1 / (150 * 0.01), tol=1e-10, max_iter=5000).fit(z.double().numpy(), y.numpy())
    ours = (x.double() @ W.T + b)[:, [0, 2, 4]].softmax(1)
    torch.testing.assert_close(ours, torch.from_numpy(theirs.predict_proba(z.double().numpy())), rtol=0, atol=1e-5)


def test_the_probe_is_of_all_samples_and_each_row_a_solution_of_its_own():
    stream = pictures(noise=1.0)
    strategy = learn(made("linear-probe", stream), stream)
    weight, bias, _ = logistic(strategy.memory.samples, strategy.memory.targets, 6, 1e-3, 1e-6, 1000)
    assert torch.equal(strategy.weight, weight.float()) and torch.equal(strategy.bias, bias.float())
    assert len(strategy.memory) == 24 and all(g < 1e-6 for g in strategy.context.diagnostics["probe_gradient"])
    x = torch.cat([task.train.prepare(task.train.samples) for task in stream])
    y = torch.cat([task.train.targets for task in stream])
    assert torch.equal(strategy.predict(x, stream.query(0, 3)), y)  # more features than it takes to tell 24 apart


def test_domains_share_one_classifier():
    """The same classes in every task: means and sums are over all of them."""
    stream = pictures(DIL)
    for name in ("simplecil", "ranpac", "linear-probe"):
        strategy = learn(made(name, stream), stream)
        if name == "simplecil":
            assert strategy.prototypes.counts.tolist() == [12, 12]
        x = torch.cat([task.train.prepare(task.train.samples) for task in stream])
        right = strategy.predict(x, stream.query(0, 3)) == torch.cat([task.train.targets for task in stream])
        assert right.float().mean() > 0.7, name
