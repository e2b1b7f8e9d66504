"""PackNet: whose a weight is, what never moves again, and the two phases of a task."""

from __future__ import annotations

import pytest
import torch
from carryover.base.errors import UsageError
from carryover.evaluation.cost import ledger
from carryover.evaluation.run import run_seed
from carryover.strategies import check_strategy
from carryover.strategies.check import blob_stream
from carryover.strategies.packnet import FREE, PackNet, matrices
from carryover.streams.core import TIL, Stream
from carryover.tests.toys import captioned, info, learn, reaching, started
from torch import Tensor, nn

torch.set_num_threads(1)
BLOBS = {"model.hidden": [16, 16], "epochs": 4, "lr": 0.1}
POLICY = {"model": "bc-mlp", "model.hidden": [16, 16], "steps": 8, "batch_size": 12}
ADAMW = {"optimizer": "adamw", "lr": 0.02, "weight_decay": 0.5}
OPTIMIZERS = {"momentum and decay": {"momentum": 0.9, "weight_decay": 0.1, "lr": 0.05}, "adamw": ADAMW}


def both() -> dict[str, tuple[Stream, dict]]:
    """A head with rows for each task, and one that tasks divide."""
    return {"classes": (blob_stream(TIL), BLOBS), "policy": (reaching(TIL), POLICY)}


def made(kind: str, **settings) -> tuple[PackNet, Stream]:
    stream, own = both()[kind]
    return started("packnet", stream, **(own | settings)), stream


def inputs(stream: Stream) -> Tensor:
    return torch.cat([task.train.prepare(task.train.samples) for task in stream])


@torch.no_grad()
def outputs(strategy: PackNet, stream: Stream, task: int, seen: int) -> Tensor:
    """What the network gives for a task, before an answer is made of it."""
    strategy.objective.decide = lambda outputs, query: outputs[:, list(query.classes)]
    given = strategy.predict(inputs(stream), stream.query(task, seen))
    del strategy.objective.decide
    return given


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=list(OPTIMIZERS))
@pytest.mark.parametrize("kind", ["classes", "policy"])
def test_what_a_task_owns_and_answers_never_changes_again(kind, optimizer):
    """Bit for bit: weights and outputs of all earlier tasks, while later ones move plenty."""
    strategy, stream = made(kind, **optimizer)
    params, kept, answers = dict(strategy.model.named_parameters()), [], []
    for t in range(3):
        learn(strategy, stream, t + 1, t)
        answers.append(outputs(strategy, stream, t, t + 1))
        kept.append(
            {name: (own, params[name][own].clone()) for name, o in strategy.owner.items() if (own := o == t).any()}
        )
        for j in range(t + 1):
            assert torch.equal(outputs(strategy, stream, j, t + 1), answers[j])
            assert all(torch.equal(params[name][own], value) for name, (own, value) in kept[j].items())
    assert all(sum(len(value) for _, value in own.values()) > 20 for own in kept)
    bare = strategy.model(inputs(stream))[:, list(stream.query(0, 3).classes)]  # nobody's mask: all tasks' weights
    assert not torch.allclose(bare, answers[0], atol=1e-2)


@pytest.mark.parametrize("kind", ["classes", "policy"])
def test_tasks_divide_the_weights_in_the_shares_that_are_told(kind):
    strategy, stream = made(kind, prune=0.6)
    learn(strategy, stream)
    params = dict(strategy.model.named_parameters())
    assert set(strategy.owner) == set(params)  # each weight has one owner, or none
    for name in strategy.divided():
        size, free = params[name].numel(), params[name].numel()
        for t in range(3):
            given = round(0.6 * free)
            assert (strategy.owner[name] == t).sum() == free - given
            free = given
        assert (strategy.owner[name] == FREE).sum() == free < 0.3 * size
        assert (params[name][strategy.owner[name] == FREE] == 0).all()
    rest = set(params) - set(strategy.divided()) - (set(strategy.head) if kind == "classes" else set())
    assert rest and all("bias" in name and (strategy.owner[name] == 0).all() for name in rest)
    shares = strategy.context.diagnostics["free"]
    assert shares == pytest.approx([0.6, 0.36, 0.216], abs=0.01)


def test_rows_of_the_head_belong_to_the_task_of_their_classes():
    strategy, stream = made("classes")
    start = {name: p.detach().clone() for name, p in strategy.model.named_parameters() if name in strategy.head}
    learn(strategy, stream, 2)
    assert [len(start), *(p.shape[0] for p in start.values())] == [2, 6, 6]
    for name, p in strategy.model.named_parameters():
        if name in strategy.head:
            rows = strategy.owner[name].view(6, -1)
            assert rows[:2].unique() == 0 and rows[2:4].unique() == 1 and rows[4:].unique() == FREE
            assert torch.equal(p[4:], start[name][4:]) and (p[:4] != start[name][:4]).any()
    assert not any(name in strategy.divided() for name in strategy.head)


def test_the_smallest_of_the_new_weights_go_and_the_others_are_trained_on():
    strategy, stream = made("policy", retrain=0.5, prune=0.75, momentum=0.9)
    name, seen = "body.layers.2.weight", []
    weight = dict(strategy.model.named_parameters())[name]
    strategy.context.tick = lambda step, total: seen.append((step, total, weight.detach().clone()))
    prune, before = strategy.prune, {}

    def watched() -> None:
        before["weight"], before["step"] = weight.detach().clone(), strategy.step + 1
        prune()

    strategy.prune = watched
    learn(strategy, stream, 1)
    assert [step for step, _, _ in seen] == list(range(1, 13)) and {total for _, total, _ in seen} == {12}
    assert before["step"] == 8
    own = strategy.owner[name] == 0
    assert before["weight"][own].abs().min() >= before["weight"][~own].abs().max()
    assert torch.equal(seen[7][2], before["weight"] * own)
    for _, _, now in seen[8:]:
        assert (now[~own] == 0).all()  # momentum does not bring them back
        assert not torch.equal(now, seen[7][2])


@pytest.mark.parametrize("fresh", [True, False])
def test_what_is_free_begins_as_in_a_new_network_or_at_zero(fresh):
    strategy, stream = made("policy", fresh=fresh, lr=1e-9)
    learn(strategy, stream, 2)
    params = dict(strategy.model.named_parameters())
    new = dict(strategy.new_model("initial weights 1").named_parameters())
    for name in strategy.divided():
        own = strategy.owner[name] == 1
        expected = new[name][own] if fresh else torch.zeros(int(own.sum()))
        assert own.any() and torch.allclose(params[name][own], expected, atol=1e-6)


def test_without_retraining_a_task_ends_with_the_pruning():
    strategy, stream = made("policy", retrain=0.0)
    totals = set()
    strategy.context.tick = lambda step, total: totals.add(total)
    learn(strategy, stream, 1)
    assert totals == {8} and strategy.context.diagnostics["free"] == pytest.approx([0.75], abs=0.01)


@pytest.mark.parametrize("step", [4, 10], ids=["in training", "in retraining"])
def test_in_the_middle_of_a_task_it_answers_for_all_of_them(step):
    """As it stands for the task that is learnt, for the one to come with what is owned, for the old as ever."""
    strategy, stream = made("policy")
    learn(strategy, stream, 1)
    old, given = outputs(strategy, stream, 0, 1), {}

    def tick(now: int, total: int) -> None:
        if now == step:
            strategy.model.eval()
            given.update({task: outputs(strategy, stream, task, 2) for task in range(3)})
            given["model"] = strategy.model(inputs(stream)).detach()
            strategy.model.train()

    strategy.context.tick = tick
    learn(strategy, stream, 2, 1)
    assert torch.equal(given[0], old) and not torch.equal(given[1], old)
    assert torch.equal(given[1], given["model"]) and torch.equal(given[2], given[1])


@pytest.mark.parametrize("settings", [{}, ADAMW | {"clip": 0.1}, {"retrain": 0.0}, {"prune": 0.0}, {"prune": 1.0}])
@pytest.mark.parametrize("kind", ["classes", "policy"])
def test_the_rules_hold(kind, settings):
    """Resumed at any step, retraining included, it ends the same; an answer is of its own sample alone; ..."""
    stream, own = both()[kind]
    assert check_strategy("packnet", [stream], **(own | {"epochs": 2, "steps": 3} | settings)) == ["til"]


def test_gradients_of_what_is_held_do_not_count_towards_the_clipped_norm():
    strategy, stream = made("policy", clip=1e-3, lr=1.0, fresh=False)
    learn(strategy, stream, 1)
    start = [p.detach().clone() for p in strategy.model.parameters()]
    lengths = []

    def tick(step: int, total: int) -> None:
        if step == 1:
            moved = zip(strategy.model.parameters(), start, strict=True)
            lengths.append(float(torch.cat([(p - s).detach().flatten() for p, s in moved]).norm()))

    strategy.context.tick = tick
    learn(strategy, stream, 2, 1)
    assert lengths == [pytest.approx(1e-3, rel=0.01)]


@pytest.mark.parametrize("rule", ["validation", "simulator"])
def test_a_selection_brings_no_pruned_weights_back(rule):
    """Every point after it is worse here, and yet none before is taken."""
    strategy, stream = made("policy", selection=rule, retrain=1.0, steps=20)
    merits, taken = iter([5.0, 4.0, 3.0, 2.0, -1.0, -2.0, -3.0, -4.0] * 3), []
    strategy._merit = lambda task: taken.append(next(merits)) or taken[-1]
    learn(strategy, stream, 2)
    for name in strategy.divided():
        assert (dict(strategy.model.named_parameters())[name][strategy.owner[name] == FREE] == 0).all()
    assert len(taken) == 8  # four points a task, the second one right after the pruning


def test_the_best_after_the_pruning_is_kept():
    strategy, stream = made("policy", selection="validation", retrain=1.0, steps=20)
    merits, seen = iter([9.0, 1.0, 3.0, 2.0]), {}
    strategy._merit = lambda task: next(merits)
    strategy.context.tick = lambda step, total: seen.update({step: torch.cat([p.detach().flatten() for p in params])})
    params = list(strategy.model.parameters())
    learn(strategy, stream, 1)
    end = torch.cat([p.detach().flatten() for p in params])
    assert torch.equal(end, seen[30]) and not torch.equal(end, seen[40])


def test_averaging_around_it_moves_nothing_that_is_held():
    stream = reaching(TIL)
    around = {f"around.{key}": value for key, value in {"prune": 0.5}.items()}
    strategy = started("weight-average", stream, **POLICY, around="packnet", every=1, **around)
    learn(strategy, stream, 1)
    old = outputs(strategy.inner, stream, 0, 1)
    learn(strategy, stream, 3, 1)
    assert torch.equal(outputs(strategy.inner, stream, 0, 3), old)


def test_a_run_forgets_nothing_and_counts_a_byte_for_a_weight():
    stream, settings = reaching(TIL), POLICY | ADAMW | {"steps": 30, "retrain": 0.5}
    strategy = PackNet(**settings)
    run, _ = run_seed(strategy, stream, 0)
    for j in range(3):
        assert len({run.correct[i][j] for i in range(j + 1, 4)}) == 1
        assert run.curves[j][-1] == run.correct[j + 1][j] and len(run.curves[j]) == stream.points + 1
    assert sum(run.correct[j + 1][j] for j in range(3)) > sum(run.correct[0])
    weights = sum(p.numel() for p in strategy.model.parameters())
    assert run.cost.state_bytes == ledger(strategy, strategy.context).state_bytes == weights
    assert run.cost.steps == 3 * 45 and run.usage.task_id_reads > 0


def test_what_is_divided():
    """Matrices, whether of linear, convolutional, recurrent or attention layers; no biases, norms or embeddings."""
    network = nn.Sequential(nn.Embedding(5, 4), nn.LSTM(4, 3), nn.Conv1d(3, 2, 1), nn.LayerNorm(2), nn.Linear(2, 6))
    weights, head = matrices(network)
    assert weights == ["1.weight_ih_l0", "1.weight_hh_l0", "2.weight", "4.weight"] and head == ["4.weight", "4.bias"]
    assert matrices(nn.Linear(2, 2)) == (["weight"], ["weight", "bias"])


@pytest.mark.parametrize(
    ("stream", "settings", "says"),
    [
        (info(), {}, "needs task id at test"),
        (info(TIL), {"schedule": "plateau"}, "schedule=plateau tells none"),
        (info(TIL, shape=(3, 8, 8)), {"model": "slim-resnet18", "model.norm": "batch"}, "running statistics"),
        (captioned(), {}, "is one of image-text"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(stream, settings, says):
    with pytest.raises(UsageError, match=says) as refused:
        started("packnet", stream, **settings)
    assert "\n" not in str(refused.value)


def test_tasks_beyond_the_numbers_there_are_are_refused():
    strategy, stream = made("policy")
    learn(strategy, stream, 1)
    strategy.tasks_begun = FREE
    with pytest.raises(UsageError, match="at most 255 tasks"):
        learn(strategy, stream, 2, 1)
