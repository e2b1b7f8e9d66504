"""Continual World: what is recorded, how an attempt goes, and what is told, with a fake robot and with the real one."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from carryover.base.errors import InvalidError, StorageError, UsageError
from carryover.evaluation.run import run_seed
from carryover.strategies import load_strategy
from carryover.streams import check_stream, load_stream
from carryover.streams.metaworld import CW10, OFFSET, SCALE, WORLDS, Attempts, inputs
from carryover.streams.sources import metaworld as source

real = pytest.mark.skipif(find_spec("metaworld") is None, reason="Meta-World is not installed")


class Line:
    """A robot on a line: its first number is where it is, its last is where to go, x moves it by a tenth."""

    reached = 0.05

    def __init__(self, task: str) -> None:
        self.task = task

    def start(self, seed: int) -> None:
        g = np.random.RandomState(seed % 2**32)
        self.seen, self.steps, self.success = np.zeros(39), 0, False
        self.seen[0] = g.uniform(-0.5, 0.5)
        self.seen[38] = self.seen[0] + g.choice([-1, 1]) * g.uniform(0.2, 0.6)
        self.executed = []

    def step(self, action: np.ndarray) -> None:
        self.seen = self.seen.copy()
        self.seen[0] += 0.1 * np.clip(action, -1, 1)[0]
        self.executed.append(action)
        self.steps += 1
        self.success = self.success or bool(abs(self.seen[0] - self.seen[38]) < self.reached)


@pytest.fixture
def line(monkeypatch):
    """In place of Meta-World; gives the worlds that were made."""
    made = {}
    expert = lambda seen: np.array([10 * (seen[38] - seen[0]), 0.5, 0, 2])
    monkeypatch.setattr(source, "world", lambda task, number=0: made.setdefault((task, number), Line(task)))
    monkeypatch.setattr(source, "expert", lambda task: expert)
    monkeypatch.setattr(source, "versions", lambda: {"metaworld": "1", "mujoco": "1"})
    return made


def towards(x: torch.Tensor) -> torch.Tensor:
    """Actions of a policy that knows how inputs are scaled."""
    seen = x[:, 0, :39] / SCALE + OFFSET
    return torch.nn.functional.pad(10 * (seen[:, 38:] - seen[:, :1]), (0, 3))


def away(x: torch.Tensor) -> torch.Tensor:
    return -towards(x)


def attempts(count: int = 7, horizon: int = 40) -> Attempts:
    seeds = tuple(source.start_seed("push", "evaluation", 0, n) for n in range(count))
    return Attempts("push", seeds, torch.eye(3)[1], horizon, "1")


# -- demonstrations -------------------------------------------------------------------------------------------------


def test_labels_are_what_the_expert_wanted_and_executed_was_worse(line):
    made = source.record("push", 6, "demonstrations", 0, 40)
    place = line["push", 0]
    rows = slice(sum(made.lengths[:-1].tolist()), None)  # the last episode is still in the world
    executed = np.stack(place.executed)
    assert len(made.actions) == len(made.observations) == made.lengths.sum() and len(made.lengths) == 6
    assert len(executed) == made.lengths[-1] and place.success
    wanted = made.actions[rows].numpy()
    at, goal = made.observations[rows, 0].numpy(), made.observations[rows, 38].numpy()
    np.testing.assert_allclose(wanted[:, 0], np.clip(10 * (goal - at), -1, 1), atol=1e-5)
    assert (wanted[:, 3] == 1).all() and (executed[:, 3] == 1).all()  # no more than a full action, and fingers hold on
    off = executed[:, 1] - 0.5
    assert len(set(off)) == len(off) and 0 < np.abs(off).mean() < 3 * source.TREMBLE


def test_failed_episodes_are_dropped_and_counted(line, monkeypatch):
    whole = source.record("push", 8, "demonstrations", 0, 40)
    short = source.record("push", 8, "demonstrations", 0, 3)
    assert whole.dropped == 0 and short.dropped > 0 and short.lengths.max() <= 3
    monkeypatch.setattr(Line, "reached", 0.0)
    with pytest.raises(InvalidError, match=r"task push: the expert succeeded in 0 of 36 episodes.*longer horizon"):
        source.record("push", 8, "demonstrations", 0, 3)


def test_draws_are_functions_of_task_seed_and_purpose(line):
    one = source.record("push", 4, "demonstrations", 0, 40)
    more = source.record("push", 6, "demonstrations", 0, 40)
    assert torch.equal(more.observations[: len(one.observations)], one.observations)
    for other in (("push", "validation", 0), ("push", "demonstrations", 1), ("hammer", "demonstrations", 0)):
        task, purpose, seed = other
        assert not torch.equal(source.record(task, 4, purpose, seed, 40).observations[0], one.observations[0])


def test_recordings_are_kept_and_damaged_or_foreign_ones_made_again(line, tmp_path, monkeypatch):
    ask = ("push", 3, "demonstrations", 0, 40, tmp_path)
    calls, record = [], source.record
    monkeypatch.setattr(source, "record", lambda *given: calls.append(given) or record(*given))
    first, again = source.recorded(*ask), source.recorded(*ask)
    assert len(calls) == 1 and again.tried == first.tried
    assert torch.equal(again.actions, first.actions) and torch.equal(again.observations, first.observations)
    (path,) = (tmp_path / "metaworld").iterdir()
    whole = path.read_bytes()
    flipped = whole[:-5] + bytes([whole[-5] ^ 1]) + whole[-4:]
    for number, damaged in enumerate((whole[:-4], flipped, b"", b"nonsense"), 2):
        path.write_bytes(damaged)
        for _ in range(2):
            assert torch.equal(source.recorded(*ask).actions, first.actions)
        assert len(calls) == number
    monkeypatch.setattr(source, "versions", lambda: {"metaworld": "2", "mujoco": "1"})
    source.recorded(*ask)
    assert len(calls) == 6


# -- attempts -------------------------------------------------------------------------------------------------------


def test_an_attempt_ends_with_success_or_with_the_horizon(line):
    test = attempts()
    assert test.score(towards).all() and not test.score(away).any()
    assert len(line) == WORLDS and {world.steps for world in line.values()} == {40}
    needs = [int(np.ceil((gap - 0.05) / 0.1)) for gap in map(_gap, test.seeds)]
    for horizon in (2, 4):
        assert attempts(horizon=horizon).score(towards).tolist() == [n <= horizon for n in needs]


def _gap(seed: int) -> float:
    place = Line("push")
    place.start(seed)
    return abs(place.seen[38] - place.seen[0])


def test_a_score_does_not_depend_on_how_many_are_asked_about_together(line):
    test, sizes = attempts(horizon=3), []

    def noted(x: torch.Tensor) -> torch.Tensor:
        sizes.append(len(x))
        assert x.shape[1:] == (1, 42) and torch.equal(x[:, 0, 39:], torch.eye(3)[1].expand(len(x), -1))
        return towards(x)

    together = test.score(noted)
    assert max(sizes) == WORLDS and 0 < together.sum() < len(test)
    assert torch.equal(test.score(towards, batch_size=1), together)


def test_a_digest_tells_tests_apart():
    one = attempts()
    others = [attempts(count=6), attempts(horizon=41), Attempts(one.task, one.seeds, one.said, 40, "2")]
    others += [Attempts("hammer", one.seeds, one.said, 40, "1"), Attempts("push", one.seeds, torch.eye(3)[0], 40, "1")]
    assert len({test.digest() for test in [one, *others]}) == 6 and one.digest() == attempts().digest()


# -- streams --------------------------------------------------------------------------------------------------------

FEW = {"demonstrations": 10, "attempts": 3, "horizon": 40}


def test_ten_tasks_in_order_and_twice(line, tmp_path):
    ten = load_stream("metaworld-cw10", data=tmp_path, **FEW)
    twenty = load_stream("metaworld-cw20", data=tmp_path, **FEW)
    assert [task.name for task in ten] == list(CW10) and [task.name for task in twenty] == 2 * list(CW10)
    assert ten.info.layout == {"robot": (39,), "task": (10,)} and ten.info.shape == (1, 49) and ten.classes == 4
    assert ten.meta["simulator"] == {"metaworld": "1", "mujoco": "1"} and ten.setting.name == "til"
    again, first = twenty.tasks[13].train.samples, twenty.tasks[3].train.samples
    assert torch.equal(again[..., :39], first[..., :39]) and not torch.equal(again, first)
    assert twenty.tests[13].seeds == twenty.tests[3].seeds and twenty.tests[13].said.argmax() == 13
    assert len(list((tmp_path / "metaworld").iterdir())) == 20  # the second time nothing is recorded


def test_streams_keep_the_rules(line, tmp_path):
    build = lambda **more: load_stream("metaworld-cw10", data=tmp_path, n_tasks=2, **(FEW | more))
    whole = {"val_fraction": 0.0}
    assert check_stream(lambda: build(**whole)) != check_stream(lambda: build(seed=1, **whole))
    stream = build(val_fraction=0.2)
    assert all(len(task.val) for task in stream) and build(**whole).tasks[0].val is None
    assert torch.equal(inputs(torch.zeros(1, 39), torch.eye(2)[0])[0, 0, [0, 3, 7, 38]], torch.tensor([0.0, 0, 0, -2]))
    starts = {seed for task in CW10 for p in ("demonstrations", "validation", "evaluation") for seed in
              (source.start_seed(task, p, s, n) for s in (0, 1) for n in range(50))}  # fmt: skip
    assert len(starts) == 10 * 3 * 2 * 50


def test_a_run_learns_to_go_there(line, tmp_path):
    stream = load_stream("metaworld-cw10", data=tmp_path, n_tasks=2, demonstrations=20, attempts=8, horizon=40)
    cls = load_strategy("finetune")
    config = cls.Config(model="bc-mlp", optimizer="adamw", lr=3e-3, schedule="cosine", steps=150, batch_size=32)
    done, evidence = run_seed(cls(config), stream, 0)
    assert done.correct[1][0] > done.correct[0][0] and done.correct[2][1] >= 6
    assert run_seed(cls(config), stream, 0)[1] == evidence


@pytest.mark.parametrize(
    "options, says",
    [
        ({"n_tasks": 11}, "n_tasks must be from 1 to 10; got 11"),
        ({"attempts": 0}, "attempts must be from 1"),
        ({"horizon": 501}, "horizon from 1 to 500"),
        ({"val_fraction": 1.0}, "val_fraction=1.0 must be at least 0 and leave a demonstration"),
    ],
)
def test_wrong_options_answer_in_one_line(options, says):
    with pytest.raises(UsageError, match=says):
        load_stream("metaworld-cw10", **options)


def test_a_missing_package_is_one_line(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "metaworld"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "metaworld", None)
    with pytest.raises(StorageError, match=r'Run: pip install "carryover\[robot\]"\.'):
        load_stream("metaworld-cw10")


def test_a_world_seeds_clips_and_keeps_its_success(monkeypatch):
    """The few lines between us and Meta-World, against a stand-in for its environments."""

    class Env:
        def __init__(self, seed):
            self.given, self._freeze_rand_vec, self.seeded_rand_vec = [seed], True, False

        def seed(self, seed):
            self.given.append(seed)

        def reset(self):
            assert self.seeded_rand_vec and not self._freeze_rand_vec
            return np.zeros(39), {}

        def step(self, action):
            self.given.append(action.tolist())
            return np.full(39, len(self.given)), 0.0, False, False, {"success": float(len(self.given) == 3)}

    package = SimpleNamespace(ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE={"push-v3-goal-observable": Env})
    monkeypatch.setattr(source, "_package", lambda name: package)
    place = source.World("push")
    place.start(5)
    assert place.env.given == [0, 5] and not place.success
    place.step(np.array([2, -3, 0.5, 0]))
    assert place.env.given[2] == [1, -1, 0.5, 0] and place.success
    place.step(np.zeros(4))
    assert place.success and place.steps == 2
    place.start(6)
    assert not place.success and place.steps == 0


# -- the real thing -------------------------------------------------------------------------------------------------


@real
@pytest.mark.parametrize("task", ["handle-press-side", "push"])
def test_an_attempt_in_mujoco_does_not_depend_on_what_went_before(task):
    def go(place: source.World, seed: int) -> np.ndarray:
        place.start(seed)
        seen, moves = [place.seen], np.random.RandomState(0).uniform(-1, 1, (30, 4))
        for move in moves:
            place.step(move)
            seen.append(place.seen)
        return np.stack(seen)

    used, fresh = source.world(task), source.World(task)
    before = np.random.get_state()
    go(used, 1)
    mine = go(used, 2)
    after = np.random.get_state()
    assert before[2] == after[2] and (before[1] == after[1]).all()  # nothing was drawn from the global generator
    assert np.array_equal(go(fresh, 2), mine) and not np.array_equal(go(fresh, 3)[0], mine[0])
    assert mine.shape == (31, 39)


@real
def test_the_expert_succeeds_and_its_recording_can_be_followed(tmp_path):
    made = source.recorded("handle-press-side", 3, "demonstrations", 0, 200, tmp_path)
    assert made.dropped == 0 and made.lengths.min() > 20 and made.lengths.max() < 100
    assert made.observations.shape == (made.lengths.sum(), 39) and made.actions.abs().max() <= 1
    policy = source.expert("handle-press-side")

    def expert(x: torch.Tensor) -> torch.Tensor:
        seen = (x[:, 0, :39] / SCALE + OFFSET).double().numpy()
        return torch.from_numpy(np.stack([policy(s) for s in seen]))

    seeds = tuple(source.start_seed("handle-press-side", "evaluation", 0, n) for n in range(5))
    test = Attempts("handle-press-side", seeds, torch.ones(1), 100, "")
    assert test.score(expert).all() and test.score(expert, batch_size=2).all()
    assert not test.score(lambda x: torch.zeros(len(x), 4)).any()


@real
@pytest.mark.slow
@pytest.mark.parametrize("task", CW10)
def test_every_expert_can_be_learnt_from(task):
    made = source.record(task, 5, "demonstrations", 0, 200)
    assert made.dropped <= 5 and made.lengths.max() <= 200
