"""The table-top by a camera, and in LIBERO's files: what is learnt is what the loop shows, and what files give back."""

from __future__ import annotations

import dataclasses

import h5py
import numpy as np
import pytest
import torch
from carryover.base.errors import InvalidError, StorageError, UsageError
from carryover.streams import check_stream, load_stream
from carryover.streams.packed import Unpacked
from carryover.streams.sources.libero.hdf5 import read_demonstrations
from carryover.streams.sources.libero.initial import read_initial_states
from carryover.streams.tabletop.attempts import inputs
from carryover.streams.tabletop.camera import render
from carryover.streams.tabletop.demonstrations import demonstrate
from carryover.streams.tabletop.files import export, task_file
from carryover.streams.tabletop.observe import ROBOT
from carryover.streams.tabletop.starts import starts
from carryover.streams.tabletop.suites import SUITES, suite
from carryover.streams.tabletop.tasks import parse
from carryover.streams.tabletop.world import World
from carryover.tests.terminal import call

torch.set_num_threads(1)
FEW = {"n_tasks": 2, "demonstrations": 3, "attempts": 3, "val_fraction": 0.4}
SIZE = 16
CAMERA = {"observe": "camera", "camera_size": SIZE}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Two tasks with their pictures, and the folder."""
    folder = tmp_path_factory.mktemp("files")
    return folder, export(load_stream("libero-object-mini", **FEW, **CAMERA), folder)


# -- camera ---------------------------------------------------------------------------------------------------------


def test_what_is_learnt_by_a_camera_is_what_the_loop_shows():
    """The first frame of each demonstration, bit for bit; stored as bytes."""
    stream = load_stream("libero-object-mini", **FEW, **CAMERA, history=2)
    assert stream.layout == {"agentview_rgb": (3, SIZE, SIZE), "robot": (ROBOT,), "words": stream.layout["words"]}
    for task, test in zip(stream.tasks, stream.tests, strict=True):
        assert task.train.samples.dtype == torch.uint8 and task.train.transform == Unpacked(3 * SIZE * SIZE)
        spec, states = test.tasks[0], starts(test.tasks[0], "demonstrations", 2)
        world = World([spec], torch.zeros(2, dtype=torch.int64), states)
        shown = inputs(world, test.said, test.things, test.camera)
        frames = task.train.prepare(task.train.samples)
        assert torch.equal(frames[0], shown[:1].expand(2, -1))
        assert any(torch.equal(frame, shown[1:].expand(2, -1)) for frame in frames)
        pictures = frames[:, -1, : 3 * SIZE * SIZE]
        assert torch.equal((pictures[:1] * 255).round().byte(), render(world, SIZE)[:1].flatten(1))
        assert not torch.equal(frames[1], frames[2]) and torch.equal(frames[1, 1], frames[2, 0])
    assert stream.info.shape == (2, sum(int(np.prod(shape)) for shape in stream.layout.values()))


def test_a_camera_makes_another_stream_of_the_same_states():
    plain = load_stream("libero-goal-mini", **FEW)
    views = [load_stream("libero-goal-mini", **FEW, observe="camera", camera_size=size) for size in (16, 20)]
    assert len({stream.fingerprint for stream in [plain, *views]}) == 3
    assert len({stream.tests[0].digest() for stream in [plain, *views]}) == 3
    assert torch.equal(views[0].tests[1].states, plain.tests[1].states)
    assert torch.equal(views[0].tasks[1].train.targets, plain.tasks[1].train.targets)
    assert torch.equal(views[0].held_tests[1].states, plain.held_tests[1].states)
    assert plain.tests[0].joined(views[0].tests[1:]) is None
    assert views[0].tests[0].joined(views[0].tests[1:]).camera == 16
    check_stream(lambda: load_stream("libero-goal-mini", **FEW, **CAMERA))


def test_attempts_by_a_camera_do_not_depend_on_the_batch():
    """Of a policy that goes where the picture is reddest."""
    stream = load_stream("libero-spatial-mini", **FEW | {"attempts": 5}, **CAMERA)
    test = dataclasses.replace(stream.tests[0], tasks=(dataclasses.replace(stream.tests[0].tasks[0], horizon=12),))
    asked = []

    def policy(x):
        asked.append(x)
        spot = x[:, -1, : SIZE * SIZE].argmax(1)
        way = torch.stack([spot % SIZE, SIZE - 1 - spot // SIZE], 1) / SIZE - (x[:, -1, 768:770] + 1) / 2
        return torch.cat([10 * way, torch.ones(len(x), 1)], 1).clamp(-1, 1)

    test.score(policy, 1024)
    together = torch.stack(asked)  # [steps, 5, 1, D]
    asked.clear()
    test.score(policy, 1)
    assert torch.equal(torch.stack(asked).unflatten(0, (5, 12)).transpose(0, 1)[:, :, 0], together)
    assert (together[0] != together[-1]).any(-1).all()


@pytest.mark.parametrize("size", [15, 257])
def test_a_camera_of_an_odd_size_is_refused(size):
    with pytest.raises(UsageError, match="camera_size must be from 16 to 256 pixels"):
        load_stream("libero-object-mini", **FEW, observe="camera", camera_size=size)


# -- files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [{}, {"history": 3, "language": "one-hot"}, CAMERA, {**CAMERA, "history": 2}])
def test_a_stream_from_files_is_the_stream(exported, more):
    folder, _ = exported
    again = load_stream("libero-object-mini", **FEW, **more, files=str(folder))
    made = load_stream("libero-object-mini", **FEW, **more)
    assert again.fingerprint == made.fingerprint
    assert [test.digest() for test in again.held_tests] == [test.digest() for test in made.held_tests]


def test_the_first_of_a_file_s_demonstrations_are_those_of_a_shorter_stream(exported):
    fewer = FEW | {"demonstrations": 2}
    again = load_stream("libero-object-mini", **fewer, files=str(exported[0]))
    assert again.fingerprint == load_stream("libero-object-mini", **fewer).fingerprint


@pytest.mark.parametrize(("name", "more"), [("libero-10-mini", {"order": 4, "seed": 7}), ("libero-90-mini", {})])
def test_other_orders_seeds_and_suites(name, more, tmp_path):
    made = load_stream(name, **FEW, **more)
    export(made, tmp_path)
    assert load_stream(name, **FEW, **more, files=str(tmp_path)).fingerprint == made.fingerprint


def test_libero_s_reader_takes_the_files_as_they_are(exported):
    folder, paths = exported
    assert [path.relative_to(folder).as_posix() for path in paths[:2]] == [
        "libero_object_mini/put_the_soup_in_the_basket_demo.hdf5",
        "libero_object_mini/put_the_soup_in_the_basket_init.npy",
    ]
    task = suite("libero-object-mini")[0]
    shown = demonstrate(task, 3)
    found = read_demonstrations(paths[0], ("agentview_rgb",), count=3)
    assert found.language == task.instruction and parse(found.bddl) == task
    assert torch.equal(torch.from_numpy(found.actions), shown.actions) and found.lengths.tolist() == [*shown.lengths]
    assert torch.equal(torch.from_numpy(found.proprio), shown.robot[:, [2, 0, 1]])  # the hand, then the joints
    world = World([task], torch.zeros(len(shown.states), dtype=torch.int64), shown.states)
    assert torch.equal(torch.from_numpy(found.images[:][:, 0]), render(world, SIZE))
    assert torch.equal(torch.from_numpy(found.initial).float(), starts(task, "demonstrations", 3))
    assert torch.equal(torch.from_numpy(read_initial_states(paths[1])).float(), starts(task))
    with h5py.File(paths[0]) as file:
        demo = file["data/demo_1"]
        rows = slice(int(shown.lengths[0]), int(shown.lengths[:2].sum()))
        assert np.array_equal(demo["states"][1:], shown.states[rows].double())
        assert np.array_equal(demo["obs/entities"][:-1], shown.entities[rows].flatten(1).double())
        assert np.array_equal(demo["robot_states"][:-1], shown.robot[rows].double())


def test_the_same_stream_makes_the_same_bytes(exported, tmp_path):
    folder, paths = exported
    for path in export(load_stream("libero-object-mini", **FEW, **CAMERA), tmp_path):
        assert path.read_bytes() == (folder / path.relative_to(tmp_path)).read_bytes()


def test_no_two_tasks_share_a_file():
    for name in SUITES:
        assert len({task_file("", name, task) for task in suite(name)}) == len(suite(name))


def change(path, do):
    with h5py.File(path, "r+") as file:
        do(file["data"])


@pytest.mark.parametrize(
    ("spoil", "more", "error", "says"),
    [
        (lambda path: path.unlink(), {}, StorageError, "does not exist"),
        (lambda path: None, {"demonstrations": 4}, UsageError, "holds 3 demonstrations. Set stream.demonstrations=3"),
        (lambda path: None, {"observe": "camera"}, UsageError, "pictures of 16 pixels a side. Set stream.camera_size="),
        (lambda path: change(path, lambda data: data.attrs.update(bddl_file_content="(define)")), {}, InvalidError,
         "shows another task than object/put-the-soup-in-the-basket"),
        (lambda path: change(path, lambda data: data["demo_2"].attrs.pop("init_state")), {}, InvalidError,
         "actions, observations and states have"),
        (lambda path: change(path, lambda data: data["demo_0/obs"].pop("agentview_rgb")), CAMERA, InvalidError,
         "has no agentview_rgb"),
        (lambda path: path.write_bytes(path.read_bytes()[:9000]), {}, InvalidError, "is no whole HDF5 file"),
        (lambda path: None, {"seed": 1}, UsageError, "was not made with seed 1. Set stream.seed"),
    ],
    ids=["missing", "too few", "other size", "another task", "no states", "no pictures", "cut short", "another seed"],
)  # fmt: skip
def test_files_that_do_not_fit_are_refused_in_one_line(spoil, more, error, says, exported, tmp_path):
    for path in exported[1]:
        target = tmp_path / path.relative_to(exported[0])
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(path.read_bytes())
    spoil(tmp_path / exported[1][0].relative_to(exported[0]))
    with pytest.raises(error, match=says) as refused:
        load_stream("libero-object-mini", **FEW | {"n_tasks": 1} | more, files=str(tmp_path))
    assert "\n" not in str(refused.value)


def test_the_command(tmp_path):
    answer = call(
        "data", "export", "libero-goal-mini", tmp_path, "--set", "n_tasks=1", "--set", "stream.demonstrations=2"
    )
    assert (answer.code, answer.err, answer.out) == (0, "", f"2 files are in {tmp_path / 'libero_goal_mini'}\n")
    few = {"n_tasks": 1, "demonstrations": 2}
    again = load_stream("libero-goal-mini", **few, files=str(tmp_path))
    assert again.fingerprint == load_stream("libero-goal-mini", **few).fingerprint
    listed = call("data", "export", "libero-goal-mini", tmp_path, "--set", "n_tasks=1", "--json")
    assert listed.code == 0 and "open_the_left_drawer_demo.hdf5" in listed.out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["split-digits"], "unknown stream of the table-top 'split-digits'."),
        (["libero-goal-mini", "--set", "n_task=1"], "Did you mean 'n_tasks'?"),
        (["libero-goal-mini", "--set", "n_tasks"], "write name=value"),
    ],
)
def test_what_cannot_be_exported(words, says, tmp_path):
    answer = call("data", "export", words[0], tmp_path, *words[1:])
    assert answer.code == 2 and says in answer.err and not list(tmp_path.iterdir())
