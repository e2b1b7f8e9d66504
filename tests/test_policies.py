"""Policies: every gradient strategy learns them by the rules, curves are taken where they should, and heads by hand."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from functools import cache

import pytest
import torch
from carryover.base.errors import InvalidError, UsageError
from carryover.benchmarks.launch import run
from carryover.evaluation import run as loop
from carryover.evaluation.evaluator import Evaluator
from carryover.evaluation.record import RunRecord
from carryover.evaluation.run import run_seed
from carryover.leaderboard.rules import check, division
from carryover.strategies import Context, Strategy, TrainConfig, check_strategy
from carryover.strategies.backbones import build
from carryover.strategies.backbones.actions import Head, Mixture
from carryover.strategies.core import load_strategy
from carryover.strategies.parts.imitation import Imitation
from carryover.streams import load_stream
from carryover.streams.core import DIL, TIL, Data, Query, Stream, StreamInfo
from carryover.streams.tabletop.observe import ROBOT, TOKEN
from carryover.tests.toys import FROM_SCRATCH, granted, learn, reaching, started
from torch import Tensor

torch.set_num_threads(1)
# those that learn a policy from scratch; for what stands on a pre-trained one see test_layernorm_policies
NAMES = [name for name in FROM_SCRATCH if "policy" in load_strategy(name).kinds]
TOY = {"model": "bc-mlp", "model.hidden": [8], "batch_size": 12, "lr": 0.01}
QUICK = {"model": "bc-mlp", "model.hidden": [32, 32], "batch_size": 12, "optimizer": "adamw", "lr": 0.02, "steps": 21}
NETWORKS = {
    "bc-mlp": {"hidden": [12]},
    "bc-rnn": {"hidden": 12},
    "bc-transformer": {"width": 8, "depth": 2, "hidden": 12},
}
ACTIONS = Query((0, 1, 2), 3)


@cache
def table(history: int = 1, language: str = "words", suite: str = "object", demonstrations: int = 2) -> Stream:
    """Two tasks of a robot's, with few demonstrations, some of them held out."""
    options = {"n_tasks": 2, "demonstrations": demonstrations, "attempts": 3, "val_fraction": 0.5}
    return load_stream(f"libero-{suite}-mini", history=history, language=language, **options)


def frames(stream: Stream) -> Tensor:
    """Inputs [B, H, D] of both tasks."""
    return torch.cat([task.train.prepare(task.train.samples[::4]) for task in stream])


def network(name: str, stream: Stream, **options) -> torch.nn.Module:
    torch.manual_seed(0)
    return build(name, stream.info, **(NETWORKS[name] | options)).eval()


def settings(name: str, **options) -> dict:
    return {"model": name} | {f"model.{key}": value for key, value in (NETWORKS[name] | options).items()}


# -- every strategy -------------------------------------------------------------------------------------------------


def test_the_strategies_that_learn_policies():
    assert {"finetune", "er", "gem", "agem", "ewc", "joint", "independent", "l2-start", "weight-average"} < set(NAMES)
    assert {"packnet", "gpm", "trgp", "cuber"} < set(NAMES)
    assert not {"lwf", "zscl", "zero-shot", "simplecil", "ranpac", "l2p", "dualprompt", "slca"} & set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_strategy_keeps_the_rules_with_policies(name):
    """Resumed at any step it ends the same; an answer depends on its own input; the same seed, the same policy; ..."""
    stream = reaching(granted(name, DIL), tasks=2)
    own = {"steps": 2, "schedule": "constant", "warmup": 0.0, "optimizer": "sgd"}
    assert check_strategy(name, [stream], **(TOY | own)) == [stream.setting.name]


@pytest.mark.parametrize(
    ("name", "off"),
    [
        ("finetune", {"selection": "validation", "epochs": 2}),
        ("finetune", {"schedule": "plateau", "epochs": 3, "model.head": "mixture"}),
        ("joint", {"selection": "validation"}),
        ("er", {"optimizer": "adamw", "memory": 7, "clip": 1.0, "model.head": "mixture"}),
        ("gem", {"memory": 5, "model.head": "mixture"}),
        ("ewc", {"decay": 0.5, "fisher_samples": 9}),
    ],
)
def test_the_rules_hold_off_the_defaults(name, off):
    assert check_strategy(name, [reaching(tasks=2)], **(TOY | off)) == ["dil"]


@pytest.mark.parametrize(
    ("model", "name"),
    [
        *[("bc-rnn", name) for name in ("ewc", "gem", "independent", "packnet", "gpm")],
        *[("bc-transformer", name) for name in ("ewc", "gem", "independent", "packnet", "gpm")],
    ],
)
def test_networks_that_look_at_many_gradients_at_once_do_so_with_every_policy(model, name):
    """Or hold some weights, or put others in their place: recurrent layers and attention are not linear layers."""
    stream = table(3, "one-hot").with_setting(granted(name, DIL))
    own = {"steps": 1, "schedule": "constant", "warmup": 0.0, "optimizer": "sgd", "batch_size": 12}
    more = {"memory": 2} if name == "gem" else {"fisher_samples": 3} if name == "ewc" else {}
    strategy = learn(started(name, stream, **(settings(model) | own | more)), stream)
    assert torch.isfinite(torch.cat([p.detach().flatten() for p in strategy.model.parameters()])).all()
    assert strategy.predict(frames(stream), stream.query(0, 2)).shape == (len(frames(stream)), 3)


@pytest.mark.parametrize(
    ("name", "off", "says"),
    [
        ("finetune", {"model": "mlp"}, "Set model=bc-mlp"),
        ("ewc", {"fisher": "true"}, "fisher=true draws classes"),
        ("trgp", {"regime_head": "fitted"}, "regime_head=fitted solves for classes"),
        ("lwf", {}, "is one of policy"),
        ("packnet", {}, "needs task id at test"),
        ("finetune", {"model.head": "three"}, "head='three' must be one of"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(name, off, says):
    with pytest.raises(UsageError, match=says) as refused:
        started(name, reaching(TIL if name == "trgp" else DIL), **(TOY | off))
    assert "\n" not in str(refused.value)


@dataclasses.dataclass(frozen=True)
class Double:
    """Inputs in float64, so that what should stand still can be seen to."""

    def __call__(self, x: Tensor) -> Tensor:
        return x.double()


@pytest.mark.parametrize("language", ["words", "one-hot"])
@pytest.mark.parametrize("model", list(NETWORKS))
def test_gpm_leaves_the_actions_on_old_inputs_alone(model, language):
    """With a threshold of 1, on some frames of the first task: all tasks share one head, which is a layer like others.

    Wide enough that there is room beside so few inputs.
    """
    stream = table(1, language, demonstrations=4)
    few = [
        dataclasses.replace(t, train=Data(t.train.samples[:6], t.train.targets[:6].double(), Double()))
        for t in stream.tasks
    ]
    stream = dataclasses.replace(stream, tasks=few)
    wide = {"hidden": [40, 40]} if model == "bc-mlp" else {"hidden": 40} | ({"width": 32} if "tr" in model else {})
    strategy = started("gpm", stream, threshold=1.0, lr=0.05, momentum=0.9, epochs=10, **settings(model, **wide))
    strategy.model.double()
    x = few[0].train.prepare(few[0].train.samples)
    other = few[1].train.prepare(few[1].train.samples)
    learn(strategy, stream, 1)
    old, new = strategy.model(x).detach(), strategy.model(other).detach()
    learn(strategy, stream, 2, 1)
    assert (strategy.model(x) - old).abs().max() < 1e-9
    assert (strategy.model(other) - new).abs().max() > 1e-4, "it did not learn"


# -- learning curves ------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """Not an Exception, so that nothing tidies up on its way."""


def test_a_curve_begins_where_the_task_does_and_ends_in_the_matrix():
    stream = reaching()
    found, _ = run_seed(load_strategy("finetune")(**QUICK), stream, 0)
    assert [len(curve) for curve in found.curves] == [stream.points + 1] * 3
    for t, curve in enumerate(found.curves):
        assert curve[0] == found.correct[t][t] and curve[-1] == found.correct[t + 1][t]
    assert len({count for curve in found.curves for count in curve}) > 2  # there is something to see
    assert not found.usage.success_reads


@pytest.mark.parametrize("points", [1, 4, 50])
def test_points_lie_at_equal_shares_of_a_task_and_are_never_too_few(points):
    """With more points than steps, a step counts for several."""
    at, stream = [], reaching(tasks=1, points=points)
    strategy = load_strategy("finetune")(**QUICK)
    own = Evaluator.own
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Evaluator, "own", lambda *args: at.append(strategy.step) or own(*args))
        found, _ = run_seed(strategy, stream, 0)
    assert len(found.curves[0]) == points + 1
    expected = {round(k * 21 / points) for k in range(1, points + 1)} - {0}
    assert at == sorted(expected)


@pytest.mark.parametrize("selection", ["last", "validation", "simulator"])
@pytest.mark.parametrize("name", ["er", "packnet"])
def test_stopped_after_every_single_step_the_curves_are_the_same(name, selection, monkeypatch, tmp_path):
    """Between two points, at one, and in PackNet's retraining."""
    stream, own = reaching(granted(name, DIL), tasks=2), QUICK | {"steps": 7, "selection": selection}
    whole, bits = run_seed(load_strategy(name)(**own), stream, 0)
    path, lives, done, save = tmp_path / "c.safetensors", 0, None, loop.save_state

    def save_and_die(*args):
        save(*args)
        raise Killed

    monkeypatch.setattr(loop, "save_state", save_and_die)
    while done is None and lives < 50:
        lives += 1
        with contextlib.suppress(Killed):
            done = run_seed(load_strategy(name)(**own), stream, 0, checkpoint=path, every=0.0)
    assert done[0].result_digest() == whole.result_digest() and done[1] == bits
    assert done[0].curves == whole.curves and done[0].measured.resumed == lives - 1 >= whole.cost.steps


def test_asking_for_a_curve_changes_nothing_else():
    stream = reaching()
    strategies = []
    for points in (0, 4):
        strategies.append(load_strategy("er")(**QUICK))
        run_seed(strategies[-1], dataclasses.replace(stream, points=points), 0)
    for p, q in zip(*(s.model.parameters() for s in strategies), strict=True):
        assert torch.equal(p, q)


def test_a_selection_by_validation_keeps_the_best_of_the_points():
    strategy, stream = started("finetune", reaching(), **QUICK, selection="validation"), reaching()
    val, losses, weights = stream.tasks[0].val, {}, {}

    def tick(step: int, total: int) -> None:
        with torch.no_grad():
            losses[step] = float(strategy.validation_loss(val.prepare(val.samples), val.targets))
        weights[step] = [p.detach().clone() for p in strategy.model.parameters()]

    strategy.context.tick = tick
    learn(strategy, stream, 1)
    points = [round(k * 21 / 4) for k in range(1, 5)]
    best = min(points, key=losses.get)
    assert all(torch.equal(p, q) for p, q in zip(strategy.model.parameters(), weights[best], strict=True))
    others = [weights[step][0] for step in points if step != best]
    assert not any(torch.equal(strategy.model.state_dict()[first], w) for w in others for first in ["see.embed.weight"])


def test_a_selection_by_successes_takes_the_first_of_the_best_points():
    stream = reaching()
    found, _ = run_seed(load_strategy("finetune")(**QUICK, selection="simulator"), stream, 0)
    for t, curve in enumerate(found.curves):
        assert found.correct[t + 1][t] == max(curve[1:])
    with pytest.raises(UsageError, match="reaching has none"):
        started("finetune", dataclasses.replace(stream, points=0), **QUICK, selection="simulator")


@pytest.mark.parametrize(("selection", "codes"), [("validation", []), ("simulator", ["N205"])])
def test_who_looks_at_successes_is_not_ranked(selection, codes, tmp_path):
    record = run("finetune", reaching(), seeds=3, out=tmp_path, device="cpu", **QUICK, selection=selection)
    findings = [f for f in check(record, None) if f.code.startswith("N")]
    assert [f.code for f in findings] == codes and all("successes in the test" in f.message for f in findings)
    assert (division(findings) == "ranked") == (not codes)
    assert [seed.usage.success_reads for seed in record.runs] == [12 if codes else 0] * 3


@cache
def record() -> RunRecord:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        return run("finetune", reaching(), seeds=2, out=folder, device="cpu", **QUICK)


def test_liberos_metrics_come_out_of_a_record():
    """By hand, from the counts."""
    found, T, N = record(), 3, 5
    fwt, nbt, auc = [], [], []
    for one in found.runs:
        R = [[count / N for count in row] for row in one.correct[1:]]
        areas, drops, covers = [], [], []
        for j, curve in enumerate(one.curves):
            frozen = [max(curve[: e + 1]) if max(curve) in curve[: e + 1] else c for e, c in enumerate(curve)]
            areas.append(sum(frozen) / N / len(curve))
            later = [R[t][j] for t in range(j + 1, T)]
            drops.append(sum(R[j][j] - value for value in later) / len(later) if later else 0)
            covers.append((areas[-1] + sum(later)) / (1 + len(later)))
        fwt.append(sum(areas) / T), nbt.append(sum(drops) / T), auc.append(sum(covers) / T)
    metrics = found.metrics()
    for name, values in (("fwt_libero", fwt), ("nbt_libero", nbt), ("auc_libero", auc)):
        assert metrics[name]["per_seed"] == pytest.approx(values), name
    assert max(nbt) > 0.1


@pytest.mark.parametrize(
    "spoil",
    [
        lambda curves: [[6, *curves[0][1:]], *curves[1:]],  # more successes than attempts
        lambda curves: curves[:2],
        lambda curves: [*curves, curves[0]],
        lambda curves: [curves[0][:-1], *curves[1:]],
        lambda curves: [[-1, *curves[0][1:]], *curves[1:]],
    ],
)
def test_impossible_curves_are_refused(spoil):
    value = record().plain()
    RunRecord.parse(value, "as it is")
    value["runs"] = [value["runs"][0] | {"curves": spoil(value["runs"][0]["curves"])}]
    with pytest.raises(InvalidError) as refused:
        RunRecord.parse(value, "spoilt")
    assert "\n" not in str(refused.value)


# -- attempts -------------------------------------------------------------------------------------------------------


@cache
def spatial() -> Stream:
    return load_stream("libero-spatial-mini", n_tasks=2, demonstrations=8, attempts=5, val_fraction=0.0)


def nearest(x: Tensor) -> Tensor:
    """What was shown in the most similar frame; its sums do not depend on what else is asked."""
    shown = torch.cat([task.train.samples[:, 0] for task in spatial()])
    actions = torch.cat([task.train.targets for task in spatial()])
    return torch.cat([actions[(row - shown).square().sum(1).argmin()][None, :3] for row in x[:, -1]])


class Nearest(Strategy):
    """Learns nothing and does as the nearest frame."""

    Config, kinds = TrainConfig, ("policy",)

    def predict(self, inputs, query):
        return nearest(inputs)


def test_attempts_together_end_as_attempts_alone():
    """One by one, in batches of any size, and all tasks of a suite at once."""
    alone = [test.score(nearest, 1) for test in spatial().tests]
    assert 0 < sum(int(part.sum()) for part in alone) < 10, "a test needs successes and failures"
    for size in (2, 1024):
        assert all(torch.equal(t.score(nearest, size), part) for t, part in zip(spatial().tests, alone, strict=True))
    joined = spatial().tests[0].joined(spatial().tests[1:])
    for size in (3, 1024):
        assert torch.equal(joined.score(nearest, size), torch.cat(alone))


def test_a_row_is_the_same_in_one_sweep_and_task_by_task():
    """The setting decides: where the task is told, each has a query of its own."""
    rows = []
    for setting in (DIL, TIL):
        evaluator = Evaluator(spatial().with_setting(setting), torch.device("cpu"))
        assert (evaluator._sweep is not None) == (setting is DIL)
        rows.append(evaluator.row(Nearest(TrainConfig()), Context(0), 0))
    assert (rows[0] == rows[1]).all() and rows[0].any()


def test_tests_that_see_in_other_ways_are_not_joined():
    assert table(3).tests[0].joined(table(1).tests) is None
    assert table(1).tests[0].joined(table(1, "one-hot").tests) is None


# -- networks and heads ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", ["words", "one-hot"])
@pytest.mark.parametrize("history", [1, 3])
@pytest.mark.parametrize("head", ["plain", "mixture"])
@pytest.mark.parametrize("name", list(NETWORKS))
@torch.no_grad()
def test_an_answer_is_an_action_and_depends_on_its_own_input_alone(name, head, history, language):
    stream = table(history, language)
    model, x = network(name, stream, head=head), frames(stream)
    objective = Imitation(model)
    answer = objective.decide(model(x), ACTIONS)
    assert answer.shape == (len(x), 3) and (answer.abs() <= 1).all() and answer.std(0).min() > 0
    alone = torch.cat([objective.decide(model(row[None]), ACTIONS) for row in x])
    turned = objective.decide(model(x.flip(0)), ACTIONS).flip(0)
    assert torch.allclose(answer, alone, atol=1e-5) and torch.allclose(answer, turned, atol=1e-5)
    said = {"words": 1.0, "one-hot": 0.0}[language]  # another instruction, another answer
    other = x.clone()
    other[..., stream.info.shape[-1] - list(stream.info.layout.values())[-1][0] :] = said
    assert (objective.decide(model(other), ACTIONS) - answer).abs().max() > 1e-3
    if history > 1:
        other = x.clone()
        other[:, 0, :ROBOT] += 0.5
        assert (objective.decide(model(other), ACTIONS) - answer).abs().max() > 1e-5


@torch.no_grad()
@pytest.mark.parametrize("history", [1, 3])
def test_empty_slots_do_not_matter(history):
    """To attention, where they stand; as many more of them as one likes."""
    stream = table(history)
    model, x = network("bc-transformer", stream), frames(stream)
    (slots, width), length = stream.info.layout["entities"], stream.info.layout["words"][0]
    robot, things, words = x.split([ROBOT, slots * TOKEN, length], -1)
    things = things.unflatten(-1, (slots, width)).clone()
    things[..., 2:4, :] = 0
    x = torch.cat([robot, things.flatten(-2), words], -1)
    order = torch.randperm(slots, generator=torch.Generator().manual_seed(0))
    moved = torch.cat([robot, things[..., order, :].flatten(-2), words], -1)
    assert torch.allclose(model(moved), model(x), atol=1e-5)
    layout = {"robot": (ROBOT,), "entities": (slots + 4, width), "words": (length,)}
    more = StreamInfo("more", (history, x.shape[-1] + 4 * width), 3, DIL, "policy", layout)
    torch.manual_seed(0)
    wider = build("bc-transformer", more, **NETWORKS["bc-transformer"]).eval()
    longer = torch.cat([robot, things.flatten(-2), torch.zeros(*x.shape[:2], 4 * width), words], -1)
    assert torch.allclose(wider(longer), model(x), atol=1e-5)


def test_the_mixtures_loss_by_hand():
    head = Mixture(4, 2)
    assert head.out_features == 5 * (1 + 2 + 2)
    outputs = torch.randn(3, 25, generator=torch.Generator().manual_seed(0))
    a = torch.tensor([[0.2, -0.5], [1.0, -1.0], [0.0, 0.3]])
    expected = []
    for row, action in zip(outputs.double(), a.double(), strict=True):
        modes = row.view(5, 5)
        weights = [math.exp(m[0]) for m in modes]
        density = 0.0
        for m, w in zip(modes, weights, strict=True):
            p = w / sum(weights)
            for mean, spread, value in zip(m[1:3], m[3:5], action, strict=True):
                s = math.log1p(math.exp(spread)) + 1e-4
                p *= math.exp(-(((value - math.tanh(mean)) / s) ** 2) / 2) / (s * math.sqrt(2 * math.pi))
            density += p
        expected.append(-math.log(density))
    assert head.loss(outputs, a).tolist() == pytest.approx(expected, rel=1e-4)
    likeliest = outputs.view(3, 5, 5)[range(3), outputs.view(3, 5, 5)[..., 0].argmax(1)]
    assert torch.allclose(head.act(outputs), likeliest[:, 1:3].tanh())


def test_the_plain_loss_by_hand_and_what_counts_more():
    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = Head(2, 2)

    outputs, a = torch.tensor([[0.0, 1.0], [0.5, -3.0]]), torch.tensor([[0.5, 0.0], [0.0, 1.0]])
    far = (outputs.tanh() - a).abs()
    by_hand = torch.where(far < 1, far.square() / 2, far - 0.5).mean(1)
    objective = Imitation(Model())
    assert torch.allclose(objective.loss(outputs, a, "none"), by_hand)
    weighted = torch.cat([a, torch.tensor([[2.0], [0.5]])], 1)
    assert torch.allclose(objective.loss(outputs, weighted), (by_hand * torch.tensor([2.0, 0.5])).mean())
    assert torch.equal(objective.decide(outputs, ACTIONS), outputs.tanh())


@pytest.mark.parametrize("words", ["frozen", "trained"])
def test_words_are_learnt_where_it_is_told(words):
    stream = table()
    strategy = started("finetune", stream, **settings("bc-mlp", words=words), lr=0.1, batch_size=12)
    before = strategy.model.see.embed.weight.detach().clone()
    learn(strategy, stream, 1)
    moved = (strategy.model.see.embed.weight != before).any(1)
    said = stream.tasks[0].train.samples[0, 0, -stream.info.layout["words"][0] :].long().unique()
    assert set(moved.nonzero()[:, 0].tolist()) == (set(said[said > 0].tolist()) if words == "trained" else set())
