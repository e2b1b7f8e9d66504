"""LIBERO's files in their exact layout: which row goes with which, which way up, and what a damaged file answers."""

from __future__ import annotations

import io
import json
import os
import pickle
import pickletools
import sys
import warnings
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from carryover.base import files
from carryover.base.errors import CarryoverError, InvalidError, StorageError, UsageError
from carryover.streams.core import Data
from carryover.streams.needs import needs
from carryover.streams.rows import Rows
from carryover.streams.sources.libero import hdf5, lerobot
from carryover.streams.sources.libero.bddl import parse
from carryover.streams.sources.libero.bddl import write as write_bddl
from carryover.streams.sources.libero.demonstrations import CAMERAS, paired
from carryover.streams.sources.libero.hdf5 import Frames, read_demonstrations
from carryover.streams.sources.libero.initial import read_initial_states
from carryover.streams.sources.libero.lerobot import read_lerobot
from carryover.streams.sources.libero.names import SUITES, language
from carryover.streams.sources.libero.simulator import import_libero
from carryover.streams.sources.libero.suites import load_suite, suite_need, task_file
from carryover.streams.sources.libero.writing import write_demonstrations
from PIL import Image

LENGTHS = (4, 3, 5)
BDDL = """(define (problem LIBERO_Tabletop_Manipulation)
  (:domain robosuite)
  (:language Open the top layer of the drawer and put the bowl inside)  ; not what the file is called
    (:regions
      (cabinet_region
          (:target main_table)
          (:ranges (
              (0.02 -0.25 0.04 -0.23)
            )
          )
          (:yaw_rotation (
              (3.141592653589793 3.141592653589793)
            )
          )
      )
      (top_region
          (:target wooden_cabinet_1)
      )
      (top_region
          (:target wine_rack_1)
          (:rgba (0.0 0.5 1.0 0.25))
      )
    )
  (:fixtures
    main_table - table
    wooden_cabinet_1 - wooden_cabinet
    wine_rack_1 - wine_rack
  )
  (:objects
    akita_black_bowl_1 akita_black_bowl_2 - akita_black_bowl
    plate_1 - plate
  )
  (:obj_of_interest
    akita_black_bowl_1
    wooden_cabinet_1_top_region
  )
  (:init
    (On plate_1 main_table_plate_region)
    (Open wooden_cabinet_1_top_region)
  )
  (:goal
    (And (In akita_black_bowl_1 wooden_cabinet_1_top_region) (Close wooden_cabinet_1_top_region))
  )
)
"""


def number(d: int, t: int) -> int:
    """What stands in everything that was recorded at step t of demonstration d."""
    return 20 * d + t + 1


def scene(value: int, side: int, camera: int) -> np.ndarray:
    """An upright picture [side, side, 3] with red in its left upper corner, green in the right one, a number amid."""
    pixels = np.full((side, side, 3), camera, np.uint8)
    pixels[: side // 4, : side // 4] = (255, 0, 0)
    pixels[: side // 4, -side // 4 :] = (0, 255, 0)
    pixels[side // 2, side // 2] = value
    return pixels


def raw_demo(d: int, length: int, side: int) -> dict[str, np.ndarray]:
    """One demonstration as the simulator gives it: observations after the step, images from the bottom up."""
    steps = np.array([number(d, t) for t in range(length)], float)
    column = lambda width, add=0.0: steps[:, None] + np.arange(width) / 16 + add
    ee = column(6, 0.5)
    return {
        "actions": np.concatenate([column(6) / 100, np.where(steps % 2, 1.0, -1.0)[:, None]], 1),
        "states": column(11) - 1,  # before the step
        "robot_states": column(9),
        "rewards": (np.arange(length) == length - 1).astype(np.uint8),
        "dones": (np.arange(length) == length - 1).astype(np.uint8),
        "obs/agentview_rgb": np.stack([scene(int(n), side, 7)[::-1] for n in steps]),
        "obs/eye_in_hand_rgb": np.stack([scene(int(n), side, 8)[::-1] for n in steps]),
        "obs/gripper_states": column(2, 0.25),
        "obs/joint_states": column(7),
        "obs/ee_states": ee,
        "obs/ee_pos": ee[:, :3],
        "obs/ee_ori": ee[:, 3:],
    }


def libero_file(path: Path, lengths=LENGTHS, side: int = 128, convention: str = "opengl") -> Path:
    """A file as LIBERO's create_dataset.py writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_name"] = "Libero_Tabletop_Manipulation"
        data.attrs["problem_info"] = json.dumps(
            {"problem_name": "p", "domain_name": "robosuite", "language_instruction": "Another sentence"}
        )
        data.attrs["macros_image_convention"] = convention
        data.attrs["bddl_file_name"] = "bddl_files/libero_goal/x.bddl"
        data.attrs["bddl_file_content"] = BDDL
        data.attrs["env_args"] = json.dumps({"type": 1, "env_name": "e", "env_kwargs": {}})
        for d, length in enumerate(lengths):
            demo = data.create_group(f"demo_{d}")
            arrays = raw_demo(d, length, side)
            for key, array in arrays.items():
                demo.create_dataset(key, data=array)
            demo.attrs["num_samples"] = length
            demo.attrs["model_file"] = "<mujoco/>"
            demo.attrs["init_state"] = arrays["states"][0]
        data.attrs["num_demos"] = len(lengths)
        data.attrs["total"] = sum(lengths)
    return path


@pytest.fixture
def file(tmp_path):
    return libero_file(tmp_path / "libero_goal" / "open_the_top_drawer_and_put_the_bowl_inside_demo.hdf5")


def read(path: Path, *args, **options):
    return read_demonstrations(path, *args, **{"count": None} | options)


def shown(images) -> np.ndarray:
    """The number in each picture."""
    side = images.shape[-1]
    return images[:][:, 0, 0, side // 2, side // 2].astype(int)


def one_line(caught) -> str:
    text = str(caught.value)
    assert "\n" not in text and len(text) < 500, text
    return text


# -- HDF5 -----------------------------------------------------------------------------------------------------------


def test_shapes_and_what_is_told(file):
    found = read(file)
    n = sum(LENGTHS) - len(LENGTHS)
    assert (found.actions.shape, found.actions.dtype) == ((n, 7), np.float32)
    assert (found.proprio.shape, found.proprio.dtype) == ((n, 9), np.float32)
    assert (found.images.shape, found.images.dtype) == ((n, 2, 3, 128, 128), np.uint8)
    assert found.lengths.tolist() == [3, 2, 4] and len(found) == 3
    assert list(found.episodes()) == [slice(0, 3), slice(3, 5), slice(5, 9)]
    assert found.language == "open the top drawer and put the bowl inside"  # the file's name, not what stands in it
    assert found.bddl == BDDL and found.initial.shape == (3, 11)
    assert found.initial[:, 0].tolist() == [number(d, 0) - 1 for d in range(3)]


def test_an_action_goes_with_what_was_seen_before_it(file):
    found = read(file)
    wanted = [number(d, t) for d, length in enumerate(LENGTHS) for t in range(1, length)]
    assert np.allclose(found.actions[:, 0] * 100, wanted)
    assert shown(found.images).tolist() == [n - 1 for n in wanted]
    assert np.allclose(found.proprio[:, 2], np.array(wanted) - 1)
    assert set(np.unique(found.actions[:, 6])) == {-1, 1}


def test_rows_as_they_are_stored(file):
    found = read(file, pairing="stored")
    wanted = [number(d, t) for d, length in enumerate(LENGTHS) for t in range(length)]
    assert np.allclose(found.actions[:, 0] * 100, wanted) and shown(found.images).tolist() == wanted
    assert found.lengths.tolist() == list(LENGTHS)
    with pytest.raises(UsageError, match="unknown pairing 'sean'. Did you mean 'seen'"):
        read(file, pairing="sean")
    seen, done = paired([2, 3], "seen")
    assert (seen.tolist(), done.tolist()) == ([0, 2, 3], [1, 3, 4])


def test_the_robots_row_is_fingers_then_joints(file):
    row = read(file).proprio[0]
    assert np.allclose(row, [1.25, 1.3125, *(1 + np.arange(7) / 16)])
    other = read(file, (), ("ee_states", "gripper_states"))
    assert other.proprio.shape[1] == 8 and np.allclose(other.proprio[0, -2:], row[:2])
    assert read(file, proprio=()).proprio.shape == (9, 0)


@pytest.mark.parametrize("convention", ["opengl", "opencv"])
def test_images_stand_upright_and_are_not_mirrored(tmp_path, convention):
    path = libero_file(tmp_path / "a_demo.hdf5", side=16, convention=convention)
    image = read(path).images[0]
    assert image[0].transpose(1, 2, 0).tolist() == (scene(1, 16, 7)[:: 1 if convention == "opengl" else -1]).tolist()
    assert image[:, 0, 1, 8].tolist() == [7, 8]
    assert read(path, CAMERAS[1:]).images.shape == (9, 1, 3, 16, 16)
    if convention == "opengl":
        assert image[0, :, 0, 0].tolist() == [255, 0, 0] and image[0, :, 0, -1].tolist() == [0, 255, 0]


def test_demonstrations_are_in_the_order_of_their_numbers(tmp_path):
    found = read(libero_file(tmp_path / "a_demo.hdf5", (2,) * 12, side=8))
    assert shown(found.images).tolist() == [number(d, 0) % 256 for d in range(12)]


def test_nothing_of_the_images_is_read_before_it_is_asked_for(file, monkeypatch):
    asked = []
    real = Frames.__getitem__
    monkeypatch.setattr(Frames, "__getitem__", lambda self, key: (asked.append(key), real(self, key))[1])
    found = read(file)
    assert not asked and isinstance(found.images, Rows)
    found.images[2:4]
    assert np.concatenate(asked).tolist() == [2, 4]  # the last of the first demonstration is nobody's


def test_any_rows_in_any_order(file):
    frames = read(file).images
    whole = frames[:]
    for key in (np.array([8, 0, 0, 5, 8, 2]), slice(6, 2, -1), slice(3, 3), np.array([1])):
        assert np.array_equal(frames[key], whole[key])
    assert np.array_equal(frames[-1], whole[-1])
    data = Data(frames, torch.from_numpy(read(file).actions))
    stored, targets = data.gather(torch.tensor([7, 1]))
    assert np.array_equal(stored.numpy(), whole[[7, 1]]) and targets.shape == (2, 7)


def test_another_number_of_demonstrations_is_warned_of(file):
    with pytest.warns(UserWarning, match="holds 3 demonstrations, not 50"):
        read_demonstrations(file)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_demonstrations(file, count=3)


def drop(key):
    def damage(path):
        with h5py.File(path, "a") as file:
            del file[key]

    return damage


def swap(key, array):
    def damage(path):
        with h5py.File(path, "a") as file:
            del file[key]
            file[key] = array

    return damage


NAN = np.full((3, 7), np.nan)
DAMAGE = {
    "gone": (lambda path: path.unlink(), StorageError, "does not exist"),
    "cut": (lambda path: os.truncate(path, path.stat().st_size // 2), InvalidError, "no whole HDF5 file: .*truncated"),
    "empty": (lambda path: path.write_bytes(b""), InvalidError, "is no whole HDF5 file"),
    "text": (lambda path: path.write_text("<html>"), InvalidError, "is no whole HDF5 file"),
    "no data": (drop("data"), InvalidError, "the file has no data, only nothing"),
    "no actions": (drop("data/demo_1/actions"), InvalidError, "data/demo_1 has no actions, only dones, obs"),
    "no joints": (drop("data/demo_2/obs/joint_states"), InvalidError, "demo_2/obs has no joint_states, only agentv"),
    "no camera": (drop("data/demo_0/obs/agentview_rgb"), InvalidError, "demo_0/obs has no agentview_rgb, only ee_"),
    "short": (swap("data/demo_1/obs/joint_states", np.zeros((2, 7))), InvalidError, r"is \(2, 7\) float64, not \(3, "),
    "nan": (swap("data/demo_1/actions", NAN), InvalidError, "demo_1/actions holds a number that is not finite"),
    "words": (swap("data/demo_1/actions", np.array([[b"a"]])), InvalidError, r"demo_1/actions is \(1, 1\) \|S1"),
    "image": (
        swap("data/demo_1/obs/agentview_rgb", np.zeros((3, 64, 64, 3), np.uint8)), InvalidError,
        r"demo_1/obs/agentview_rgb is \(3, 64, 64, 3\) uint8, not \(3, 128, 128, 3\) uint8",
    ),
    "dark": (swap("data/demo_0/obs/agentview_rgb", np.zeros(3)), InvalidError, "demo_0/obs/agentview_rgb is"),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_file_is_one_line(file, kind):
    damage, error, message = DAMAGE[kind]
    damage(file)
    with pytest.raises(error, match=message) as caught:
        read(file)
    assert one_line(caught).startswith(str(file))


def test_demonstrations_too_short_to_pair(tmp_path):
    path = libero_file(tmp_path / "a_demo.hdf5", (3, 1), side=8)
    with pytest.raises(InvalidError, match="demo_1 has 1 steps, and 2 make a row"):
        read(path)
    assert read(path, pairing="stored").lengths.tolist() == [3, 1]


def test_a_file_that_vanishes_after_it_was_opened(file):
    found = read(file)
    file.unlink()
    with pytest.raises(StorageError, match="does not exist"):
        found.images[0]


def test_without_h5py_it_is_said_how_to_get_it(file, monkeypatch):
    monkeypatch.setattr(hdf5, "find_spec", lambda name: None)
    for attempt in (lambda: read(file), lambda: written(file.parent / "b_demo.hdf5")):
        with pytest.raises(StorageError, match=r'needs h5py.* Run: pip install "carryover\[robot\]"\.$') as caught:
            attempt()
        one_line(caught)


# -- writing --------------------------------------------------------------------------------------------------------


def arrays(side: int = 8) -> dict:
    """What a policy sees and does, of five and two steps."""
    draw = np.random.RandomState(0)
    return {
        "actions": draw.uniform(-1, 1, (7, 3)).astype(np.float32),
        "observations": {
            "robot": draw.randn(7, 4).astype(np.float32),
            "top_rgb": draw.randint(0, 256, (7, 3, side, side)).astype(np.uint8),
        },
        "lengths": [5, 2],
        "states": draw.randn(7, 6),
        "bddl": BDDL,
        "attributes": {"env_name": "table"},
    }


def written(path: Path, **changes) -> Path:
    given = arrays() | changes
    write_demonstrations(path, given.pop("actions"), given.pop("observations"), given.pop("lengths"), **given)
    return path


def test_what_is_written_is_read_again(tmp_path):
    given = arrays()
    path = written(tmp_path / "KITCHEN_SCENE10_close_it_demo.hdf5")
    found = read(path, ("top_rgb",), ("robot",))
    assert np.array_equal(found.actions, given["actions"]) and found.lengths.tolist() == [5, 2]
    assert np.array_equal(found.proprio, given["observations"]["robot"])
    assert np.array_equal(found.images[:][:, 0], given["observations"]["top_rgb"])
    assert np.array_equal(found.initial, given["states"][[0, 5]])
    assert (found.language, found.bddl) == ("close it", BDDL)
    assert read(written(path, observations={"robot": np.zeros((7, 1))}), (), ("robot",)).images is None
    stored = read(written(path, pairing="stored"), ("top_rgb",), ("robot",), pairing="stored")
    assert np.array_equal(stored.actions, given["actions"])


def test_the_layout_is_liberos(file, tmp_path):
    """Every array and attribute with its type and shape, once the file's own rows are written as they stand."""
    libero_file(file, side=16)
    raw = [raw_demo(d, length, 16) for d, length in enumerate(LENGTHS)]
    whole = {key: np.concatenate([demo[key] for demo in raw]) for key in raw[0]}
    observations = {key.removeprefix("obs/"): part for key, part in whole.items() if key.startswith("obs/")}
    observations |= {key: observations[key][:, ::-1].transpose(0, 3, 1, 2) for key in CAMERAS}
    observations["robot_states"] = whole["robot_states"]
    path = tmp_path / "written_demo.hdf5"
    written(path, actions=whole["actions"], observations=observations, lengths=LENGTHS, states=whole["states"],
            pairing="stored", attributes={})  # fmt: skip

    def layout(path):
        found = {}
        with h5py.File(path) as read:
            read.visititems(lambda name, one: found.update({(name, key): type(v) for key, v in one.attrs.items()}))
            read.visititems(
                lambda name, one: found.update({name: one[:].tolist(), f"{name} type": (one.dtype, one.shape)})
                if isinstance(one, h5py.Dataset) else None
            )  # fmt: skip
        return found

    assert layout(path) == layout(file)


def test_the_same_arrays_make_the_same_bytes(tmp_path):
    one, two = written(tmp_path / "a_demo.hdf5"), written(tmp_path / "b" / "a_demo.hdf5")
    assert one.read_bytes() == two.read_bytes()
    assert one.read_bytes() != written(two, states=np.ones((7, 6))).read_bytes()


def test_a_file_is_whole_or_as_it_was(tmp_path, monkeypatch):
    path = written(tmp_path / "a_demo.hdf5")
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(StorageError, match="a_demo.hdf5 cannot be written: No space left on device"):
        written(path, states=np.ones((7, 6)))
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["a_demo.hdf5"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lengths": [5, 1]}, "actions has 7 rows, but the lengths make 6"),
        ({"states": np.zeros((3, 2))}, "states has 3 rows"),
        ({"lengths": [7, 0]}, "one at least"),
    ],
)
def test_arrays_that_do_not_agree(tmp_path, changes, message):
    with pytest.raises(UsageError, match=message):
        written(tmp_path / "a_demo.hdf5", **changes)
    assert not list(tmp_path.iterdir())


# -- suites ---------------------------------------------------------------------------------------------------------


def test_the_suites_are_liberos():
    assert {name: len(tasks) for name, tasks in SUITES.items()} == {
        "libero-spatial": 10, "libero-object": 10, "libero-goal": 10, "libero-10": 10, "libero-90": 90,
    }  # fmt: skip
    names = [task for tasks in SUITES.values() for task in tasks]
    assert len(set(names)) == 130 and SUITES["libero-90"] == tuple(sorted(SUITES["libero-90"]))
    rooms = [task.partition("_SCENE")[0] for task in SUITES["libero-90"]]
    assert {room: rooms.count(room) for room in set(rooms)} == {"KITCHEN": 46, "LIVING_ROOM": 27, "STUDY": 17}
    assert (
        len({task.partition("_SCENE")[0] + task.partition("_SCENE")[2].split("_")[0] for task in SUITES["libero-90"]})
        == 20
    )
    words = [word for task in names for word in language(task).split()]
    assert not any("SCENE" in word or word != word.lower() for word in words)


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("KITCHEN_SCENE10_close_the_top_drawer", "close the top drawer"),
        ("LIVING_ROOM_SCENE5_put_it_there", "put it there"),
        ("turn_on_the_stove", "turn on the stove"),
    ],
)
def test_language_is_the_files_name(task, words):
    assert language(task) == words


@pytest.fixture
def suite(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own"))
    monkeypatch.setitem(SUITES, "libero-goal", SUITES["libero-goal"][4:8])
    root = tmp_path / "data"
    for k, task in enumerate(SUITES["libero-goal"]):
        libero_file(root / task_file("libero-goal", task), (2 + k, 3), side=8)
    return root


@pytest.mark.filterwarnings("ignore:.*demonstrations, not 50")
def test_a_suite_in_order_its_images_decoded_once(suite, monkeypatch):
    found = load_suite("libero-goal", suite)
    assert [one.language for one in found] == [language(task) for task in SUITES["libero-goal"]]
    assert [one.lengths.tolist() for one in found] == [[1 + k, 2] for k in range(4)]
    for task, one in zip(SUITES["libero-goal"], found, strict=True):
        assert isinstance(one.images, np.memmap) and not one.images.flags.writeable
        assert np.array_equal(one.images, read(suite / task_file("libero-goal", task)).images[:])
    stored = load_suite("libero-goal", suite, pairing="stored")[3]
    assert len(stored.images) == len(found[3].images) + 2

    changed = suite / task_file("libero-goal", SUITES["libero-goal"][3])
    with monkeypatch.context() as patch:
        patch.setattr(Frames, "__getitem__", lambda *_: pytest.fail("decoded again"))
        load_suite("libero-goal", suite)
    libero_file(changed, (4, 3), side=8)
    assert len(load_suite("libero-goal", suite)[3].images) == 5
    assert load_suite("libero-goal", suite, images=())[0].images is None


def test_what_is_missing_is_said(suite):
    assert suite_need("libero-goal", suite).there
    gone = suite / task_file("libero-goal", "turn_on_the_stove")
    gone.unlink()
    assert suite_need("libero-goal", suite).lacks == ("libero/libero_goal/turn_on_the_stove_demo.hdf5",)
    with pytest.raises(StorageError, match="libero-goal lacks 1 of its 4 files, such as .*turn_on_the_stove") as caught:
        load_suite("libero-goal", suite)
    assert "https://huggingface.co/datasets/yifengzhu-hf/LIBERO-datasets into libero" in one_line(caught)
    with pytest.raises(StorageError, match="libero-90 lacks 90 of its 90 files"):
        load_suite("libero-90", suite)
    with pytest.raises(UsageError, match="unknown suite of LIBERO 'libero-100'"):
        load_suite("libero-100", suite)


def test_a_file_that_is_not_liberos_is_told_from_one_that_is(suite):
    written(suite / task_file("libero-goal", "turn_on_the_stove"))
    with pytest.warns(UserWarning), pytest.raises(InvalidError, match="actions of 3 numbers, not of 7"):
        load_suite("libero-goal", suite, (), ("robot",)[:0])


def test_a_stream_that_reads_a_suite_tells_what_it_needs(suite):
    path = suite / "mine.py"
    path.write_text(
        "from carryover.streams import stream\n\n\n"
        '@stream("mine", embedded=False, needs="libero-goal, libero-10")\n'
        'def mine(*, data=None):\n    """Robots."""\n'
    )
    found = needs(f"{path}:mine", suite)
    assert [(one.name, one.there, len(one.lacks)) for one in found] == [
        ("libero-goal", True, 0),
        ("libero-10", False, 10),
    ]


# -- LeRobot --------------------------------------------------------------------------------------------------------

TASKS = ("turn on the stove", "put the bowl on the plate")


def png(pixels: np.ndarray) -> dict:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return {"bytes": file.getvalue(), "path": None}


def lerobot_folder(folder: Path, side: int = 16, kind: str = "image", version: str = "v3.0") -> Path:
    """A copy as it was made: frames before their step, turned by 180 degrees; two tasks in turn, two files."""
    frames: list[dict] = []
    episodes: list[dict] = []
    for number_, (d, task) in enumerate([(0, 0), (0, 1), (1, 0), (2, 0), (1, 1)]):
        raw = raw_demo(d, LENGTHS[d], side)
        begin = len(frames)
        for t in range(LENGTHS[d] - 1):
            frames.append(
                {
                    "observation.images.image": png(np.rot90(raw["obs/agentview_rgb"][t], 2)),
                    "observation.images.image2": png(np.rot90(raw["obs/eye_in_hand_rgb"][t], 2)),
                    "observation.state": [*raw["obs/ee_states"][t], *raw["obs/gripper_states"][t]],
                    "action": raw["actions"][t + 1] * (1 if task == 0 else -1),
                    "timestamp": t / 10,
                    "frame_index": t,
                    "episode_index": number_,
                    "index": len(frames),
                    "task_index": 1 - task,
                }
            )
        episodes.append({"episode_index": number_, "tasks": [TASKS[task]], "length": len(frames) - begin})
        episodes[-1] |= {"data/chunk_index": 0, "data/file_index": int(number_ > 2)}
    picture = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema(
        [(f"observation.images.{name}", picture) for name in ("image", "image2")]
        + [("observation.state", pa.list_(pa.float32(), 8)), ("action", pa.list_(pa.float32(), 7))]
        + [("timestamp", pa.float32())]
        + [(name, pa.int64()) for name in ("frame_index", "episode_index", "index", "task_index")]
    )  # fmt: skip
    for place in ("meta/episodes/chunk-000", "data/chunk-000"):
        (folder / place).mkdir(parents=True)
    for file in (0, 1):
        rows = [row for row in frames if int(row["episode_index"] > 2) == file]
        path = folder / "data" / "chunk-000" / f"file-00{file}.parquet"
        pa.parquet.write_table(pa.Table.from_pylist(rows, schema), path, row_group_size=3)
    pa.parquet.write_table(
        pa.Table.from_pylist(episodes), folder / "meta" / "episodes" / "chunk-000" / "file-000.parquet"
    )
    table = pa.table({"task_index": [1, 0], "__index_level_0__": list(TASKS)})
    pa.parquet.write_table(table, folder / "meta" / "tasks.parquet")
    features = {f"observation.images.{name}": {"dtype": kind, "shape": [side, side, 3]} for name in ("image", "image2")}
    (folder / "meta" / "info.json").write_text(json.dumps({"codebase_version": version, "features": features}))
    return folder


@pytest.fixture
def copy(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own"))
    return lerobot_folder(tmp_path / "copy")


def test_a_copy_holds_what_the_file_holds(copy, tmp_path):
    file = read(
        libero_file(tmp_path / "turn_on_the_stove_demo.hdf5", side=16), CAMERAS, ("ee_states", "gripper_states")
    )
    found = read_lerobot(copy, "turn on the stove")
    assert found.language == file.language and found.cameras == file.cameras
    for name in ("actions", "proprio", "lengths", "images"):
        assert np.array_equal(getattr(found, name)[:], getattr(file, name)[:]), name
    assert found.actions.dtype == found.proprio.dtype == np.float32
    other = read_lerobot(copy, "put the bowl on the plate", CAMERAS[1:])
    assert other.lengths.tolist() == [3, 2] and other.images.shape == (5, 1, 3, 16, 16)
    assert (other.images[:, 0, :, 1, 8] == 8).all()


def test_a_copy_is_decoded_once(copy, monkeypatch):
    first = read_lerobot(copy, "turn on the stove").images
    decoded = []
    real = lerobot._image
    monkeypatch.setattr(lerobot, "_image", lambda *args: (decoded.append(1), real(*args))[1])
    assert np.array_equal(read_lerobot(copy, "turn on the stove").images, first)
    assert len(decoded) == 2  # one frame, for its size
    assert read_lerobot(copy, "turn on the stove", ()).images is None and len(decoded) == 2


def lost_frame(folder):
    path = folder / "data" / "chunk-000" / "file-000.parquet"
    pa.parquet.write_table(pa.parquet.read_table(path).slice(1), path)


def turned(folder):
    path = folder / "data" / "chunk-000" / "file-000.parquet"
    table = pa.parquet.read_table(path)
    pa.parquet.write_table(table.take([1, 0, *range(2, len(table))]), path)


def broken_image(folder):
    path = folder / "data" / "chunk-000" / "file-001.parquet"
    table = pa.parquet.read_table(path)
    rows = table.to_pylist()
    rows[0]["observation.images.image"]["bytes"] = b"\x89PNG"
    pa.parquet.write_table(pa.Table.from_pylist(rows, table.schema), path)


COPIES = {
    "no folder": (lambda folder: (folder / "meta" / "info.json").unlink(), StorageError, "info.json does not exist"),
    "no file": (
        lambda f: (f / "data/chunk-000/file-001.parquet").unlink(),
        StorageError,
        "file-001.parquet does not exist",
    ),
    "cut": (
        lambda f: os.truncate(f / "data/chunk-000/file-000.parquet", 900),
        InvalidError,
        "is no whole Parquet file",
    ),
    "no episodes": (
        lambda f: (f / "meta/episodes/chunk-000/file-000.parquet").unlink(),
        InvalidError,
        "names no demons",
    ),
    "lost": (lost_frame, InvalidError, "1 frames are missing"),
    "turned": (turned, InvalidError, "out of order"),
    "image": (broken_image, InvalidError, "file-001.parquet holds an image that cannot be decoded"),
}


@pytest.mark.parametrize("kind", COPIES)
def test_a_damaged_copy_is_one_line(copy, kind):
    damage, error, message = COPIES[kind]
    damage(copy)
    with pytest.raises(error, match=message) as caught:
        read_lerobot(copy, "turn on the stove")
    one_line(caught)


def test_other_layouts_say_what_to_take_instead(tmp_path):
    instead = r"Take HuggingFaceVLA/libero, whose frames are PNG in Parquet files\.$"
    video = lerobot_folder(tmp_path / "video", kind="video")
    with pytest.raises(UsageError, match=f"has MP4 videos as observation.images.image, which is not read. {instead}"):
        read_lerobot(video, "turn on the stove")
    assert len(read_lerobot(video, "turn on the stove", ())) == 3
    with pytest.raises(UsageError, match=f"layout v2.1, not v3.0. {instead}"):
        read_lerobot(lerobot_folder(tmp_path / "old", version="v2.1"), "turn on the stove")
    with pytest.raises(UsageError, match="unknown task 'turn the stove'. Did you mean 'turn on the stove'"):
        read_lerobot(lerobot_folder(tmp_path / "new"), "turn the stove")
    with pytest.raises(UsageError, match="unknown camera 'front'"):
        read_lerobot(tmp_path / "new", "turn on the stove", ("front",))


# -- goals ----------------------------------------------------------------------------------------------------------


def test_a_goal_file():
    found = parse(BDDL)
    assert (found.name, found.domain) == ("LIBERO_Tabletop_Manipulation", "robosuite")
    assert found.language == "Open the top layer of the drawer and put the bowl inside"
    assert found.goal == (
        ("In", "akita_black_bowl_1", "wooden_cabinet_1_top_region"),
        ("Close", "wooden_cabinet_1_top_region"),
    )
    assert found.init[1] == ("Open", "wooden_cabinet_1_top_region") and len(found.init) == 2
    assert found.objects == {
        "akita_black_bowl_1": "akita_black_bowl",
        "akita_black_bowl_2": "akita_black_bowl",
        "plate_1": "plate",
    }
    assert list(found.fixtures) == ["main_table", "wooden_cabinet_1", "wine_rack_1"]
    assert found.interest == ("akita_black_bowl_1", "wooden_cabinet_1_top_region")
    place, top, rack = found.regions
    assert place.ranges == ((0.02, -0.25, 0.04, -0.23),) and place.yaw == (np.pi, np.pi)
    assert (top.target, rack.target, rack.rgba) == ("wooden_cabinet_1", "wine_rack_1", (0.0, 0.5, 1.0, 0.25))
    assert (top.ranges, top.yaw, top.rgba) == ((), None, None)


def test_round_trip():
    once = parse(BDDL)
    assert parse(write_bddl(once)) == once
    single = parse("(define (problem p) (:goal (Open drawer_1)))")
    assert single.goal == (("Open", "drawer_1"),) and parse(write_bddl(single)) == single


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BDDL.replace("(:target main_table)", "(:target main_table"), "line 1: the parenthesis opened here is never"),
        ("(define (problem p)\n  (:init (On a b)\n  (:goal (And (On a b))))", "line 1: the parenthesis opened here is"),
        ("(define (problem p)\n  (:goal (And (On a b))))\n)", "line 3: a parenthesis is closed that was never opened"),
        ("", "not one .define ...., but 0 expressions"),
        ("define", "not one"),
        ("()", "is not a BDDL problem"),
        ("(define (problem p))", "it has no :goal"),
        ("(define (problem p) (:gaol x) (:goal (And (On a b))))", "the section :gaol is not known"),
        ("(define (problem p) (:goal (Or (And (On a b)) (On c d))))", "is not a predicate"),
        ("(define (problem p) (:goal (And (Not (On a b)))))", "is not a predicate"),
        ("(define (problem p) (:objects a b) (:goal (And (On a b))))", "b has no type"),
        ("(define (problem p) (:regions (r (:ranges ((0 0 1 1))))) (:goal (And (On a b))))", "region r has no :target"),
        ("(define (problem p) (:regions (r (:target t) (:ranges ((0 0 1))))) (:goal (On a b)))", "3 numbers, not 4"),
        ("(define (problem p) (:regions (r (:target t) (:ranges ((0 0 1 x))))) (:goal (And (On a b))))", "float: 'x'"),
        ("(" * 5_000, "never closed"),
    ],
)  # fmt: skip
def test_a_text_that_is_none_says_where(text, message):
    with pytest.raises(InvalidError, match=message) as caught:
        parse(text, "task.bddl")
    assert one_line(caught).startswith("task.bddl")


# -- initial states -------------------------------------------------------------------------------------------------

STATES = np.random.RandomState(0).randn(50, 92)


class Harm:
    """What runs when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize(
    "options", [{}, {"pickle_protocol": 3}, {"pickle_protocol": 4}, {"_use_new_zipfile_serialization": False}]
)
@pytest.mark.parametrize("states", [STATES, STATES.astype(np.float32), np.asfortranarray(STATES), STATES.astype(">f8")])
def test_initial_states_of_torch(tmp_path, states, options):
    path = tmp_path / "a.pruned_init"
    torch.save(states, path, **options)
    found = read_initial_states(path)
    assert np.array_equal(found, states) and found.dtype == np.float64 and found.dtype.isnative


def test_initial_states_of_the_numpy_of_their_time(tmp_path):
    """NumPy 1 calls the module another name; in a pickle of protocol 2 names are lines of text."""
    path = tmp_path / "a.init"
    torch.save(STATES, path, _use_new_zipfile_serialization=False)
    data = path.read_bytes()
    assert data.count(b"cnumpy._core.multiarray\n") == 1
    path.write_bytes(data.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"))
    assert np.array_equal(read_initial_states(path), STATES)
    np.save(tmp_path / "a.npy", STATES)
    assert np.array_equal(read_initial_states(tmp_path / "a.npy"), STATES)


@pytest.mark.parametrize("options", [{}, {"pickle_protocol": 4}, {"_use_new_zipfile_serialization": False}])
@pytest.mark.parametrize(
    "inside", [lambda harm: harm, lambda harm: [STATES, harm], lambda harm: np.array([harm], object)]
)
def test_what_would_run_is_refused_and_does_not_run(tmp_path, inside, options):
    path, mark = tmp_path / "a.pruned_init", tmp_path / "ran"
    torch.save(inside(Harm(mark)), path, **options)
    with pytest.raises(InvalidError, match="a.pruned_init (would run|holds no initial states)") as caught:
        read_initial_states(path)
    one_line(caught)
    assert not mark.exists()
    assert {"REDUCE", "STACK_GLOBAL"} <= {op.name for op, *_ in pickletools.genops(pickle.dumps(Harm(mark)))}
    function, arguments = Harm(mark).__reduce__()
    function(*arguments)  # what the file would call, without opening it
    assert mark.exists()  # it would have


def test_the_function_that_would_run_is_named(tmp_path):
    torch.save(Harm(tmp_path / "ran"), tmp_path / "a.init")
    with pytest.raises(InvalidError, match=r"would run (posix|nt)\.mkdir when unpickled, and is refused"):
        read_initial_states(tmp_path / "a.init")


@pytest.mark.parametrize(
    "value",
    [torch.zeros(3, 4), {"states": STATES}, np.zeros((2, 3), np.int64), np.zeros(5), np.full((2, 2), np.nan), "words",
     np.array([["a"]]), STATES[0, 0]],
    ids=["tensor", "dict", "integers", "vector", "nan", "words", "letters", "scalar"],
)  # fmt: skip
def test_anything_but_a_matrix_of_floats_is_refused(tmp_path, value):
    torch.save(value, tmp_path / "a.init")
    with pytest.raises(InvalidError) as caught:
        read_initial_states(tmp_path / "a.init")
    one_line(caught)


def test_damaged_initial_states_are_one_line(tmp_path):
    path = tmp_path / "a.init"
    for options in ({}, {"_use_new_zipfile_serialization": False}):
        torch.save(STATES[:3, :5], path, **options)
        whole = path.read_bytes()
        for stop in range(0, len(whole), 41):
            path.write_bytes(whole[:stop])
            if stop < len(whole) - 100:  # the array comes before
                with pytest.raises(CarryoverError) as caught:
                    read_initial_states(path)
                one_line(caught)
        for place in range(0, len(whole), 23):  # every answer is the states, others of their shape, or one line
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x11]) + whole[place + 1 :])
            try:
                assert read_initial_states(path).ndim == 2
            except CarryoverError as error:
                assert "\n" not in str(error)
    with pytest.raises(StorageError, match="does not exist"):
        read_initial_states(tmp_path / "none.init")


# -- LIBERO's own package -------------------------------------------------------------------------------------------


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package that asks when it is imported without its configuration, as LIBERO does."""
    home = tmp_path / "site" / "libero" / "libero"
    home.mkdir(parents=True)
    (home.parent / "__init__.py").write_text("")
    (home / "__init__.py").write_text(
        "import os\n"
        'folder = os.environ.get("LIBERO_CONFIG_PATH", os.path.expanduser("~/.libero"))\n'
        'config = os.path.join(folder, "config.yaml")\n'
        "if not os.path.exists(config):\n"
        '    input("Do you want to specify a custom path for the dataset folder? (Y/N): ")\n'
    )
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own"))
    monkeypatch.setenv("LIBERO_CONFIG_PATH", "")  # restored afterwards
    monkeypatch.delenv("LIBERO_CONFIG_PATH")
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("it asked"))
    yield home
    for name in [name for name in sys.modules if name.partition(".")[0] == "libero"]:
        del sys.modules[name]


def test_libero_does_not_ask(package, tmp_path):
    import yaml

    module = import_libero(tmp_path / "data")
    assert Path(module.config).is_relative_to(tmp_path / "own") and not (tmp_path / "home").exists()
    told = yaml.safe_load(Path(module.config).read_text())
    assert told == {
        "benchmark_root": str(package), "bddl_files": str(package / "bddl_files"),
        "init_states": str(package / "init_files"), "assets": str(package / "assets"),
        "datasets": str(tmp_path / "data" / "libero"),
    }  # fmt: skip
    assert import_libero() is module


def test_the_fake_package_would_ask(package):
    with pytest.raises(pytest.fail.Exception, match="it asked"):
        __import__("libero.libero")


@pytest.mark.parametrize("named", [True, False])
def test_a_configuration_of_the_users_is_kept(package, tmp_path, monkeypatch, named):
    own = tmp_path / ("elsewhere" if named else "home/.libero")
    own.mkdir(parents=True)
    (own / "config.yaml").write_text("datasets: /mine\n")
    if named:
        monkeypatch.setenv("LIBERO_CONFIG_PATH", str(own))
    assert Path(import_libero().config) == own / "config.yaml"
    assert (own / "config.yaml").read_text() == "datasets: /mine\n" and not (tmp_path / "own").exists()


def test_without_the_simulator_it_is_said_how_to_get_it(monkeypatch):
    monkeypatch.setattr("carryover.streams.sources.libero.simulator.find_spec", lambda name: None)
    with pytest.raises(StorageError, match=r"not installed. Run: pip install \"carryover\[libero\]\""):
        import_libero()
