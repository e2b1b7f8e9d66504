"""From labelled data to streams: exact pixels, honest splits, and the same bytes for the same seed."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from carryover.base.errors import UsageError
from carryover.streams import (
    Data,
    Labelled,
    LabelledTest,
    Task,
    from_arrays,
    from_tasks,
    overlap,
    permuted,
    rotated,
    split,
)
from carryover.streams.affine import resize, rotate
from carryover.streams.augment import Normalise
from carryover.streams.labelled import holdout
from carryover.streams.leakage import duplicates
from hypothesis import given, settings
from hypothesis import strategies as st


def images(n: int = 120, classes: int = 6, seed: int = 0, shape: tuple[int, ...] = (1, 8, 8)) -> tuple:
    draw = np.random.RandomState(seed)
    return draw.randint(0, 256, (n, *shape)).astype(np.uint8), np.arange(n) % classes


@pytest.fixture
def labelled() -> Labelled:
    return from_arrays(*images(), *images(60, seed=1))


# -- pixels ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3, 1, 28, 28), (2, 3, 7, 7)])
@pytest.mark.parametrize("quarter", range(-1, 4))
def test_quarter_turns_are_exact(shape, quarter):
    x = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(rotate(x, 90 * quarter), torch.rot90(x, quarter, (2, 3)))


@pytest.mark.parametrize("angle", [3.7, 45.0, 123.4, -80.0])
@pytest.mark.parametrize("size", [(28, 28), (9, 14)])
def test_rotation_is_bilinear(angle, size):
    """Against torch's sampler in double precision: no pixel is off by more than the 8-bit weights allow."""
    x = torch.randint(0, 256, (5, 2, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    h, w = size
    a = torch.deg2rad(torch.tensor(angle, dtype=torch.float64))
    y2, x2 = torch.meshgrid(2 * torch.arange(h) - (h - 1.0), 2 * torch.arange(w) - (w - 1.0), indexing="ij")
    y2, x2 = y2.double(), x2.double()
    grid = torch.stack([(a.cos() * x2 - a.sin() * y2) / w, (a.sin() * x2 + a.cos() * y2) / h], -1)
    want = torch.nn.functional.grid_sample(x.double(), grid.expand(5, -1, -1, -1), align_corners=False)
    assert (want - rotate(x, angle)).abs().max() <= 2


def test_rotation_is_the_same_in_any_chunk():
    x = torch.from_numpy(images(37)[0])
    assert torch.equal(rotate(x, 31.0, chunk=5), rotate(x, 31.0))


@pytest.mark.parametrize("size", [(16, 16), (5, 11), (3, 2), (8, 8)])
def test_resize_is_the_triangle_filter(size):
    x = torch.from_numpy(images(10)[0])
    want = torch.nn.functional.interpolate(x.double(), size, mode="bilinear", antialias=True)
    got = resize(x, *size)
    assert got.dtype == torch.uint8 and (want - got).abs().max() <= 1.01


def test_known_pixels():
    """By hand: one row of 0, 100, 200, 100 doubled has quarter steps, and half of it averages its neighbours."""
    row = torch.tensor([[[[0, 100, 200, 100]]]], dtype=torch.uint8)
    assert resize(row, 1, 8).flatten().tolist() == [0, 25, 75, 125, 175, 175, 125, 100]
    turned = rotate(torch.full((1, 1, 3, 3), 200, dtype=torch.uint8), 45.0)
    assert turned[0, 0, 1, 1] == 200 and turned[0, 0, 0, 0] < 200  # the centre stays, corners meet the black


# -- arrays ---------------------------------------------------------------------------------------------------------


def test_own_data_in_three_lines():
    x, y = images()
    stream = split(from_arrays(x, y), n_tasks=3, name="mine")
    assert len(stream) == 3 and stream.classes == 6 and stream.test_sizes == [8, 8, 8]
    assert [task.classes for task in stream] == [(0, 1), (2, 3), (4, 5)]


def test_labels_of_any_kind_are_numbered():
    x, _ = images(6, 3)
    words = from_arrays(x, ["dog", "cat", "dog", "cat", "dog", "cat"], test_fraction=0.4)
    assert words.class_names == ("cat", "dog") and words.classes == 2
    given = from_arrays(x, ["dog", "cat"] * 3, class_names=("dog", "cat"), test_fraction=0.4)
    assert given.class_names == ("dog", "cat")
    assert torch.equal(torch.sort(given.train_y)[0], torch.sort(1 - words.train_y)[0])
    numbers = from_arrays(x, np.array([5, 9, 5, 9, 5, 9]), x, np.array([9, 9, 9, 5, 5, 5]))
    assert numbers.class_names == ("5", "9") and numbers.test_y.tolist() == [1, 1, 1, 0, 0, 0]


def test_images_come_out_with_channels_first():
    x, y = images(12, 3, shape=(8, 8, 3))
    for form in (x, torch.from_numpy(x), x.astype(np.float64) / 255):
        assert from_arrays(form, y).train_x.shape[1:] == (3, 8, 8)
    assert from_arrays(x[..., 0], y).train_x.shape[1:] == (1, 8, 8)
    assert from_arrays(x[..., 0].reshape(12, -1) / 255.0, y).train_x.dtype == torch.float32


@pytest.mark.parametrize(
    "x, y, says",
    [
        (np.zeros((4, 2), np.int64), [0, 1, 0, 1], "uint8"),
        (np.zeros(4, np.float32), [0, 1, 0, 1], "N, ..."),
        (np.full((4, 2), np.nan), [0, 1, 0, 1], "NaN"),
        (np.zeros((4, 2)), [0, 1, 0], "4 samples but y has 3"),
        (np.zeros((4, 2)), [[0, 1], [0, 1]], "N] integers or strings"),
        (np.zeros((4, 2)), [0.5, 1.0, 0.0, 1.0], "integers or strings"),
    ],
)
def test_ambiguous_arrays_are_refused(x, y, says):
    with pytest.raises(UsageError, match=says.replace("[", r"\[").replace("]", r"\]").replace("(", r"\(")):
        from_arrays(x, y)


def test_class_names_bound_the_labels():
    x, y = images(12, 3)
    with pytest.raises(UsageError, match="2 class_names"):
        from_arrays(x, y, class_names=("a", "b"))
    with pytest.raises(UsageError, match="'c' is not among class_names"):
        from_arrays(x, ["a", "b", "c"] * 4, class_names=("a", "b"))
    with pytest.raises(UsageError, match="both"):
        from_arrays(x, y, x)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2)), min_size=1, max_size=60),
    st.floats(0.05, 0.9),
    st.integers(0, 5),
)
def test_holdout_is_a_stratified_partition_without_leaks(rows, fraction, seed):
    x = torch.tensor([[value] for value, _ in rows], dtype=torch.uint8)
    y = torch.tensor([label for _, label in rows])
    keep, held = holdout(x, y, fraction, "test", seed)
    assert sorted([*keep, *held]) == list(range(len(rows)))
    kept, out = {rows[i] for i in keep}, {rows[i] for i in held}
    assert not kept & out
    for label in {label for _, label in rows}:
        different = {row for row in rows if row[1] == label}
        count = sum(row[1] == label for row in out)
        assert 1 <= count < len(different) if len(different) > 1 else count == 0
        assert abs(count - len(different) * fraction) <= 1
    again = holdout(x, y, fraction, "test", seed)
    assert np.array_equal(again[0], keep)


# -- split, permuted, rotated, from_tasks ----------------------------------------------------------------------------


def test_split_takes_every_sample_once(labelled):
    stream = split(labelled, 3, name="s", class_order=[5, 0, 3, 1, 4, 2])
    assert [task.classes for task in stream] == [(5, 0), (3, 1), (4, 2)]
    assert sum(len(task.train) for task in stream) == 120 and sum(stream.test_sizes) == 60
    for task, test in zip(stream, stream.tests, strict=True):
        assert set(task.train.targets.tolist()) == set(test.data.targets.tolist()) == set(task.classes)
        want = labelled.train_x[torch.isin(labelled.train_y, torch.tensor(task.classes))]
        assert torch.equal(task.train.samples, want)
    assert stream.meta["class_order"] == [5, 0, 3, 1, 4, 2]


def test_split_sizes_and_orders(labelled):
    assert [len(t.classes) for t in split(labelled, sizes=[4, 1, 1], name="s")] == [4, 1, 1]
    orders = {tuple(split(labelled, 2, name="s", class_order="seeded", seed=k).meta["class_order"]) for k in range(5)}
    assert len(orders) == 5 and all(sorted(order) == list(range(6)) for order in orders)


@pytest.mark.parametrize(
    "options, says",
    [
        ({"n_tasks": 4}, r"do not divide into n_tasks=4; it can be one of \[1, 2, 3, 6\]"),
        ({"n_tasks": 0}, "n_tasks must be an integer of at least 1"),
        ({}, "give n_tasks or sizes"),
        ({"sizes": [4, 1]}, "add up to the 6 classes"),
        ({"n_tasks": 2, "sizes": [2, 2, 2]}, "sizes must"),
        ({"n_tasks": 2, "class_order": [0, 1, 2]}, "class_order is"),
        ({"n_tasks": 2, "class_order": "sorted"}, "class_order is"),
        ({"n_tasks": 2, "train_per_task": 0}, "train_per_task must"),
        ({"n_tasks": 2, "train_per_task": 61}, r"task 0 \(0, 1, 2\): train_per_task is 61 but there are 60"),
        ({"n_tasks": 2, "val_fraction": 1.0}, "val_fraction must"),
        ({"n_tasks": 2, "setting": "cli"}, "Did you mean 'cil'"),
    ],
)
def test_impossible_splits_say_what_is_possible(labelled, options, says):
    with pytest.raises(UsageError, match=says):
        split(labelled, name="s", **options)


def test_subsets_and_validation_are_disjoint_and_fixed_by_the_seed(labelled):
    first, same, other = (
        permuted(labelled, 3, name="p", seed=s, train_per_task=50, val_fraction=0.2, identity_first=True)
        for s in (0, 0, 1)
    )
    assert first.fingerprint == same.fingerprint != other.fingerprint
    for task, test in zip(first, first.tests, strict=True):
        assert len(task.train) + len(task.val) == 50 and len(task.val) in range(6, 15)
        assert overlap(task, test) == 0 == duplicates(task.train, task.val)
    drawn = [set(map(bytes, task.train.samples.sort(-1)[0].sort(-2)[0].numpy())) for task in first]
    assert drawn[0] != drawn[1]


def test_permutations_move_places_and_nothing_else():
    labelled = from_arrays(*images(shape=(3, 4, 4)), *images(60, seed=1, shape=(3, 4, 4)))
    stream = permuted(labelled, 3, name="p", identity_first=True)
    plain, moved, also = (task.train.samples for task in stream)
    assert torch.equal(plain, labelled.train_x) and not torch.equal(moved, also)
    # the same places in every channel and sample, in training and at test
    where = [int((plain.flatten(2) == moved.flatten(2)[:, :, [i]]).all(0).all(0).nonzero()) for i in range(16)]
    assert sorted(where) == list(range(16))
    assert torch.equal(labelled.test_x.flatten(2)[:, :, where], stream.tests[1].data.samples.flatten(2))
    assert not torch.equal(permuted(labelled, 1, name="p").tasks[0].train.samples, plain)


def test_earlier_tasks_do_not_depend_on_how_many_follow(labelled):
    few, many = (permuted(labelled, n, name="p", train_per_task=20) for n in (2, 4))
    assert [t.train.digest() for t in few] == [t.train.digest() for t in many][:2]


def test_features_can_be_permuted_too():
    x = np.random.RandomState(0).rand(30, 5)
    stream = permuted(from_arrays(x, np.arange(30) % 3), 2, name="p")
    assert stream.info.shape == (5,)


def test_rotations_follow_the_bins_and_the_list(labelled):
    stream = rotated(labelled, 6, name="r", max_angle=90, seed=3)
    assert all(15 * t <= angle < 15 * (t + 1) for t, angle in enumerate(stream.meta["angles"]))
    assert stream.tasks[2].meta["angle"] == stream.meta["angles"][2]
    fixed = rotated(labelled, 2, name="r", angles=[0, 90])
    assert torch.equal(fixed.tasks[0].train.samples, labelled.train_x)
    assert torch.equal(fixed.tests[1].data.samples, torch.rot90(labelled.test_x, 1, (2, 3)))
    with pytest.raises(UsageError, match="3 entries for 2 tasks"):
        rotated(labelled, 2, name="r", angles=[0, 1, 2])
    with pytest.raises(UsageError, match="finite"):
        rotated(labelled, 2, name="r", angles=[0, float("nan")])
    with pytest.raises(UsageError, match="max_angle must be above 0"):
        rotated(labelled, 2, name="r", max_angle=0)
    with pytest.raises(UsageError, match="uint8 pixels"):
        rotated(from_arrays(np.random.RandomState(0).rand(30, 5), np.arange(30) % 3), 2, name="r")


# -- normalised inputs ----------------------------------------------------------------------------------------------


def test_normalised_by_the_mean_and_deviation_of_all_training_pixels():
    """By channel; test pixels have no part in it, and what one task trains on is not normalised by its own."""
    x = torch.zeros(4, 2, 2, 2, dtype=torch.uint8)
    x[:, 0, 0] = 255  # half of a channel: mean 1/2, deviation 1/2
    x[0, 1] = 51  # a quarter of 0.2: mean 0.05, deviation 0.2 sqrt(3)/4
    made = from_arrays(x, [0, 0, 1, 1], 255 - x, [0, 0, 1, 1])
    stream = split(made, 2, name="known", normalise=True)
    transform = stream.tasks[0].train.transform
    assert transform == Normalise((0.5, 0.05), (0.5, 0.0866))
    assert all(data.transform == transform for data in [t.train for t in stream.tasks] + [t.data for t in stream.tests])
    inputs = stream.tasks[0].train.prepare(stream.tasks[0].train.samples)
    assert inputs[:, 0].unique().tolist() == [-1, 1]
    assert torch.allclose(inputs[0, 1], torch.tensor(0.15 / 0.0866)) and inputs[1, 1].max() < 0
    assert stream.fingerprint != split(made, 2, name="known").fingerprint


@pytest.mark.parametrize("options", [{"train_per_task": 20}, {"val_fraction": 0.2}])
def test_every_builder_normalises_alike(labelled, options):
    mean, deviation = (float(f(labelled.train_x / 255.0)) for f in (torch.mean, torch.std))
    for stream in (
        permuted(labelled, 2, name="p", normalise=True, **options),
        rotated(labelled, 2, name="r", normalise=True, **options),
        split(labelled, 2, name="s", normalise=True, **options),
    ):
        (transform,) = {task.train.transform for task in stream.tasks}
        assert transform.mean == (pytest.approx(mean, abs=1e-4),)
        assert transform.deviation == (pytest.approx(deviation, abs=1e-3),)
        assert all(task.val is None or task.val.transform == transform for task in stream.tasks)


def test_several_data_sets_are_normalised_together():
    y, *flat = [0, 1], *(np.full((2, 1, 2, 2), value, np.uint8) for value in (0, 255, 9))
    dark, bright = (from_arrays(x, y, flat[2], y) for x in flat[:2])
    stream = from_tasks({"dark": dark, "bright": bright}, name="two", normalise=True)
    assert {task.train.transform for task in stream.tasks} == {Normalise((0.5,), (0.5,))}


def test_what_cannot_be_normalised_is_refused(labelled):
    floats = from_arrays(labelled.train_x.float(), labelled.train_y)
    with pytest.raises(UsageError, match="uint8"):
        split(floats, 2, name="floats", normalise=True)
    prepared = dataclasses.replace(labelled, transform=Normalise((0.5,), (0.5,)))
    with pytest.raises(UsageError, match="prepared in another way already"):
        split(prepared, 2, name="twice", normalise=True)
    x = torch.full((500, 1, 8, 8), 7, dtype=torch.uint8)
    for odd in (7, 8):  # one pixel that differs by one is as good as none: the deviation is 0 to four decimals
        x[0, 0, 0, 0] = odd
        with pytest.raises(UsageError, match="pixels that differ"):
            Normalise.of([x])


def test_one_data_set_per_task(labelled):
    other = from_arrays(*images(40, 4, seed=2), class_names=("a", "b", "c", "d"))
    stream = from_tasks([("numbers", labelled), ("letters", other)], name="both")
    assert stream.classes == 10 and stream.class_names == (*"012345", *"abcd") and stream.setting.name == "cil"
    assert [task.name for task in stream] == ["numbers", "letters"]
    assert stream.tasks[1].classes == (6, 7, 8, 9) and stream.tasks[1].train.targets.min() == 6
    assert stream.tests[1].data.targets.max() == 9
    shared = from_tasks({"one": labelled, "two": labelled}, name="domains", shared_classes=True)
    assert shared.classes == 6 and shared.setting.name == "dil" and shared.tasks[1].classes == (0, 1, 2, 3, 4, 5)
    with pytest.raises(UsageError, match="other classes"):
        from_tasks([("numbers", labelled), ("letters", other)], name="both", shared_classes=True)
    with pytest.raises(UsageError, match="at least one"):
        from_tasks([], name="none")
    with pytest.raises(UsageError, match="load both with one size"):
        from_tasks([("a", labelled), ("b", from_arrays(*images(shape=(1, 4, 4))))], name="both")


def test_a_memory_map_stays_one(tmp_path, labelled):
    x, y = images(50, 5)
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    data = from_arrays(mapped, y, images(20, 5, seed=1)[0], y[:20])
    stream = from_tasks([("mapped", data)], name="m")
    assert isinstance(stream.tasks[0].train.samples, np.memmap)
    in_memory = from_tasks([("m", from_arrays(x, y, images(20, 5, seed=1)[0], y[:20]))], name="m")
    assert stream.fingerprint == in_memory.fingerprint
    assert split(data, 5, name="s").tasks[0].train.shape == (1, 8, 8)


def test_a_view_does_not_carry_the_rest_along():
    x, y = images(60)
    x, y = torch.from_numpy(x), torch.from_numpy(y)
    labelled = Labelled(x[:40], y[:40], x[40:], y[40:])
    task, test = (from_tasks([("t", labelled)], name="v").tasks[0], x[40:])
    assert task.train.samples.untyped_storage().nbytes() == task.train.samples.nbytes
    assert task.train.samples.untyped_storage().data_ptr() != test.untyped_storage().data_ptr()


# -- leakage --------------------------------------------------------------------------------------------------------


def _task(x: torch.Tensor, y: torch.Tensor) -> Task:
    return Task(0, "t", (0, 1, 2, 3, 4, 5), Data(x, y))


def test_overlap_counts_equal_samples_with_equal_labels(labelled):
    x, y = labelled.train_x, labelled.train_y
    assert overlap(_task(x, y), LabelledTest(Data(labelled.test_x, labelled.test_y))) == 0
    assert overlap(_task(x, y), LabelledTest(Data(x[:7], y[:7]))) == 7
    assert overlap(_task(x, y), LabelledTest(Data(x[:7], (y[:7] + 1) % 6))) == 0
    assert overlap(_task(x, y), LabelledTest(Data(torch.cat([x[:1], x[:1], x[:1] ^ 1]), y[[0, 0, 0]]))) == 2
    floats = x.float() / 255
    assert overlap(_task(floats, y), LabelledTest(Data(floats[3:5], y[3:5]))) == 2


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 3), max_size=20), st.lists(st.integers(0, 3), max_size=20), st.integers(1, 9))
def test_duplicates_agree_with_counting_by_hand(ours, theirs, width):
    def data(values):
        return Data(torch.tensor(values, dtype=torch.uint8)[:, None].expand(-1, width), torch.zeros(len(values)).long())

    assert duplicates(data(ours), data(theirs)) == sum(value in set(ours) for value in theirs)


def test_builders_refuse_leaks_and_count_a_few():
    x, y = images(1200)
    test_x, test_y = images(1200, seed=1)
    test_x[:3], test_y[:3] = x[:3], y[:3]
    stream = split(from_arrays(x, y, test_x, test_y), 2, name="s")
    assert stream.meta["duplicates"] == 3
    test_x[:30], test_y[:30] = x[:30], y[:30]
    with pytest.raises(UsageError, match=r"task 0 .*: 15 of 600 held-out samples occur in its training data"):
        split(from_arrays(x, y, test_x, test_y), 2, name="s")
