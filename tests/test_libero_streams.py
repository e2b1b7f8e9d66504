"""LIBERO's suites as streams: on files in its layout, and in a simulator that has nothing of it but the interface."""

from __future__ import annotations

import colorsys
import dataclasses
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from carryover.base.errors import InvalidError, StorageError, UsageError
from carryover.evaluation.run import run_seed
from carryover.strategies import load_strategy
from carryover.streams import check_stream, load_stream, rows
from carryover.streams.camera_augment import Shaken, coloured_, moved
from carryover.streams.core import Data
from carryover.streams.libero import LEROBOT
from carryover.streams.needs import needs
from carryover.streams.packed import Unpacked, packed
from carryover.streams.rows import Rows
from carryover.streams.simulated import WORLDS, Attempts
from carryover.streams.sources.libero import language as told
from carryover.streams.sources.libero import simulator, worlds
from carryover.streams.sources.libero.bddl import parse
from carryover.streams.sources.libero.demonstrations import CAMERAS, Demonstrations
from carryover.streams.sources.libero.initial import read_initial_states
from carryover.streams.sources.libero.names import SUITES, language
from carryover.streams.sources.libero.suites import task_file
from carryover.streams.sources.libero.windows import Windows
from carryover.streams.sources.libero.writing import write_demonstrations
from carryover.streams.tabletop.suites import ORDERS
from PIL import Image, ImageEnhance

torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("ignore:.*demonstrations, not 50")

SIDE, LENGTHS = 8, (5, 3, 4, 6)
GOAL = SUITES["libero-goal"]
installed = pytest.mark.skipif(find_spec("libero") is None, reason="LIBERO is not installed")


class Table:
    """In place of LIBERO's environment: x goes where action[0] pushes it, a tenth at most, and should get to a goal.

    A state is (x, goal). A reset draws where furniture stands. Images come from the bottom up; upright, the left upper
    corner is red and tells the camera beside it.
    """

    made: list[Table] = []

    def __init__(self, suite: str, task: str, cameras: tuple[str, ...], side: int) -> None:
        self.about, self.cameras, self.side = (suite, task), [worlds.CAMERA[c] for c in cameras], side
        self.log: list = []
        self.made.append(self)
        np.random.rand()  # as a model does that is built

    def reset(self) -> None:
        self.furniture = np.random.uniform(-0.01, 0.01)
        self.log.append("reset")

    def set_init_state(self, state: np.ndarray) -> dict:
        self.x, self.goal = state
        self.log.append(("state", *state))
        return self.seen()

    def step(self, action: np.ndarray):
        self.log.append(tuple(np.round(action, 6)))
        self.x += 0.1 * np.clip(action[0], -1, 1)
        return self.seen(), 0.0, abs(self.x - self.goal) < 0.05, {}

    def close(self) -> None:
        self.log.append("closed")

    def seen(self) -> dict:
        found = {
            "robot0_gripper_qpos": np.array([self.x, self.goal]),
            "robot0_joint_pos": np.array([self.furniture, 0, 0, 0, 0, 0, 1.0]),
            "robot0_eef_pos": np.array([self.x, 0.2, 0.3]),
            "robot0_eef_quat": np.array([0, 0, np.sin(0.25), np.cos(0.25)]),
        }
        for number, camera in enumerate(self.cameras):
            upright = np.zeros((self.side, self.side, 3), np.uint8)
            upright[0, 0, 0], upright[0, 1, 0] = 255, 50 + number
            found[f"{camera}_image"] = upright[::-1]
        return found


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder of data sets, and a package without a simulator in it, for `place` to copy."""
    root = tmp_path_factory.mktemp("libero")
    home = root / "site" / "libero" / "libero"
    for folder in ("bddl_files", *(f"assets/{folder}" for folder in simulator.FOLDERS)):
        (home / folder).mkdir(parents=True)
    for file in (home.parent / "__init__.py", home / "__init__.py"):
        file.write_text("")
    (home / "assets" / "scenes" / "table.xml").write_text("<mujoco/>")
    for suite, tasks in (("libero-goal", GOAL), ("libero-90", SUITES["libero-90"][:3])):
        for t, task in enumerate(tasks):
            recorded(root / "data" / task_file(suite, task), t)
            path, goal = states_file(home, suite, task), goal_file(home, suite, task)
            for folder in (path.parent, goal.parent):
                folder.mkdir(parents=True, exist_ok=True)
            goal.write_text(f"(define (problem {task}))")
            with open(path, "wb") as file:
                np.save(file, states())
    return root


@pytest.fixture
def place(made, tmp_path, monkeypatch):
    """Data sets, and a package with `Table` for the simulator. They are every test's: who changes them takes `own`."""
    return moved_in(made, tmp_path, monkeypatch)


@pytest.fixture
def own(made, tmp_path, monkeypatch):
    """The same, to be changed."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("decoded"))
    return moved_in(tmp_path, tmp_path, monkeypatch)


def moved_in(root: Path, tmp_path: Path, monkeypatch) -> SimpleNamespace:
    monkeypatch.syspath_prepend(str(root / "site"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(worlds, "environment", Table)
    monkeypatch.setattr(worlds, "image_convention", lambda: "opengl")
    monkeypatch.setattr("carryover.streams.libero.needs_renderer", lambda: None)
    monkeypatch.setattr(Table, "made", [])
    for name in [name for name in sys.modules if name.partition(".")[0] == "libero"]:
        monkeypatch.delitem(sys.modules, name)
    return SimpleNamespace(data=root / "data", home=root / "site" / "libero" / "libero")


def states_file(home: Path, suite: str, task: str) -> Path:
    return home / "init_files" / suite.replace("-", "_") / f"{task}.pruned_init"


def goal_file(home: Path, suite: str, task: str) -> Path:
    return home / "bddl_files" / suite.replace("-", "_") / f"{task}.bddl"


def states() -> np.ndarray:
    """50 of them, (x, goal); every third goal is too far for 8 steps."""
    x = np.linspace(-0.4, 0.4, 50)
    return np.stack([x, x + np.where(np.arange(50) % 3 == 2, 2.0, 0.3 + np.arange(50) / 100)], 1)


def value(t: int, d: int, step: int) -> int:
    """What stands in everything that belongs to a step of a demonstration of a task."""
    return 20 * t + 7 * d + step


def recorded(path: Path, t: int, lengths=LENGTHS, side: int = SIDE) -> None:
    """Demonstrations whose arrays hold `value`: pictures in their left upper corner."""
    steps = np.array([value(t, d, step) for d, n in enumerate(lengths) for step in range(n)])
    picture = np.zeros((len(steps), 3, side, side), np.uint8)
    picture[:, 0, 0, 0], picture[:, 1] = steps, 60
    write_demonstrations(
        path,
        np.concatenate([np.zeros((len(steps), 6)), steps[:, None] / 256], 1),
        {"agentview_rgb": picture, "eye_in_hand_rgb": 255 - picture, "gripper_states": steps[:, None] + [0.25, 0.5],
         "joint_states": steps[:, None] + np.arange(7)},
        lengths,
    )  # fmt: skip


def load(place, name: str = "libero-goal", **options):
    return load_stream(name, data=place.data, **({"n_tasks": 2, "attempts": 7, "horizon": 8} | options))


def attempts(place, **options) -> Attempts:
    return load(place, **options).tests[0]


def push(x: torch.Tensor) -> torch.Tensor:
    """Actions towards the goal, of a policy that knows where an input has what."""
    fingers = x[:, -1, -(9 + told.LENGTH) : -(7 + told.LENGTH)]
    return torch.nn.functional.pad(10 * (fingers[:, 1:] - fingers[:, :1]), (0, 6))


# -- demonstrations -------------------------------------------------------------------------------------------------


def test_an_input_is_what_was_seen_up_to_its_action(place):
    stream = load(place)
    assert list(stream.layout.items()) == [
        ("agentview_rgb", (3, SIDE, SIDE)), ("eye_in_hand_rgb", (3, SIDE, SIDE)), ("robot", (9,)), ("words", (25,))
    ]  # fmt: skip
    pixels = 3 * SIDE * SIDE
    assert (stream.kind, stream.classes, stream.points, stream.setting.name) == ("policy", 7, 10, "dil")
    assert stream.info.shape == (10, 2 * pixels + 9 + 25)
    for t, task in enumerate(stream):
        assert len(task.train) == sum(LENGTHS) and task.val is None  # a tenth of four is none
        x, y = task.train.prepare(task.train.span(0, 99)[0]), task.train.targets
        row = 0
        for d, length in enumerate(LENGTHS):
            for step in range(length):
                seen = [value(t, d, max(step - back, 0)) for back in range(9, -1, -1)]
                assert y[row].tolist() == [0] * 6 + [value(t, d, step) / 256]
                assert torch.equal(x[row, :, 0], torch.tensor(seen).float() / 255)  # red, left upper corner, upright
                assert torch.equal(x[row, :, pixels], 1 - torch.tensor(seen).float() / 255)
                assert x[row, :, 2 * pixels].tolist() == [v + 0.25 for v in seen]  # not rounded
                assert x[row, :, 2 * pixels + 2].tolist() == seen
                row += 1
        assert row == len(x)


def test_held_out_are_the_last_demonstrations(place):
    task = load(place, val_fraction=0.5, history=1).tasks[1]
    kept = [value(1, d, step) for d in (0, 1) for step in range(LENGTHS[d])]
    held = [value(1, d, step) for d in (2, 3) for step in range(LENGTHS[d])]
    assert (256 * task.train.targets[:, 6]).tolist() == kept and (256 * task.val.targets[:, 6]).tolist() == held
    assert task.val.augment is None and task.train.augment is not None
    assert (255 * task.val.prepare(task.val.span(0, 99)[0])[:, 0, 0]).round().tolist() == held
    fewer = load(place, demonstrations=2, history=1).tasks[1]
    assert (256 * fewer.train.targets[:, 6]).tolist() == kept


def test_without_cameras_nothing_is_packed_or_decoded(own):
    stream = load(own, cameras=(), history=3)
    plain = stream.tasks[0].train
    assert isinstance(plain.samples, torch.Tensor) and plain.transform is plain.augment is None
    assert list(stream.layout) == ["robot", "words"] and stream.info.shape == (3, 34)
    assert not (own.data / "decoded").exists()
    seen = load(own, history=3).tasks[0].train
    assert torch.equal(seen.prepare(seen.span(0, 99)[0])[..., -34:], plain.samples)
    one = load(own, cameras=["eye_in_hand_rgb"])
    assert list(one.layout) == ["eye_in_hand_rgb", "robot", "words"]


def test_as_stored_an_action_goes_with_its_outcome(place):
    seen, stored = (load(place, cameras=(), history=1, pairing=p).tasks[0].train for p in ("seen", "stored"))
    assert len(stored) == len(seen) + len(LENGTHS)
    assert stored.samples[0, 0, 2] == value(0, 0, 0) and stored.targets[0, 6] == 0  # the step that stands still


@pytest.mark.parametrize("order", [0, 3, 20])
def test_orders_are_liberos(place, order):
    stream = load(place, n_tasks=None, order=order, cameras=())
    assert [task.meta["file"] for task in stream] == [GOAL[i] for i in ORDERS[order]]
    assert [test.task for test in stream.tests] == [GOAL[i] for i in ORDERS[order]]
    assert stream.tasks[0].name == stream.tasks[0].meta["instruction"] == language(GOAL[ORDERS[order][0]])
    first = stream.tasks[0].train.targets[0, 6]
    assert 256 * first == value(ORDERS[order][0], 0, 0)


def test_only_the_tasks_asked_for_are_read(own):
    for i in ORDERS[1][2:]:
        (own.data / task_file("libero-goal", GOAL[i])).unlink()
    assert len(load(own, order=1, cameras=())) == 2
    with pytest.raises(StorageError, match=r"libero-goal lacks .*demo.hdf5: put the folder libero_goal of https"):
        load(own, order=1, n_tasks=3)


def test_ninety_tasks_have_words_of_their_own_and_one_order(place):
    stream = load(place, "libero-90", n_tasks=3, cameras=())
    assert stream.name == "libero-90" and [task.meta["file"] for task in stream] == list(SUITES["libero-90"][:3])
    with pytest.raises(UsageError, match="libero-90 has the orders 0 to 0"):
        load(place, "libero-90", order=1)


def test_a_task_is_told_in_words_or_by_its_number(place):
    ours = [told.words([language(task)])[0] for task in GOAL]
    assert len({tuple(row.tolist()) for row in ours}) == 10
    every = told.words([language(task) for tasks in SUITES.values() for task in tasks])
    assert every.shape == (130, 25) and every.max() == len(told.VOCABULARY) == 79
    assert ((every > 0).sum(1).max()) == 19 and not every[:, 19:].any()
    stream = load(place, cameras=())
    assert torch.equal(stream.tasks[1].train.samples[0, 0, 9:], ours[1]) and torch.equal(stream.tests[1].said, ours[1])
    number = load(place, cameras=(), language="one-hot")
    assert number.layout["task"] == (2,) and number.tasks[1].train.samples[3, 0, 9:].tolist() == [0, 1]


def test_windows_are_rows_for_any_index(place):
    train = load(place, history=4).tasks[0].train
    whole = train.samples[:]
    assert whole.dtype == np.uint8 and whole.shape == (18, 4, 6 * SIDE * SIDE + 4 * 34)
    for key in (3, slice(2, 9, 3), np.array([17, 0, 5, 5])):
        assert np.array_equal(train.samples[key], whole[key])
    assert np.array_equal(train.select(torch.tensor([4, 1])).samples[:], whole[[4, 1]])


def test_digests_of_windows_read_each_picture_once_and_then_never(own, monkeypatch):
    monkeypatch.setattr(rows, "WORTH_KEEPING", 0)
    first = load(own)
    before = first.fingerprint
    again = load(own)
    monkeypatch.setattr(Windows, "_read", lambda self: pytest.fail("the pictures were read again"))
    monkeypatch.setattr(Windows, "__getitem__", lambda self, key: pytest.fail("a window was put together"))
    assert again.fingerprint == before


def test_a_digest_tells_rows_and_demonstrations_apart():
    """Whose targets are the same: of other rows, and of demonstrations that end elsewhere."""
    frames, numbers, found = np.zeros((6, 1, 3, 4, 4), np.uint8), torch.arange(6.0)[:, None], set()
    for first in ([0] * 6, [0, 0, 0, 3, 3, 3]):
        windows = Windows(frames, numbers, np.array(first), 2)
        found |= {Data(Rows(windows, np.array(index)), torch.zeros(3)).digest() for index in ([0, 1, 2], [3, 4, 5])}
    assert len(found) == 4


def test_a_fingerprint_tells_options_apart(place):
    changes = [
        {}, {"history": 3}, {"order": 1}, {"augment": False}, {"val_fraction": 0.3}, {"pairing": "stored"}, {"seed": 1},
        {"cameras": ["agentview_rgb"]}, {"language": "one-hot"}, {"attempts": 6}, {"horizon": 9},
        {"horizon": "lerobot"}, {"settle": "lerobot"},
    ]  # fmt: skip
    assert len({load(place, **change).fingerprint for change in changes}) == len(changes)
    assert load(place).fingerprint == load(place).fingerprint


def test_a_fingerprint_tells_pictures_apart(own):
    before = load(own)
    path = own.data / task_file("libero-goal", GOAL[0])
    recorded(path, 9)
    after = load(own)
    assert before.tasks[0].train.digest() != after.tasks[0].train.digest()
    assert before.tasks[1].train.digest() == after.tasks[1].train.digest()


def test_it_keeps_the_rules_of_streams(place):
    check_stream(lambda: load(place, val_fraction=0.25))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": 21}, "orders 0 to 20; got order=21"),
        ({"n_tasks": 11}, "n_tasks must be from 1 to 10; got 11"),
        ({"attempts": 51}, "attempts must be from 1 to 50"),
        ({"horizon": 0}, "horizon from 1 to 10000"),
        ({"horizon": "long"}, "option 'horizon'"),
        ({"history": 0}, "history from 1 to 100"),
        ({"val_fraction": 0.95}, r"take from 1 to so many \(demonstrations\), and leave one"),
        ({"val_fraction": -0.5}, "leave one"),
        ({"demonstrations": 5}, "has 4 demonstrations.*got 5"),
        ({"cameras": ["frontview"]}, "option 'cameras'"),
        ({"source": "lerobot", "pairing": "stored"}, "source=lerobot has neither"),
        ({"language": "german"}, "option 'language'"),
    ],
)
def test_options_are_checked(place, options, message):
    with pytest.raises(UsageError, match=message):
        load(place, **options)


def test_the_copies_show_place_and_turn(own, monkeypatch):
    asked = []

    def read(folder, said, cameras):
        asked.append((folder, said))
        steps = np.arange(sum(LENGTHS), dtype=np.float32)[:, None]
        images = np.zeros((len(steps), len(cameras), 3, 16, 16), np.uint8)
        return Demonstrations(said, steps + np.zeros(7, np.float32), steps + np.arange(8, dtype=np.float32),
                              np.array(LENGTHS), images, tuple(cameras))  # fmt: skip

    monkeypatch.setattr("carryover.streams.libero.read_lerobot", read)
    for name in ("info.json", "tasks.parquet"):
        (own.data / "libero/lerobot/meta").mkdir(parents=True, exist_ok=True)
        (own.data / "libero/lerobot/meta" / name).write_text("")
    stream = load(own, source="lerobot", demonstrations=3, history=1)
    assert asked == [(own.data / "libero/lerobot", language(task)) for task in GOAL[:2]]
    assert stream.layout["robot"] == (8,) and stream.layout["agentview_rgb"] == (3, 16, 16)
    assert len(stream.tasks[0].train) == sum(LENGTHS[:3]) and stream.meta["source"] == "lerobot"
    seen = []
    stream.tests[0].score(lambda x: (seen.append(x), torch.ones(len(x), 7))[1])
    assert seen[0].shape[1:] == stream.info.shape  # of the same pictures and numbers as in training


# -- the simulator --------------------------------------------------------------------------------------------------


def test_a_digest_covers_all_that_an_attempt_depends_on(place):
    test = attempts(place)
    other = {
        "suite": "libero-10", "task": GOAL[1], "states": test.states + 1, "seeds": test.seeds[::-1],
        "said": test.said + 1, "cameras": CAMERAS[:1], "side": 9, "source": "lerobot", "history": 9, "horizon": 9,
        "settling": "lerobot", "versions": "",
    }  # fmt: skip
    assert set(other) == {field.name for field in dataclasses.fields(test)}
    digests = {dataclasses.replace(test, **{name: value}).digest() for name, value in other.items()}
    assert len(digests | {test.digest()}) == len(other) + 1


def test_no_two_attempts_draw_the_same_furniture(place):
    seeds = [seed for test in load(place).tests for seed in test.seeds]
    assert len(set(seeds)) == len(seeds) == 14


def test_horizons_of_lerobot():
    suites = ("libero-spatial", "libero-object", "libero-goal", "libero-10", "libero-90")
    assert [LEROBOT[name] for name in suites] == [280, 280, 300, 520, 400]


def test_success_is_the_goal_within_the_horizon(place):
    far = np.arange(7) % 3 == 2
    steps = np.ceil((0.3 + np.arange(7) / 100 - 0.05) / 0.1)
    assert attempts(place).score(push).tolist() == (~far).tolist()
    short = attempts(place, horizon=3).score(push)
    assert short.tolist() == (~far & (steps <= 3)).tolist() and 0 < short.sum() < (~far).sum()
    assert not attempts(place).score(lambda x: -push(x)).any()


def test_an_attempt_goes_as_liberos_do(place):
    attempts(place, attempts=1, horizon=8).score(push)
    (world,) = Table.made
    still = (0.0,) * 7
    assert world.about == ("libero-goal", GOAL[0])
    assert world.log[:7] == ["reset", ("state", *states()[0]), *[still] * 5] and world.log[-1] == "closed"
    assert [action[0] for action in world.log[7:-1]] == [1.0 * min(a, 1e9) for a in (3.0, 2.0, 1.0)]
    attempts(place, attempts=1, settle="lerobot", horizon="lerobot").score(lambda x: -push(x))
    log = Table.made[-1].log
    assert log[2:12] == [(*[0.0] * 6, -1.0)] * 10 and len(log) == 2 + 10 + 300 + 1
    assert load(place, horizon="lerobot").meta["horizon"] == 300


def test_a_success_lasts_and_ends_the_attempt(place):
    asked = []

    def through(x):  # past the goal and on
        asked.append(len(x))
        return torch.ones(len(x), 7)

    assert attempts(place, attempts=2, horizon=50).score(through).all()
    assert asked == [2, 2, 2]  # the goal is left behind again after that
    world = worlds.World("libero-goal", GOAL[0], (), SIDE, "hdf5")
    world.start(np.array([0.0, 0.1]), 0, "libero")
    reached = []
    for _ in range(3):
        world.step(np.ones(7))
        reached.append((world.steps, world.success, abs(world.env.x - world.env.goal) < 0.05))
    assert reached == [(1, True, True), (2, True, False), (3, True, False)]
    world.start(np.array([0.1, 0.1]), 0, "libero")  # at the goal before the first step, which does not count
    assert (world.steps, world.success) == (0, False)


def test_finished_worlds_take_the_next_attempt(place):
    asked = []
    test = attempts(place)
    found = test.score(lambda x: (asked.append(len(x)), push(x))[1])
    assert len(Table.made) == WORLDS and max(asked) == WORLDS and asked[-1] < WORLDS
    assert [world.log.count("reset") for world in Table.made] != [2] * WORLDS
    assert sum(world.log.count("reset") for world in Table.made) == len(test)
    alone = test.score(push, batch_size=1)
    assert len(Table.made) == WORLDS + 1 and torch.equal(found, alone)
    together = {step for world in Table.made[:WORLDS] for step in paths(world)}
    assert together == set(paths(Table.made[-1]))  # each went the same way


def paths(world: Table) -> list[tuple]:
    """What happened in each attempt."""
    begins = [i for i, step in enumerate(world.log) if step == "reset"] + [len(world.log) - 1]
    return [tuple(map(str, world.log[a:b])) for a, b in zip(begins, begins[1:], strict=False)]


def test_furniture_is_the_seeds_and_the_global_generator_is_left_alone(place):
    def seen(**options):
        found = []
        attempts(place, **options).score(lambda x: (found.append(x[:, -1, -32].tolist()), push(x))[1])
        return found[0]

    np.random.seed(1)
    before = np.random.get_state()[1].copy()
    one, same, other = seen(), seen(), seen(seed=1)
    assert np.array_equal(np.random.get_state()[1], before)
    assert one == same != other and len(set(one)) == len(one)
    assert seen(attempts=3) == one[:3]


def test_a_policy_sees_what_demonstrations_show(place):
    seen = []
    test = attempts(place, attempts=1, history=3)
    test.score(lambda x: (seen.append(x.clone()), push(x))[1])
    pixels = 3 * SIDE * SIDE
    first, second = seen[0][0], seen[1][0]
    assert (
        torch.equal(first[0], first[2]) and torch.equal(second[:2], first[:2]) and not torch.equal(second[2], first[2])
    )
    for number in (0, 1):  # upright, red in the left upper corner
        picture = first[0, number * pixels : (number + 1) * pixels].view(3, SIDE, SIDE)
        assert picture[0, 0, 0] == 1 and picture[0, 0, 1] == torch.tensor(50.0 + number) / 255 and picture.sum() < 1.3
    robot = first[0, 2 * pixels : 2 * pixels + 9]
    assert torch.equal(robot[:2], torch.from_numpy(states()[0]).float()) and robot[8] == 1
    assert torch.equal(first[0, -25:], test.said)


def test_images_that_stand_upright_are_not_turned(place, monkeypatch):
    monkeypatch.setattr(worlds, "image_convention", lambda: "opencv")
    world = worlds.World("libero-goal", GOAL[0], CAMERAS, SIDE, "hdf5")
    world.start(states()[0], 0, "libero")
    assert world.pixels[0, 0, SIDE - 1, 0] == 255 and world.pixels.shape == (2, 3, SIDE, SIDE)


def test_each_world_draws_in_its_own_renderer(place):
    calls = []
    world = worlds.World("libero-goal", GOAL[0], CAMERAS, SIDE, "hdf5")
    context = SimpleNamespace(gl_ctx=SimpleNamespace(make_current=lambda: calls.append(len(world.env.log))))
    world.env.sim = SimpleNamespace(_render_context_offscreen=context)
    world.start(states()[0], 0, "libero")
    world.step(np.zeros(7))
    world.close()
    assert calls == [0, 7, 8]  # before the reset, which deletes a renderer; the step; and the end


def test_what_the_simulator_was_is_in_the_record(own, monkeypatch):
    stream = load(own)
    assert set(stream.meta["simulator"]) == {"hf-libero", "robosuite", "mujoco", "assets"}
    before = stream.tests[0].digest()
    (own.home / "assets" / "scenes" / "table.xml").write_text("<mujoco />")
    after = load(own)
    assert after.meta["simulator"]["assets"] != stream.meta["simulator"]["assets"]
    assert after.tests[0].digest() != before and after.tasks[0].train.digest() == stream.tasks[0].train.digest()
    goal_file(own.home, "libero-goal", GOAL[0]).write_text("(define (problem another))")
    changed = load(own)
    assert [a.digest() == b.digest() for a, b in zip(changed.tests, after.tests, strict=True)] == [False, True]
    monkeypatch.setattr(simulator, "version", lambda name: "9")
    assert load(own).tests[0].digest() != changed.tests[0].digest()


def test_digests_of_assets_are_remembered(place, monkeypatch):
    first = simulator.versions()
    monkeypatch.setattr(simulator, "hashlib", None)
    assert simulator.versions() == first


def test_the_robot_of_the_copies_knows_place_and_turn(place):
    world = worlds.World("libero-goal", GOAL[0], (), 0, "lerobot")
    world.start(np.array([0.1, 0.5]), 0, "libero")
    assert world.robot == pytest.approx([0.1, 0.2, 0.3, 0, 0, 0.5, 0.1, 0.5]) and world.robot.dtype == np.float32
    assert worlds.axis_angle(np.array([0, 0, 0, 1.0])).tolist() == [0, 0, 0]
    assert worlds.axis_angle(np.array([0, 1, 0, 0.0])) == pytest.approx([0, np.pi, 0])


def test_a_simulator_that_cannot_start_is_one_line(place, monkeypatch):
    def broken(*_):
        raise RuntimeError("no display\nat all.")

    test = attempts(place)
    monkeypatch.setattr(worlds, "environment", broken)
    with pytest.raises(StorageError, match=f"cannot simulate {GOAL[0]}: no display at all\\.$"):
        test.score(push)


def test_training_waits_for_no_missing_thing(own, monkeypatch):
    """What an attempt will need is asked for before anything is read."""
    monkeypatch.setattr("carryover.streams.libero.load_suite", lambda *_, **__: pytest.fail("read"))
    wants = lambda match: pytest.raises(StorageError, match=match)
    with monkeypatch.context() as patch:
        patch.setattr("carryover.streams.libero.needs_renderer", worlds.needs_renderer.__wrapped__)
        patch.setattr(worlds, "import_libero", lambda: None)
        patch.setitem(sys.modules, "libero.libero.envs", None)
        with wants("cameras cannot be drawn: .*OSMesa and set MUJOCO_GL=osmesa"):
            load(own)
    states_file(own.home, "libero-goal", GOAL[1]).unlink()
    with wants(f"{GOAL[1]}.pruned_init does not exist"):
        load(own)
    (own.home / "assets" / "scenes" / "table.xml").unlink()
    (own.home / "assets" / "scenes").rmdir()
    with wants("libero-goal lacks .*assets/scenes: hf download lerobot/libero-assets --repo-type dataset --local-dir"):
        load(own)
    monkeypatch.setattr(simulator, "find_spec", lambda name: None)
    with wants(r'libero-goal lacks its package: pip install "carryover\[libero\]"'):
        load(own)
    with wants(r"libero-10 lacks .*_demo.hdf5 and 1 more: put the folder libero_10"):
        load(own, "libero-10")
    with wants("lacks .*lerobot/meta/info.json and 1 more: put https://huggingface.co/datasets/HuggingFaceVLA/libero"):
        load(own, source="lerobot")


def test_too_few_initial_states(own):
    with open(states_file(own.home, "libero-goal", GOAL[0]), "wb") as file:
        np.save(file, states()[:5])
    with pytest.raises(InvalidError, match="holds 5 states, fewer than attempts=7"):
        load(own)


def test_data_status_lists_files_package_and_assets(place, monkeypatch):
    told_ = [(one.name, one.there, len(one.lacks)) for one in needs("libero-goal", place.data)]
    assert told_ == [("libero-goal", True, 0), ("hf-libero", True, 0), ("libero-assets", True, 0)]
    monkeypatch.setattr(simulator, "find_spec", lambda name: None)
    lacking = needs("libero-10", place.data)
    assert [(one.name, one.there, len(one.lacks)) for one in lacking] == [
        ("libero-10", False, 10), ("hf-libero", False, 1), ("libero-assets", False, 5)
    ]  # fmt: skip
    assert lacking[1].get == 'pip install "carryover[libero]"'


# -- learning -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("model", "cameras"), [("bc-rnn", []), ("bc-mlp", []), ("bc-transformer", list(CAMERAS))])
def test_finetuning_runs_on_it(own, model, cameras):
    for t, task in enumerate(GOAL[:2]):
        recorded(own.data / task_file("libero-goal", task), t, side=32)
    stream = load(own, cameras=cameras, attempts=2, history=3, horizon=3, val_fraction=0.25)
    strategy = load_strategy("finetune")(model=model, steps=3, batch_size=4, selection="validation")
    found, evidence = run_seed(strategy, stream, 0)
    assert np.array(found.correct).shape == (3, 2) and evidence
    assert [len(curve) for curve in found.curves] == [stream.points + 1] * 2


# -- pictures in training -------------------------------------------------------------------------------------------


def test_shaken_pictures_are_moved_as_one_and_numbers_stay():
    side, numbers = 16, torch.randn(6, 2, 5)
    pixels = torch.zeros(6, 2, 2, 3, side, side, dtype=torch.uint8)
    pixels[:, :, :, :, 7, 8] = 255
    stored = packed(pixels.flatten(2), numbers)
    data = Data(stored, torch.zeros(6), Unpacked(2 * 3 * side * side))
    plain = Shaken(data.transform, 2, side, strength=0.0)
    x = plain(stored.float() / 255, torch.Generator().manual_seed(0))
    assert torch.equal(x[..., -5:], numbers)
    dots = x[..., :-5].view(6, 2, 2, 3, side, side)
    places = [torch.unique(sample.nonzero()[:, -2:], dim=0).tolist() for sample in dots]
    assert all(len(place) == 1 for place in places) and (dots.flatten(4).sum(-1) == 1).all()  # in all steps and cameras
    rows, columns = zip(*(place[0] for place in places), strict=True)
    assert len(set(rows)) > 2 and len(set(columns)) > 2
    assert all(abs(row - 7) <= 4 for row in rows) and all(abs(column - 8) <= 4 for column in columns)
    assert torch.equal(x, plain(stored.float() / 255, torch.Generator().manual_seed(0)))
    assert not torch.equal(x, plain(stored.float() / 255, torch.Generator().manual_seed(1)))


def test_moved_pictures_repeat_their_border():
    x = torch.arange(16.0).view(1, 1, 1, 4, 4).expand(1, 1, 3, 4, 4)
    assert torch.equal(moved(x, torch.tensor([2]), torch.tensor([2]), 2), x)
    corner = moved(x, torch.tensor([0]), torch.tensor([4]), 2)[0, 0, 0]  # up by two, to the right by two
    assert corner.tolist() == [[2, 3, 3, 3], [2, 3, 3, 3], [2, 3, 3, 3], [6, 7, 7, 7]]


@pytest.mark.parametrize("name", ["Brightness", "Contrast", "Color"])
def test_colours_change_as_in_pillow(name):
    pixels = np.random.RandomState(0).randint(0, 256, (4, 9, 9, 3), np.uint8)
    change = torch.tensor([-0.3, -0.1, 0.2, 0.3])
    all_ = [change if name == one else torch.zeros(4) for one in ("Brightness", "Contrast", "Color", "")]
    found = coloured_(torch.from_numpy(pixels).permute(0, 3, 1, 2)[:, None] / 255, *all_)
    for i, one in enumerate(change.tolist()):
        wanted = np.asarray(getattr(ImageEnhance, name)(Image.fromarray(pixels[i])).enhance(1 + one))
        assert np.abs(255 * found[i, 0].permute(1, 2, 0).numpy() - wanted).max() < 2  # which rounds
        assert one == 0 or np.abs(wanted.astype(int) - pixels[i]).max() > 5


def test_hue_turns_around_the_circle():
    x = torch.rand(4, 1, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    x[0, 0, :, 0, 0], x[1, 0, :, 0, 0] = 0.5, torch.tensor([1.0, 0.0, 0.0])  # a grey has no hue; red
    change = torch.tensor([-0.3, 1 / 3, 0.2, 0.3])
    found = coloured_(x.clone(), *3 * [torch.zeros(4)], change)
    for i, one in enumerate(change.tolist()):
        for before, after in zip(x[i, 0].flatten(1).T.tolist(), found[i, 0].flatten(1).T.tolist(), strict=True):
            h, s, v = colorsys.rgb_to_hsv(*before)
            assert after == pytest.approx(colorsys.hsv_to_rgb((h + one) % 1, s, v), abs=1e-5)
    assert found[1, 0, :, 0, 0].tolist() == pytest.approx([0, 1, 0], abs=1e-5)


def test_a_tenth_keeps_its_colours():
    side, count = 4, 400
    stored = torch.zeros(count, 1, 3 * side * side + 4)  # red, and one number
    stored[..., : side * side] = 0.6
    x = Shaken(Unpacked(3 * side * side), 1, side)(stored, torch.Generator().manual_seed(0))
    kept = (x == stored[..., :-3]).flatten(1).all(1).float().mean()
    assert 0.06 < kept < 0.15 and x.min() >= 0 and x.max() <= 1


def test_brightness_goes_as_far_both_ways():
    """Of a grey, which has no hue and no contrast."""
    side, count = 4, 400
    stored = torch.full((count, 1, 3 * side * side + 4), 0.6)
    x = Shaken(Unpacked(3 * side * side), 1, side)(stored, torch.Generator().manual_seed(0))
    factors = x[:, 0, 0] / 0.6
    assert 0.7 <= factors.min() < 0.72 and 1.28 < factors.max() <= 1.3 + 1e-6 and (factors.mean() - 1).abs() < 0.03


# -- language models ------------------------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "carryover" / "language"


def counting(monkeypatch, width: int = 768) -> list[str]:
    """An encoder in place of a language model; gives the texts that it read."""
    asked: list[str] = []
    row = lambda text: np.full(width, len(text), np.float32)
    monkeypatch.setattr(told, "encoder", lambda tag: lambda text: (asked.append(text), row(text))[1])
    return asked


def test_an_instruction_is_read_once(cache, monkeypatch):
    asked = counting(monkeypatch)
    first = told.embedded(["ab", "abc"], "bert")
    assert first.shape == (2, 768) and first[:, 0].tolist() == [2, 3] and first.dtype == torch.float32
    assert torch.equal(told.embedded(["abc", "ab", "abcd"], "bert")[:2], first.flip(0)) and asked == [
        "ab",
        "abc",
        "abcd",
    ]
    assert torch.equal(told.embedded(["abc"], "bert"), first[1:]) and len(asked) == 3
    counting(monkeypatch, 512)
    assert told.embedded(["ab"], "clip").shape == (1, 512)
    for path in (cache / "bert").iterdir():
        path.write_bytes(path.read_bytes()[:-5])
    damaged = counting(monkeypatch)
    assert all(torch.equal(told.embedded(["ab", "abc"], "bert"), first) for _ in range(2)) and damaged == ["ab", "abc"]


def test_a_stream_tells_what_its_language_was(place, monkeypatch):
    counting(monkeypatch)
    stream = load(place, cameras=(), language="bert")
    assert stream.layout["language"] == (768,) and stream.info.shape == (10, 9 + 768)
    assert stream.meta["language"]["name"] == "bert"
    monkeypatch.setattr(told, "embedded", lambda texts, tag: torch.ones(len(texts), 768))
    other = load(place, cameras=(), language="bert")
    assert other.meta["language"]["sha256"] != stream.meta["language"]["sha256"]
    assert other.tests[0].digest() != stream.tests[0].digest()


def test_without_transformers_it_is_said_how_to_get_it(cache, monkeypatch):
    monkeypatch.setattr(told, "find_spec", lambda name: None)
    with pytest.raises(StorageError, match=r'language=clip needs transformers. Run: pip install "carryover\[libero\]"'):
        told.embedded(["ab"], "clip")


@pytest.mark.skipif(find_spec("transformers") is None, reason="transformers is not installed")
@pytest.mark.parametrize("tag", ["bert", "clip"])
def test_a_small_language_model(cache, tmp_path, monkeypatch, tag):
    import transformers

    words_ = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *told.VOCABULARY]
    (tmp_path / "vocab.txt").write_text("\n".join(words_))
    tokenizer = transformers.BertTokenizer(str(tmp_path / "vocab.txt"), do_lower_case=False)
    if tag == "bert":
        small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
        model = transformers.BertModel(transformers.BertConfig(vocab_size=len(words_), **small))
    else:
        small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
        config = transformers.CLIPTextConfig(
            vocab_size=len(words_), **small, projection_dim=16, eos_token_id=3, bos_token_id=2
        )
        model = transformers.CLIPTextModelWithProjection(config)
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    monkeypatch.setitem(told.MODELS, tag, (str(tmp_path / "model"), 16))
    texts = ["turn on the stove", "put the bowl on the plate"]
    found = told.embedded(texts, tag)
    assert found.shape == (2, 16) and not torch.allclose(found[0], found[1])
    encode = told.encoder(tag)
    assert all(np.array_equal(encode(text), row) for text, row in zip(texts, found.numpy(), strict=True))
    (tmp_path / "model" / "model.safetensors").unlink()
    with pytest.raises(StorageError, match=f"language={tag} needs the weights .*hf download") as caught:
        told.encoder(tag)
    assert "\n" not in str(caught.value)


# -- LIBERO itself --------------------------------------------------------------------------------------------------


@installed
def test_every_file_of_the_package_reads():
    home = simulator.home()
    for suite, tasks in SUITES.items():
        folder = suite.replace("-", "_")
        assert {path.stem for path in (home / "bddl_files" / folder).glob("*.bddl")} == set(tasks)
        for task in tasks:
            goal = parse(simulator.goal_file(suite, task).read_text(), task).goal
            assert goal and {one[0] for one in goal} <= {"In", "On", "Open", "Close", "Turnon", "Turnoff"}
            found = read_initial_states(simulator.states_file(suite, task))
            assert found.shape[0] == 50 and 45 <= found.shape[1] <= 123


@installed
def test_names_are_the_packages():
    import runpy

    known = runpy.run_path(str(simulator.home() / "benchmark" / "libero_suite_task_map.py"))["libero_task_map"]
    assert {suite: tuple(known[suite.replace("-", "_")]) for suite in SUITES} == SUITES


@pytest.mark.slow
@pytest.mark.skipif(find_spec("robosuite") is None, reason="robosuite is not installed")
def test_worlds_of_robosuite_do_not_disturb_each_other(monkeypatch):
    """Its renderers draw, and delete, in whichever is the current one; a table of its own stands in for LIBERO's."""

    class Lift:
        def __init__(self, suite, task, cameras, side):
            import robosuite

            control = robosuite.load_controller_config(default_controller="OSC_POSE")
            self.env = robosuite.make(
                task, robots="Panda", controller_configs=control, has_renderer=False, ignore_done=True,
                camera_names=[worlds.CAMERA[c] for c in cameras], camera_heights=side, camera_widths=side,
            )  # fmt: skip
            self.env.modify_observable("robot0_joint_pos", "active", True)

        sim = property(lambda self: self.env.sim)
        reset = lambda self: self.env.reset()
        step = lambda self, action: self.env.step(action)
        close = lambda self: self.env.close()

        def set_init_state(self, state):
            return self.env._get_observations(force_update=True)

    monkeypatch.setattr(worlds, "environment", Lift)

    def pictures(tasks: list[str]) -> list[np.ndarray]:
        made = [worlds.World("", task, CAMERAS, 32, "hdf5") for task in tasks]
        found = []
        for seed in (0, 1):
            for world in made:
                world.start(np.zeros(1), seed, "libero")
            for _ in range(2):
                for world in made:
                    world.step(np.full(7, 0.1))
                found.append(made[0].pixels)
        for world in made:
            world.close()
        return found

    alone, among = pictures(["Lift"]), pictures(["Lift", "Stack"])
    assert all(np.array_equal(a, b) for a, b in zip(alone, among, strict=True)) and alone[0].std() > 10
    assert not np.array_equal(alone[0], alone[2])
