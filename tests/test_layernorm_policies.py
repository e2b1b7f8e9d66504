"""C-LN on policies: norms of others in the policy's transformer, a head beside them, and the policy that is shipped."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from functools import cache

import pytest
import torch
from carryover.base.errors import MismatchError, UsageError
from carryover.evaluation.cost import ledger
from carryover.evaluation.run import run_seed
from carryover.strategies import check_strategy
from carryover.strategies.backbones import build, cloning
from carryover.strategies.backbones.cloning import PolicyRecipe
from carryover.strategies.backbones.pretrain import pretrain, recipe_of
from carryover.strategies.backbones.vit import Plugs
from carryover.strategies.core import load_strategy
from carryover.strategies.layernorm import LayerNorm
from carryover.strategies.parts.norms import NormSets
from carryover.streams import load_stream
from carryover.streams.core import Stream
from carryover.tests.toys import learn, reaching, started
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

torch.set_num_threads(1)
SMALL = {"model": "bc-transformer", "model.width": 8, "model.hidden": 12, "batch_size": 12, "lr": 0.02, "pool": 3}
STAGED = {"key_epochs": 1, "epochs": 1}
ONE = {"keys": "mean", "steps": 3}
SINGLE = {"variant": "single-forward", "epochs": 2}


@cache
def table(suite: str = "object", **options) -> Stream:
    """Two tasks of a robot's, with few demonstrations and attempts."""
    return load_stream(f"libero-{suite}-mini", **{"n_tasks": 2, "demonstrations": 4, "attempts": 3} | options)


def frames(stream: Stream) -> Tensor:
    """Inputs [B, H, D] of all tasks."""
    return torch.cat([task.train.prepare(task.train.samples[::4]) for task in stream])


def made(stream: Stream, **settings) -> LayerNorm:
    """After `setup`."""
    return started("layernorm", stream, **(SMALL | settings))


# -- other norms in a policy ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("history", [1, 3])
@torch.no_grad()
def test_every_norm_is_asked_in_its_order_with_the_newest_tokens_first(history):
    stream = table(history=history)
    net, x, seen = build("bc-transformer", stream.info).eval(), frames(table(history=history)), {}
    norms = net.norms()

    def norm(number: int, tokens: Tensor) -> tuple[Tensor, Tensor]:
        seen[number] = tokens
        return norms[number].weight, norms[number].bias

    found = net.features(x, Plugs(norm=norm))
    torch.testing.assert_close(found, net.features(x))
    assert torch.equal(net.head(net.features(x)), net(x)) and found.shape == (len(x), net.width)
    tokens = 2 + stream.info.layout["entities"][0]
    assert list(seen) == [0, 1, 2, 3, 4] and len(norms) == 5
    assert [one.shape[1] for one in seen.values()] == [tokens] * 3 + [1, 1]
    robot, _, said = net.see(x)
    own = net.body.robot(torch.cat([robot[:, -1], said], 1)) + net.body.when[-1]
    torch.testing.assert_close(seen[0][:, 0], own)
    assert torch.equal(net.query(x), seen[2][:, 1])


@torch.no_grad()
def test_norms_of_a_task_for_each_sample_are_those_of_the_task():
    stream = table()
    net, x = build("bc-transformer", stream.info).eval(), frames(stream)
    sets, draw = NormSets(net, 3), torch.Generator().manual_seed(0)
    for one in sets.sets[1:]:
        one.add_(0.5 * torch.randn(one.shape, generator=draw))
    torch.testing.assert_close(net.features(x, sets.plugs(0)), net.features(x))
    chosen = torch.arange(len(x)) % 3
    mixed = net.features(x, sets.plugs(chosen))
    for task in range(3):
        alone = net.features(x[chosen == task], sets.plugs(task))
        torch.testing.assert_close(mixed[chosen == task], alone)
        assert task == 0 or (alone - net.features(x)[chosen == task]).abs().max() > 0.01
    for number in range(5):  # each has its part
        changed = sets.sets[0].clone()
        changed[number] += 0.5 * torch.randn(changed[number].shape, generator=draw)
        plugs = Plugs(norm=lambda n, _, changed=changed: changed[n].unbind(0))
        assert (net.features(x, plugs) - net.features(x)).abs().max() > 0.01


# -- the rules ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        STAGED,
        ONE | {"selection": "validation", "optimizer": "adamw", "weight_decay": 0.1, "clip": 1.0},
        ONE | {"steps": 0, "epochs": 3, "schedule": "plateau", "model.head": "mixture"},
        SINGLE | {"detach": True},
    ],
)
def test_the_rules_hold(settings):
    """Resumed at any step it ends the same; an answer depends on its own input; the same seed, the same policy; ..."""
    assert check_strategy("layernorm", [reaching(tasks=2, train=12)], **(SMALL | settings)) == ["dil"]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"model": "bc-mlp"}, "Set model=bc-micro"),
        ({"keys": "prototypes"}, "keys=prototypes goes by classes"),
        ({"head_init": "prototypes"}, "head_init=prototypes goes by classes"),
        ({"weight_decay": 0.1}, "would move"),
        ({"steps": 3}, "steps does not say which. Leave it out, or have one stage by keys=mean"),
        ({"selection": "validation"}, "cannot compare"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(settings, says):
    options = {"model": "bc-transformer"} | settings
    with pytest.raises(UsageError, match=says) as refused:
        started("layernorm", reaching(), **options)
    assert "\n" not in str(refused.value)


def test_the_passes_that_are_made_are_counted():
    for settings, passes in ((STAGED, 2), (SINGLE, 2), ({"keys": "mean", "epochs": 2}, 3)):
        stream = reaching(tasks=2)
        strategy = learn(made(stream, **settings), stream)
        assert [task.train.drawn["samples"] / len(task.train) for task in stream] == [passes, passes]
        assert strategy.passes() + strategy.extra_passes() == passes


# -- what is learnt -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [STAGED, ONE, SINGLE])
def test_a_task_moves_what_it_owns_and_nothing_else(settings):
    stream = reaching()
    strategy = learn(made(stream, **settings), stream, 1)
    before = {name: value.clone() for name, value in strategy.model.state_dict().items()}
    learn(strategy, stream, 2, first=1)
    after = strategy.model.state_dict()
    moved = {name for name, value in before.items() if not torch.equal(value, after[name])}
    own = {"sets.sets.1", "heads.1.weight", "heads.1.bias"}
    assert moved == own | ({"keys.keys.1", "keys.alphas.1"} if settings is SINGLE else {"keys.keys"})
    if settings is not SINGLE:
        assert (before["keys.keys"] != after["keys.keys"]).any(1).tolist() == [False, True, False]


@pytest.mark.parametrize("settings", [ONE, SINGLE])
@torch.no_grad()
def test_with_the_task_told_an_old_answer_never_changes(settings):
    stream = reaching()
    strategy, x, query = made(stream, **settings), frames(stream), stream.query(0, 3)
    first = torch.zeros(len(x), dtype=torch.int64)
    net = strategy.model.vit
    assert torch.equal(strategy.predict(x, query), net.head.act(net(x)))  # as it came
    with torch.enable_grad():
        learn(strategy, stream, 1)
    answer = strategy.predict(x, query, first)
    assert (answer - net.head.act(net(x))).abs().max() > 0.01
    torch.testing.assert_close(strategy.predict(x, query), answer)  # there is nothing else to choose
    with torch.enable_grad():
        learn(strategy, stream, 3, first=1)
    assert torch.equal(strategy.predict(x, query, first), answer)
    if settings is ONE:
        chosen = strategy.select_task(x, query)
        assert torch.equal(strategy.predict(x, query, chosen), strategy.predict(x, query))


def test_a_task_starts_where_the_one_before_ended():
    stream = reaching()
    strategy = learn(made(stream, **ONE), stream, 1)
    strategy.tasks_begun += 1
    strategy.context.begin(1)
    strategy.begin_task(stream.tasks[1])
    model = strategy.model
    assert torch.equal(model.sets.sets[1], model.sets.sets[0])
    assert torch.equal(model.heads[1].weight, model.heads[0].weight)
    assert not torch.equal(model.heads[1].weight, model.heads[2].weight)  # it has learnt


@torch.no_grad()
def test_each_answer_is_of_the_head_of_its_own_task():
    stream = reaching()
    strategy, x = made(stream, **ONE), frames(stream)
    for task, head in enumerate(strategy.model.heads):
        head.bias.fill_(task - 1)
        head.weight.zero_()
    strategy.tasks_begun = 3
    chosen = torch.arange(len(x)) % 3
    expected = (chosen[:, None] - 1.0).tanh().expand(-1, 3)
    torch.testing.assert_close(strategy.predict(x, stream.query(0, 3), chosen), expected)


def test_what_a_task_costs_in_memory():
    strategy = made(reaching(), **ONE)
    cost = ledger(strategy, strategy.context)
    assert cost.params_trained == 3 * (5 * 2 * 8) + 3 * (12 * 3 + 3)  # norms and heads of the pool
    body = sum(p.numel() for p in strategy.model.vit.parameters())
    assert cost.params_total == cost.params_trained + body + 3 * 8  # and keys that are placed


def test_the_head_s_rate_may_be_its_own():
    strategy = learn(made(reaching(), temporary_lr=0.5, **ONE), reaching(), 0)
    strategy.tasks_begun = 1
    strategy._enter("norms")
    groups = strategy.new_optimizer().param_groups
    assert [(group["lr"], len(group["params"])) for group in groups] == [(0.02, 1), (0.5, 2)]


def test_a_key_is_the_direction_of_what_the_frozen_network_says():
    stream = reaching()
    strategy = learn(made(stream, **ONE), stream, 1)
    with torch.no_grad():
        found = strategy.model.vit.query(stream.tasks[0].train.samples)
    expected = torch.nn.functional.normalize(torch.nn.functional.normalize(found, dim=1).mean(0), dim=0)
    torch.testing.assert_close(strategy.model.keys.keys[0], expected)


# -- the policy that is shipped -------------------------------------------------------------------------------------


def test_the_shipped_weights_are_those_of_the_recipe():
    net = build("bc-micro", table().info)
    with safe_open(cloning.WEIGHTS, "pt") as file:
        told = json.loads(file.metadata()["recipe"])
    recipe = asdict(PolicyRecipe())
    assert {name: told[name] for name in recipe} == recipe and recipe_of("bc-micro") is PolicyRecipe
    assert net.pretrained.name == "bc-micro" and net.pretrained.sha256 == WEIGHTS
    assert "libero-90-mini" in net.pretrained.data and "libero-goal-mini" in net.pretrained.overlap
    assert told["success"] > 0.5


@pytest.mark.parametrize("name", ["finetune", "er", "layernorm"])
def test_a_run_starts_from_the_shipped_policy_and_its_record_says_so(name):
    settings = {"model": "bc-micro", "lr": 0.001, "batch_size": 16, "steps": 2}
    settings |= {"keys": "mean"} if name == "layernorm" else {}
    record, _ = run_seed(load_strategy(name)(**settings), table("spatial"), 0)
    assert record.status == "complete"
    assert (record.usage.pretrained.name, record.usage.pretrained.sha256) == ("bc-micro", WEIGHTS)
    assert sum(record.correct[0]) == sum(zero_shot(table("spatial")))


def zero_shot(stream: Stream) -> list[int]:
    """Successes in each task with what is shipped alone."""
    net = build("bc-micro", stream.info).eval()
    with torch.no_grad():
        return [int(test.score(lambda x: net.head.act(net(x))).sum()) for test in stream.tests]


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"history": 3}, MismatchError, r"body.when has the shape \[1, 1, 32\], not \[3, 1, 32\]"),
        ({"language": "one-hot"}, UsageError, "set stream.language=words"),
    ],
)
def test_where_it_does_not_fit_it_says_so(options, error, says):
    with pytest.raises(error, match=says) as refused:
        build("bc-micro", table(**options).info)
    assert "\n" not in str(refused.value)


def test_pre_training_gives_the_same_file_for_the_same_seed(tmp_path, monkeypatch):
    monkeypatch.setattr(cloning, "STREAM", "libero-object-mini")
    recipe = {"demonstrations": 2, "attempts": 1, "batch_size": 8}
    heard = []
    first = pretrain(tmp_path / "a.safetensors", PolicyRecipe(steps=3, **recipe), told=heard.append)
    again = pretrain(tmp_path / "b.safetensors", PolicyRecipe(steps=3, **recipe))
    other = pretrain(tmp_path / "c.safetensors", PolicyRecipe(steps=3, seed=1, **recipe))
    assert first["sha256"] == again["sha256"] != other["sha256"] and heard == [1, 2, 3]
    assert first["bytes"] == (tmp_path / "a.safetensors").stat().st_size < 120_000
    path = tmp_path / "a.safetensors"
    held, net = load_file(path), build("bc-micro", table().info, weights=str(path))
    assert net.pretrained.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (net.pretrained.name, first["frames"]) == ("a.safetensors", other["frames"])
    for name, value in net.state_dict().items():
        assert torch.equal(value, held[name].float())


def test_weights_of_other_words_are_refused(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file(load_file(cloning.WEIGHTS), path, {"recipe": json.dumps({"vocabulary": "other"})})
    with pytest.raises(MismatchError, match="not trained on the words"):
        build("bc-micro", table().info, weights=str(path))


WEIGHTS = "65f958023c0391baf2735484e590f862e7001c2ac16cf72be801c577b4b51cde"
