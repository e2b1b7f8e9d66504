"""Data: from stored samples to inputs, what a digest covers, and rows that stay on disk."""

from __future__ import annotations

import dataclasses
import hashlib
import os

import numpy as np
import pytest
import torch
from carryover.base.errors import UsageError
from carryover.evaluation.evaluator import Evaluator
from carryover.streams import CIL, Data, LabelledTest, Stream, Task, check_stream, from_arrays, permuted, split
from carryover.streams import rows as rows_module
from carryover.streams.augment import CenterCrop, RandomResizedCrop
from carryover.streams.batches import batches
from carryover.streams.labelled import holdout
from carryover.streams.leakage import duplicates
from carryover.streams.rows import Rows, gathered, on_device


@pytest.fixture
def mapped(tmp_path) -> np.ndarray:
    np.save(tmp_path / "x.npy", np.random.RandomState(0).randint(0, 256, (60, 3, 10, 10)).astype(np.uint8))
    return np.lib.format.open_memmap(tmp_path / "x.npy", mode="r")


LABELS = torch.arange(60) % 6
CHOSEN = np.array([40, 3, 3, 17, 59, 0])


# -- transform and augment ------------------------------------------------------------------------------------------


def test_training_goes_its_own_way_from_the_stored_sample(mapped):
    seen = []

    def augment(x, generator):
        seen.append(x.shape)
        return x[..., :8, :8] + torch.rand((), generator=generator)

    data = Data(torch.from_numpy(np.array(mapped)), LABELS, CenterCrop(8), augment)
    stored, _ = data.span(0, 4)
    assert torch.equal(data.prepare(stored), stored[..., 1:9, 1:9] / 255)
    drawn = data.prepare(stored, torch.Generator().manual_seed(0))
    assert seen == [(4, 3, 10, 10)]  # what is stored, not what the transform made of it
    assert torch.equal(drawn, stored[..., :8, :8] / 255 + torch.rand((), generator=torch.Generator().manual_seed(0)))
    plain = dataclasses.replace(data, augment=None)
    assert torch.equal(plain.prepare(stored, torch.Generator()), plain.prepare(stored))
    batch = next(batches(data, 16, 1, (0, 0, "batches")))
    assert batch.x.shape == (16, 3, 8, 8) and batch.stored.shape == (16, 3, 10, 10)
    assert torch.equal(batch.prepare(batch.stored), batch.stored[..., 1:9, 1:9] / 255)


def test_shapes_stored_and_read():
    data = Data(torch.zeros(2, 3, 10, 12, dtype=torch.uint8), torch.zeros(2).long(), CenterCrop(8))
    assert data.shape == (3, 10, 12) and data.input_shape == (3, 8, 8)
    assert dataclasses.replace(data, transform=None).input_shape == (3, 10, 12)
    stream = Stream("s", 1, CIL, [Task(0, "t", (0,), data)], [LabelledTest(data)], 1)
    assert stream.info.shape == (3, 8, 8)


def test_a_digest_tells_what_is_done_to_samples():
    x = torch.zeros(3, 1, 8, 8, dtype=torch.uint8)
    plain = Data(x, torch.arange(3))
    ways = [
        plain,
        Data(x, torch.arange(3), CenterCrop(4)),
        Data(x, torch.arange(3), CenterCrop(5)),
        Data(x, torch.arange(3), None, RandomResizedCrop(4)),
        Data(x, torch.arange(3), CenterCrop(4), RandomResizedCrop(4)),
        Data(x, torch.arange(3), torch.tanh),
        Data(x, torch.arange(3), torch.sin),
    ]
    assert len({data.digest() for data in ways}) == len(ways)
    assert ways[1].digest() == Data(x, torch.arange(3), CenterCrop(4)).digest()
    said = b"uint8(3, 1, 8, 8)" + bytes(3 * 64) + np.arange(3).tobytes()  # by hand: nothing of ways that are not there
    assert plain.digest() == hashlib.sha256(said).hexdigest()


def test_tasks_may_have_equal_transforms_but_no_others():
    x, y = torch.zeros(2, 1, 8, 8, dtype=torch.uint8), torch.zeros(2).long()

    def made(*sizes):
        tasks = [Task(i, "t", (0,), Data(x, y, CenterCrop(size))) for i, size in enumerate(sizes)]
        return Stream("s", 1, CIL, tasks, [LabelledTest(task.train) for task in tasks], 1)

    assert made(4, 4).info.shape == (1, 4, 4)
    with pytest.raises(UsageError, match="different transforms"):
        made(4, 5)


def test_checking_finds_an_augmentation_of_another_shape():
    draw = np.random.RandomState(0)
    x = torch.from_numpy(draw.randint(0, 256, (40, 1, 8, 8)).astype(np.uint8))
    labelled = from_arrays(x, np.arange(40) % 2)
    good = dataclasses.replace(labelled, transform=CenterCrop(4), augment=RandomResizedCrop(4))
    check_stream(lambda: split(good, 2, name="s"))
    bad = dataclasses.replace(good, augment=RandomResizedCrop(5))
    with pytest.raises(UsageError, match=r"augment of the training data of task 0 gives shape \(1, 5, 5\)"):
        check_stream(lambda: split(bad, 2, name="s"))


def test_a_test_has_no_augmentation():
    labelled = from_arrays(np.random.RandomState(0).randint(0, 256, (40, 1, 8, 8)).astype(np.uint8), np.arange(40) % 2)
    stream = split(dataclasses.replace(labelled, augment=RandomResizedCrop(8)), 2, name="s")
    assert stream.tests[0].data.augment is None and stream.tasks[0].train.augment == RandomResizedCrop(8)


# -- rows on disk ---------------------------------------------------------------------------------------------------


def test_rows_are_what_indexing_gives(mapped):
    rows, want = Rows(mapped, CHOSEN), np.array(mapped[CHOSEN])
    assert len(rows) == 6 and rows.shape == want.shape and rows.dtype == np.uint8 and rows.nbytes == want.nbytes
    for key in (slice(1, 4), np.array([5, 0, 0]), np.array([], int), 2, slice(None)):
        assert np.array_equal(rows[key], want[key])
        assert rows[key].flags.writeable and not np.shares_memory(rows[key], mapped)
    assert np.array_equal(Rows(rows, np.array([4, 0]))[:], want[[4, 0]])
    assert np.array_equal(Rows(mapped, LABELS.numpy() == 2)[:], np.array(mapped[LABELS.numpy() == 2]))
    assert torch.equal(gathered(rows), torch.from_numpy(want))
    with pytest.raises(IndexError):
        Rows(mapped, np.array([60]))


class Watched:
    """An array that notes which rows are read, in which order."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.read = array, []

    def __getattr__(self, name):
        return getattr(self.array, name)

    def __len__(self):
        return len(self.array)

    def __getitem__(self, key):
        if not isinstance(key, slice):
            self.read += np.atleast_1d(key).tolist()
        return self.array[key]


def test_only_drawn_rows_are_read_and_in_ascending_order(mapped):
    watched = Watched(mapped)
    data = Data(Rows(watched), LABELS).select(CHOSEN)
    assert watched.read == []
    stored, y = data.gather(torch.tensor([4, 1, 0]))
    assert watched.read == [3, 40, 59]
    assert torch.equal(stored, torch.from_numpy(mapped[[59, 3, 40]])) and y.tolist() == [5, 3, 4]


def test_data_on_disk_does_what_data_in_memory_does(mapped):
    disk, memory = Data(mapped, LABELS), Data(torch.from_numpy(np.array(mapped)), LABELS)
    for ours, theirs in ((disk, memory), (disk.select(CHOSEN), memory.select(CHOSEN))):
        assert ours.digest() == theirs.digest() == ours.digest(chunk=2) and ours.nbytes == theirs.nbytes
        for take in (lambda d: d.gather(torch.tensor([3, 0, 5])), lambda d: d.span(1, 4), lambda d: d.span(4, 99)):
            assert all(torch.equal(a, b) for a, b in zip(take(ours), take(theirs), strict=True))
        assert ours.shape == theirs.shape and repr(ours) == repr(theirs)
        assert duplicates(ours, memory.select([3])) == duplicates(theirs, memory.select([3])) == 1
        for a, b in zip(batches(ours, 4, 2, ("k",)), batches(theirs, 4, 2, ("k",)), strict=True):
            assert torch.equal(a.x, b.x) and torch.equal(a.y, b.y)
        cut = [holdout(data.samples, data.targets, 0.3, "v")[1].tolist() for data in (ours, theirs)]
        assert cut[0] == cut[1]
    assert isinstance(disk.select(CHOSEN).select([1, 2]).to("cpu").samples, Rows)


def test_class_splits_of_a_map_stay_on_disk(mapped, tmp_path):
    np.save(tmp_path / "t.npy", np.array(mapped[::2]) ^ 1)
    test = np.lib.format.open_memmap(tmp_path / "t.npy", mode="r")
    x, y, kept = np.array(mapped), LABELS.numpy(), np.array(test)

    def made(x, test):
        return split(from_arrays(x, y, test, y[::2]), 3, name="s", val_fraction=0.2, train_per_task=15)

    ours, theirs = made(mapped, test), made(x, kept)
    assert ours.fingerprint == theirs.fingerprint == check_stream(ours)
    for task, held in zip(ours, ours.tests, strict=True):
        assert all(isinstance(data.samples, Rows) for data in (task.train, task.val, held.data))
    undivided = split(from_arrays(mapped, y), 3, name="s")
    assert isinstance(undivided.tasks[0].train.samples, Rows)
    assert undivided.fingerprint == split(from_arrays(x, y), 3, name="s").fingerprint
    assert (
        permuted(from_arrays(mapped, y), 2, name="p").fingerprint
        == permuted(from_arrays(x, y), 2, name="p").fingerprint
    )
    evaluator = Evaluator(ours.with_setting("dil"), torch.device("cpu"))
    assert [len(held) for held in evaluator.tests] == ours.test_sizes  # not laid end to end in memory


def test_what_fits_half_of_a_gpu_goes_there(mapped, monkeypatch):
    rows, gone = Rows(mapped, CHOSEN), []
    monkeypatch.setattr(rows_module, "gathered", lambda rows, device: gone.append((rows, device)) or "there")
    monkeypatch.setattr(rows_module, "_free_bytes", lambda device: 2 * rows.nbytes)
    assert on_device(rows, "cuda:1") == "there" and gone == [(rows, torch.device("cuda:1"))]
    monkeypatch.setattr(rows_module, "_free_bytes", lambda device: 2 * rows.nbytes - 2)
    assert on_device(rows, "cuda") is rows and on_device(rows, "cpu") is rows and len(gone) == 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_rows_on_a_gpu_and_rows_that_stay_behind(mapped, monkeypatch):
    data = Data(mapped, LABELS, CenterCrop(8), RandomResizedCrop(8)).select(CHOSEN)
    there = data.to("cuda")
    assert there.samples.is_cuda and there.samples.dtype == torch.uint8 and there.digest() == data.digest()
    monkeypatch.setattr(rows_module, "_free_bytes", lambda device: 0)
    behind = data.to("cuda")
    assert isinstance(behind.samples, Rows)
    for a, b in zip(batches(there, 4, 1, ("k",)), batches(behind, 4, 1, ("k",)), strict=True):
        assert a.x.is_cuda and torch.equal(a.x, b.x) and a.x.shape[1:] == (3, 8, 8)


def test_the_digest_of_a_large_map_is_read_once(tmp_path, monkeypatch):
    x = np.random.RandomState(0).randint(0, 256, (60, 3, 4, 4), np.uint8)
    np.save(tmp_path / "map.npy", x)
    opened = lambda: Data(Rows(np.load(tmp_path / "map.npy", mmap_mode="r"), CHOSEN), torch.arange(len(CHOSEN)))
    plain = Data(torch.from_numpy(x[CHOSEN]), torch.arange(len(CHOSEN))).digest()
    assert opened().digest() == plain and not (tmp_path / "map.digests.json").exists()  # small ones are just read
    monkeypatch.setattr(rows_module, "WORTH_KEEPING", 1)
    assert opened().digest() == plain and (tmp_path / "map.digests.json").exists()
    with monkeypatch.context() as patch:
        patch.setattr(Rows, "__getitem__", lambda self, key: pytest.fail("read again"))
        assert opened().digest() == plain
    other = Data(opened().samples, torch.zeros(len(CHOSEN), dtype=torch.int64))
    assert other.digest() == Data(torch.from_numpy(x[CHOSEN]), other.targets).digest() != plain
    x[CHOSEN[0]] += 1
    np.save(tmp_path / "map.npy", x)
    os.utime(tmp_path / "map.npy", ns=(1, 1))
    assert opened().digest() == Data(torch.from_numpy(x[CHOSEN]), torch.arange(len(CHOSEN))).digest() != plain
    (tmp_path / "map.digests.json").write_text("{")
    assert opened().digest() != plain
