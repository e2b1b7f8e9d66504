"""SLCA: what is drawn has the law it should, alignment moves the head alone and is undone, and idle rows keep still."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from carryover.base.errors import UsageError
from carryover.evaluation.cost import ledger
from carryover.strategies import check_strategy
from carryover.strategies.backbones import vits
from carryover.strategies.parts.gaussians import Gaussians
from carryover.strategies.slca import SLCA, norm_by_task
from carryover.streams.core import CIL, DIL, ONLINE, TIL, Stream
from carryover.tests.toys import info, learn, pictures, started
from torch import Tensor

pytest.importorskip("timm")
torch.set_num_threads(1)

SHAPE, WIDTH = (3, 24, 24), 12
FAST = {"model.weights": "random", "batch_size": 5, "epochs": 2, "align_samples": 32, "lr": 0.01, "head_lr": 0.1}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """vit-micro in its form, but smaller: 17 tokens, 2 blocks of width 12."""
    monkeypatch.setattr(vits, "MICRO", {"patch_size": 6, "embed_dim": WIDTH, "depth": 2, "num_heads": 2})


pictures = partial(pictures, train=10, test=4)


def made(stream: Stream | None = None, **settings) -> SLCA:
    return started("slca", stream or pictures(), **(FAST | settings))


def state(strategy: SLCA) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in strategy.model.state_dict().items()}


def moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> dict[str, list[int]]:
    """Which rows of what changed."""
    differs = {name: (old != after[name]).reshape(len(old), -1).any(1) for name, old in before.items()}
    return {name: rows.nonzero()[:, 0].tolist() for name, rows in differs.items() if rows.any()}


@pytest.mark.parametrize(
    ("settings", "setting", "tasks"),
    [
        ({"epochs": 1}, CIL, 3),
        ({"compete": "seen", "temperature": 0.0, "schedule": "cosine"}, TIL, 2),
        ({"optimizer": "adamw", "momentum": 0.0, "clip": 1.0}, DIL, 2),
        ({"align": False, "epochs": 1}, ONLINE, 2),
    ],
)
def test_the_rules_hold(settings, setting, tasks):
    """Resumed at any step it ends the same, no test data is read, each prediction is of its own sample alone, ..."""
    stream = pictures(setting, tasks=tasks, train=6, test=2)
    assert check_strategy("slca", [stream], **(FAST | settings)) == [setting.name]


@pytest.mark.parametrize(
    ("settings", "setting", "says"),
    [
        ({"model": "mlp"}, CIL, "the model mlp tells none"),
        ({"epochs": 1, "model.weights": "random"}, ONLINE, "makes 2 passes"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(settings, setting, says):
    with pytest.raises(UsageError, match=says) as refused:
        started("slca", info(setting, 6, SHAPE), **settings)
    assert "\n" not in str(refused.value)


# -- the slow learner -----------------------------------------------------------------------------------------------


def test_the_body_learns_slowly_and_both_rates_fall_to_a_tenth():
    strategy, rates = made(epochs=5), []
    strategy.context.tick = lambda step, total: rates.append([g["lr"] for g in strategy.optimizer.param_groups])
    learn(strategy, pictures(), 1)
    assert rates == [[0.01, 0.1]] * 8 + [[pytest.approx(0.001), pytest.approx(0.01)]] * 2
    assert strategy.Config().head_lr == pytest.approx(100 * strategy.Config().lr)


@pytest.mark.parametrize(("compete", "trained"), [("task", [2, 3]), ("seen", [0, 1, 2, 3]), ("all", list(range(6)))])
def test_rows_that_do_not_compete_keep_still(compete, trained):
    """Weight decay would shrink them; those of the task it does shrink, as the body."""
    stream = pictures()
    strategy = learn(made(stream, compete=compete, align=False), stream, 1)
    before = state(strategy)
    learn(strategy, stream, 2, first=1)
    found = moved(before, state(strategy))
    assert found["head.weight"] == found["head.bias"] == trained
    assert len(found) == len(list(strategy.model.parameters()))  # all of the body moves


def test_rows_of_the_task_do_decay():
    weights = []
    for decay in (0.0, 0.5):
        strategy = learn(made(weight_decay=decay, align=False), pictures(), 1)
        weights.append(strategy.model.head.weight.detach().norm(dim=1))
    assert (weights[1][:2] < weights[0][:2]).all() and torch.equal(weights[0][2:], weights[1][2:])


# -- Gaussians ------------------------------------------------------------------------------------------------------


def fitted(width: int = 4, count: int = 50) -> tuple[Gaussians, Tensor, Tensor]:
    """Two tasks of two classes with features that are correlated, and of their own length."""
    draw = torch.Generator().manual_seed(3)
    mix = torch.randn(4, width, width, generator=draw)
    y = torch.arange(4 * count) % 4
    noise = torch.randn(4 * count, 1, width, generator=draw)
    x = (noise @ mix[y])[:, 0] + 5 * torch.randn(4, width, generator=draw)[y]
    gaussians = Gaussians(jitter=1e-4)
    for task in (0, 1):
        own = y // 2 == task
        gaussians.fit(x[own], y[own], task)
    return gaussians, x, y


def test_what_is_kept_is_the_mean_and_the_covariance():
    gaussians, x, y = fitted()
    assert gaussians.classes == [0, 1, 2, 3] and gaussians.tasks == [0, 0, 1, 1]
    for c in range(4):
        covariance = torch.cov(x[y == c].T.double())
        ridge = 1e-4 * covariance.diagonal().mean() * torch.eye(4)
        torch.testing.assert_close(gaussians.means[c], x[y == c].mean(0))
        torch.testing.assert_close(gaussians.factors[c] @ gaussians.factors[c].T, (covariance + ridge).float())


def test_what_is_drawn_has_that_law_for_each_class():
    gaussians, x, y = fitted()
    scale = torch.tensor([0.95, 0.95, 1.0, 1.0])
    drawn = gaussians.draw(40_000, scale, torch.Generator().manual_seed(4))
    assert drawn.shape == (4, 40_000, 4)
    for c in range(4):
        spread = gaussians.factors[c] @ gaussians.factors[c].T
        error = 5 * spread.diagonal().sqrt() / 200
        assert ((drawn[c].mean(0) - scale[c] * gaussians.means[c]).abs() < error).all()
        assert (torch.cov(drawn[c].T) - spread).abs().max() < 5 * spread.diagonal().max() * math.sqrt(2) / 200
    one = gaussians.draw(40_000, scale, torch.Generator().manual_seed(5))  # another draw
    assert not torch.equal(one, drawn)
    noise = torch.randn(4, 40_000, 4, generator=torch.Generator().manual_seed(4))
    for c in range(4):  # class by class
        by_hand = scale[c] * gaussians.means[c] + noise[c] @ gaussians.factors[c].T
        torch.testing.assert_close(drawn[c], by_hand, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("count", [1, 3, 20])
def test_few_samples_of_any_size_have_a_factor(count, size):
    x = size * torch.randn(count, 16, generator=torch.Generator().manual_seed(6))
    gaussians = Gaussians()
    gaussians.fit(x, torch.zeros(count, dtype=torch.int64), 0)
    drawn = gaussians.draw(500, torch.ones(1), torch.Generator().manual_seed(7))[0]
    assert drawn.isfinite().all()
    expected = 0 if count == 1 else x.var(0).mean().sqrt().item()
    assert (drawn - gaussians.means).square().mean().sqrt().item() == pytest.approx(expected, rel=0.1, abs=1e-4 * size)


def test_a_class_that_comes_again_is_replaced():
    gaussians, x, y = fitted()
    again = y == 1
    gaussians.fit(x[again] + 10, y[again], 2)
    assert gaussians.classes == [0, 2, 3, 1] and gaussians.tasks == [0, 1, 1, 2]
    torch.testing.assert_close(gaussians.means[3], x[again].mean(0) + 10)
    assert gaussians.means.shape == (4, 4) and gaussians.factors.shape == (4, 4, 4)


# -- alignment ------------------------------------------------------------------------------------------------------


def test_logits_are_divided_by_their_norm_averaged_over_tasks():
    logits = torch.tensor([[3.0, 4.0, 5.0, 12.0], [1.0, 0.0, 0.0, 2.0]])
    columns = [torch.tensor([0, 1]), torch.tensor([2, 3])]
    torch.testing.assert_close(norm_by_task(logits, columns), torch.tensor([[9.0], [1.5]]))


def test_alignment_moves_the_rows_of_seen_classes_and_nothing_else():
    strategy, stream, found = made(), pictures(), []
    align = strategy._align

    def watched():
        before = state(strategy)
        align()
        found.append(moved(before, state(strategy)))

    strategy._align = watched
    learn(strategy, stream)
    rows = [0, 1, 2, 3]
    assert found == [
        {"head.weight": rows, "head.bias": rows},
        {"head.weight": [*rows, 4, 5], "head.bias": [*rows, 4, 5]},
    ]


def test_alignment_lowers_the_loss_on_what_is_drawn():
    stream = pictures()
    strategy = learn(made(stream, align_epochs=20), stream, 2)
    draw = strategy.gaussians.draw(64, torch.ones(4), torch.Generator().manual_seed(8)).flatten(0, 1)
    y = torch.tensor(strategy.gaussians.classes).repeat_interleave(64)

    def loss(head):
        logits = F.linear(draw, head["weight"], head["bias"])[:, :4]
        return F.cross_entropy(logits / norm_by_task(logits, [torch.tensor([0, 1]), torch.tensor([2, 3])]) / 0.1, y)

    assert loss(strategy.model.head.state_dict()) < 0.9 * loss(strategy.unaligned)


def test_means_of_earlier_tasks_are_drawn_nearer_to_zero():
    stream, asked = pictures(), []
    strategy = made(stream, align_epochs=1)
    draw = strategy.gaussians.draw
    strategy.gaussians.draw = lambda count, scale, generator: (
        asked.append(scale.tolist()) or draw(count, scale, generator)
    )
    learn(strategy, stream)
    third, two = 0.9 + 0.1 / 3, 0.9 + 0.2 / 3
    assert asked[0] == pytest.approx([0.95, 0.95, 1, 1])
    assert asked[1] == pytest.approx([third, third, two, two, 1, 1])


def test_the_next_task_goes_on_from_the_head_before_alignment():
    """With the same body and the same rows as if there had been no alignment, bit for bit."""
    stream = pictures()
    aligned, plain = made(stream), made(stream, align=False)
    for strategy in (aligned, plain):
        learn(strategy, stream, 2)
    a, b = state(aligned), state(plain)
    assert moved(a, b) == {"head.weight": [0, 1, 2, 3], "head.bias": [0, 1, 2, 3]}
    assert torch.equal(aligned.unaligned["weight"], b["head.weight"])
    seen = []
    aligned.adjust_gradients = lambda batch: seen.append(state(aligned))
    aligned.after_step = lambda batch: None
    learn(aligned, stream, 3, first=2)
    assert not moved(seen[0], b)


def test_the_first_task_is_not_aligned():
    assert learn(made(), pictures(), 1).unaligned is None


def test_what_is_kept_is_counted_as_state():
    stream = pictures()
    strategy = learn(made(stream), stream, 2)
    statistics, head = 4 * (WIDTH + WIDTH**2), 6 * (WIDTH + 1)
    assert ledger(strategy, strategy.context).state_bytes == 4 * (statistics + head)
    assert ledger(made(stream, align=False), strategy.context).state_bytes == 0
    assert [task.train.drawn["samples"] for task in stream][:2] == [30, 30]  # two passes, and one for the statistics
