"""The streams of the gradient projection papers, real ones on small copies and their stand-ins as they are."""

from __future__ import annotations

import dataclasses
import hashlib

import numpy as np
import pytest
import torch
from carryover.base.errors import InvalidError, StorageError, UsageError
from carryover.streams import check_stream, from_arrays, load_stream, miniimagenet, permuted, split
from carryover.streams.five_datasets import five_datasets
from carryover.streams.leakage import row_hashes
from carryover.streams.sources.cifar import FINE, SUPERCLASSES
from carryover.streams.sources.miniimagenet import divided_by_image
from carryover.streams.sources.pictures import in_folders
from carryover.streams.superclasses import ORDERS
from carryover.tests.layouts import cifar10_files, cifar100_files, contents, idx_files, letters, svhn_files, write

# The coarse label of each fine one, as the published files have it.
COARSE = [
    4, 1, 14, 8, 0, 6, 7, 7, 18, 3, 3, 14, 9, 18, 7, 11, 3, 9, 7, 11, 6, 11, 5, 10, 7, 6, 13, 15, 3, 15, 0, 11, 1, 10,
    12, 14, 16, 9, 11, 5, 5, 19, 8, 8, 15, 13, 14, 17, 18, 10, 16, 4, 17, 4, 2, 0, 17, 4, 18, 17, 10, 3, 2, 12, 12, 16,
    12, 1, 9, 19, 2, 10, 0, 1, 16, 12, 9, 13, 15, 13, 16, 19, 2, 4, 6, 19, 5, 5, 8, 19, 18, 1, 2, 15, 6, 0, 17, 8, 14,
    13,
]  # fmt: skip
GOLDEN = {
    "recurring-digits": "ef2e687f071a145c8ae4b667292016e6dfdffc34ff9872a123aa6f24a9f97213",
    "slowly-rotated-digits": "44a56f1a6aa0e29c2e3ce4694e4e174bd8dd19aacd10e6f2808da4d03a8206de",
}


def one_line(error: pytest.ExceptionInfo) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def hashes(data) -> set[int]:
    return set(row_hashes(data.samples, data.targets).tolist())


# -- permutations that come back, subsets that do not overlap -------------------------------------------------------


def noise(n: int = 120, classes: int = 6):
    draw = np.random.RandomState(0)
    x = draw.randint(0, 256, (n + 30, 1, 8, 8)).astype(np.uint8)
    y = np.arange(n + 30) % classes
    return from_arrays(x[:n], y[:n], x[n:], y[n:])


def test_distinct_permutations_come_back_in_turn():
    stream = permuted(noise(), 5, name="p", distinct=2)
    assert [t.name for t in stream] == ["permutation 0", "permutation 1", "permutation 0, visit 2",
                                        "permutation 1, visit 2", "permutation 0, visit 3"]  # fmt: skip
    x = [task.train.samples for task in stream]
    assert torch.equal(x[0], x[2]) and torch.equal(x[1], x[3]) and not torch.equal(x[0], x[1])
    every = permuted(noise(), 5, name="p")
    assert torch.equal(every.tasks[1].train.samples, x[1]) and "distinct" not in every.meta
    assert permuted(noise(), 5, name="p", distinct=5).fingerprint == every.fingerprint
    plain = permuted(noise(), 3, name="p", distinct=2, identity_first=True)
    assert [t.name for t in plain] == ["identity", "permutation 1", "identity, visit 2"]
    assert torch.equal(plain.tasks[2].train.samples, noise().train_x)
    with pytest.raises(UsageError, match="distinct must be an integer of at least 1; got 0"):
        permuted(noise(), 3, name="p", distinct=0)


def test_disjoint_subsets_share_no_sample():
    labelled = noise()
    stream = permuted(labelled, 4, name="p", distinct=1, identity_first=True, train_per_task=30, disjoint=True)
    taken = [hashes(task.train) for task in stream]
    assert [len(rows) for rows in taken] == [30] * 4 and len(set().union(*taken)) == 120
    assert permuted(labelled, 2, name="p", distinct=1, identity_first=True, train_per_task=30,
                    disjoint=True).tasks[1].train.digest() == stream.tasks[1].train.digest()  # fmt: skip
    other = permuted(labelled, 4, name="p", distinct=1, train_per_task=30, disjoint=True, seed=1)
    assert hashes(other.tasks[0].train) != taken[0]
    held = permuted(labelled, 2, name="p", train_per_task=30, disjoint=True, val_fraction=0.2)
    assert all(len(task.train) + len(task.val) == 30 for task in held)
    pieces = split(labelled, 3, name="s", train_per_task=40, disjoint=True)  # of other classes anyway
    assert [len(task.train) for task in pieces] == [40] * 3 and pieces.meta["disjoint"]


def test_disjoint_subsets_that_cannot_be():
    with pytest.raises(UsageError, match=r"task 2 .*: train_per_task is 50 but 20 samples are left") as error:
        permuted(noise(), 3, name="p", train_per_task=50, disjoint=True)
    assert "disjoint=false" in one_line(error)
    with pytest.raises(UsageError, match="give train_per_task as well"):
        permuted(noise(), 3, name="p", disjoint=True)


# -- related tasks --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GOLDEN)
def test_related_digits_are_the_same_everywhere(name):
    stream = load_stream(name)
    assert stream.fingerprint == check_stream(lambda: load_stream(name)) == GOLDEN[name]
    assert stream.setting.name == "til" and stream.query(1, 2).classes == tuple(range(10)) and stream.query(1, 2).task
    assert {len(task.train) for task in stream} == {100} and set(stream.test_sizes) == {599}


def test_related_mnist(tmp_path):
    idx_files(tmp_path / "MNIST", 80)
    few = {"data": tmp_path, "train_per_task": 20}
    again = load_stream("recurring-mnist", n_tasks=4, **few)
    assert len(again) == 4 and again.meta["distinct"] == 2 and again.setting.task_id_at_test
    slow = load_stream("slowly-rotated-mnist", n_tasks=3, step=5, **few)
    assert slow.meta["angles"] == [0, 5, 10] and slow.info.shape == (1, 28, 28)
    with pytest.raises(UsageError, match="train_per_task is 200 but there are 80"):
        load_stream("slowly-rotated-mnist", data=tmp_path)


# -- CIFAR-100 by superclass ----------------------------------------------------------------------------------------


def test_the_table_of_superclasses_is_the_one_of_the_files():
    ours = {FINE.index(fine): number for number, group in enumerate(SUPERCLASSES.values()) for fine in group}
    assert [ours[fine] for fine in range(100)] == COARSE
    assert all(sorted(order) == list(range(20)) for order in ORDERS) and len(set(ORDERS)) == 5


def test_cifar_comes_by_superclass(tmp_path):
    cifar100_files(tmp_path, COARSE)
    stream = load_stream("cifar100-superclasses", data=tmp_path)
    assert (len(stream), stream.classes, stream.info.shape, stream.setting.name) == (20, 100, (3, 32, 32), "til")
    assert stream.tasks[0].name == "aquatic mammals" and stream.tasks[19].name == "vehicles 2"
    records = (tmp_path / "cifar-100-binary" / "train.bin").read_bytes()
    for number, task in enumerate(stream):
        assert task.classes == tuple(c for c in range(100) if COARSE[c] == number)
        rows = [records[i : i + 3074] for i in range(0, len(records), 3074) if records[i] == number]
        assert {row[2:] for row in rows} == {x.numpy().tobytes() for x in task.train.samples}
    other = load_stream("cifar100-superclasses", data=tmp_path, order=2, val_fraction=0.2)
    assert other.tasks[0].name == "trees" and other.meta["superclasses"][1] == "fish"
    pairs = load_stream("cifar100-superclasses", data=tmp_path, n_tasks=10)
    assert pairs.tasks[0].name == "aquatic mammals, fish" and len(pairs.tasks[0].classes) == 10
    for bad, says in (({"order": 5}, r"one of 0\.\.4; got 5"), ({"n_tasks": 3}, "do not divide into n_tasks=3")):
        with pytest.raises(UsageError, match=says):
            load_stream("cifar100-superclasses", data=tmp_path, **bad)


# -- five data sets -------------------------------------------------------------------------------------------------


@pytest.fixture
def five(tmp_path, monkeypatch):
    from torchvision.datasets import SVHN

    for name in ("MNIST", "FashionMNIST"):
        idx_files(tmp_path / name)
    cifar10_files(tmp_path)
    files = svhn_files(tmp_path / "SVHN")
    sums = {part: hashlib.md5(data).hexdigest() for part, data in files.items()}
    monkeypatch.setattr(SVHN, "split_list", {part: ["", f"{part}_32x32.mat", md5] for part, md5 in sums.items()})
    write(tmp_path / "notMNIST_small", letters(30) | {"A/broken.png": b"", "B/broken.png": b"\x89PNG\r\n"})
    return tmp_path


def test_five_datasets_in_both_orders(five):
    stream = load_stream("five-datasets", data=five)
    assert check_stream(lambda: load_stream("five-datasets", data=five)) == stream.fingerprint
    assert [task.name for task in stream] == ["CIFAR-10", "MNIST", "SVHN", "Fashion-MNIST", "notMNIST"]
    assert (stream.classes, stream.info.shape, stream.setting.name) == (50, (3, 32, 32), "til")
    assert [task.classes[0] for task in stream] == [0, 10, 20, 30, 40]
    assert stream.class_names[20] == "SVHN 0" and stream.meta["notmnist_skipped"] == 2
    grey = stream.tasks[1].train.samples
    assert torch.equal(grey[:, 0], grey[:, 2]) and not grey[:, :, :2].any() and grey[:, :, 2:-2, 2:-2].any()
    assert (len(stream.tasks[4].train), stream.test_sizes[4]) == (270, 30)
    house = stream.tasks[2].train
    assert house.targets.min() == 20 and int((house.targets == 20).sum()) == 2
    draw = np.random.RandomState(0).randint(0, 256, (20, 32, 32, 3)).astype(np.uint8)
    assert torch.equal(house.samples, torch.from_numpy(draw).movedim(-1, 1))
    other = load_stream("five-datasets", data=five, order="l2p", n_tasks=2)
    assert [task.name for task in other] == ["SVHN", "MNIST"] and other.classes == 20


def test_what_five_datasets_lack_is_told_at_once(five):
    (five / "SVHN" / "test_32x32.mat").unlink()
    (five / "MNIST" / "raw" / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(StorageError) as error:
        load_stream("five-datasets", data=five)
    line = one_line(error)
    assert line.startswith("five-datasets lacks 2 of its 5 data sets. MNIST is not under")
    assert "put its four IDX files into" in line and "put train_32x32.mat and test_32x32.mat of http" in line
    assert len(load_stream("five-datasets", data=five, n_tasks=1)) == 1
    with pytest.raises(UsageError, match="n_tasks must be from 1 to 5"):
        five_datasets(data=five, n_tasks=6)


def test_svhn_of_other_bytes_or_without_scipy(five, monkeypatch):
    from carryover.streams.sources import svhn

    (five / "SVHN" / "train_32x32.mat").write_bytes(b"other")
    with pytest.raises(StorageError, match="SVHN is not available in .*corrupted"):
        svhn.svhn(five)
    monkeypatch.setattr(svhn, "find_spec", lambda name: None)
    with pytest.raises(StorageError, match="Run: pip install scipy"):
        svhn.svhn(five)


def test_notmnist_keeps_equal_images_on_one_side(tmp_path):
    from carryover.streams.sources.notmnist import notmnist

    train, test = letters(20), letters(5, seed=1)
    write(tmp_path / "a" / "notMNIST_small", train | {f"A/copy{i}.png": train[f"A/font{i}.png"] for i in range(20)})
    small, about = notmnist(tmp_path / "a")
    assert len(small.train_y) + len(small.test_y) == 220 and about == {"notmnist_skipped": 0}
    assert (small.test_y == 0).sum() == 4 and (small.test_y == 1).sum() == 2
    copies = {f"{letter}/again.png": test[f"{letter}/font0.png"] for letter in "ABC"}
    write(tmp_path / "b" / "notMNIST" / "Train", train | copies)
    write(tmp_path / "b" / "notMNIST" / "Test", test)
    divided, about = notmnist(tmp_path / "b")
    assert (len(divided.train_y), len(divided.test_y), about["notmnist_repeated"]) == (200, 50, 3)
    with pytest.raises(StorageError, match="notMNIST is not under .*: unpack notMNIST_small.tar.gz"):
        notmnist(tmp_path / "c")
    for file in (tmp_path / "a" / "notMNIST_small" / "C").iterdir():
        file.write_bytes(b"")
    with pytest.raises(InvalidError, match="C holds no image of 28x28"):
        notmnist(tmp_path / "a")


# -- miniImageNet ---------------------------------------------------------------------------------------------------

CLASSES = {"n01532829": 12, "n01558993": 12, "n01704323": 12, "n01749939": 12}


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """The name and bytes of each photo, of a miniImageNet of 4 classes of 12."""
    facts = dataclasses.replace(miniimagenet.MINIIMAGENET, classes=4, images=48)
    monkeypatch.setattr(miniimagenet, "MINIIMAGENET", facts)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own"))
    return {f"{name[:10]}{name[:9]}{i:08}.jpg": data for i, (name, data) in enumerate(contents(CLASSES).items())}


def load_mini(root, **options):
    return load_stream("split-miniimagenet", data=root, **{"n_tasks": 2, **options})


def test_miniimagenet_in_class_folders_and_in_lists(photos, tmp_path):
    folders = write(tmp_path / "a" / "miniimagenet", photos).parent
    stream = load_mini(folders)
    assert check_stream(lambda: load_mini(folders)) == stream.fingerprint and stream.meta["split"] == "hash"
    assert (len(stream), stream.info.shape, stream.setting.name) == (2, (3, 84, 84), "til")
    assert [len(task.train) for task in stream] == [20, 20] and stream.test_sizes == [4, 4]  # a sixth
    train = stream.tasks[0].train
    assert train.shape == (3, 84, 84) and train.transform is None and train.augment is None
    listed = tmp_path / "b" / "mini-imagenet"
    write(listed / "images", {name[10:]: data for name, data in photos.items()})
    for part, cut in (("train", slice(0, 24)), ("val", slice(24, 36)), ("test", slice(36, 48))):
        lines = "".join(f"{name[10:]},{name[:9]}\n" for name in list(photos)[cut])
        (listed / f"{part}.csv").write_text("filename,label\n" + lines)
    assert load_mini(listed.parent).fingerprint == stream.fingerprint
    few = tmp_path / "c" / "mini-imagenet"
    for name, data in photos.items():  # the usual division is of the classes
        part = {"n01532829": "val", "n01558993": "test"}.get(name[:9], "train")
        write(few / part, {name: data})
    assert load_mini(few.parent).fingerprint == stream.fingerprint
    assert load_mini(folders, class_order="seeded", seed=3).meta["class_order"] != [0, 1, 2, 3]
    (listed / "val.csv").write_text("filename,label\nnone.jpg,n01532829\n")
    with pytest.raises(StorageError, match="val.csv lists none.jpg, which is not in"):
        load_mini(listed.parent)
    (listed / "val.csv").write_text("file;label\na;b\n")
    with pytest.raises(InvalidError, match="val.csv is not a list of filename,label"):
        load_mini(listed.parent)


def test_a_division_of_the_images_is_taken_as_it_comes(photos, tmp_path):
    root = tmp_path / "miniimagenet"
    for i, (name, data) in enumerate(photos.items()):
        write(root / ("test" if i % 6 == 0 else "train"), {name: data})
    stream = load_mini(tmp_path)
    assert stream.meta["split"] == "given" and stream.test_sizes == [4, 4]
    assert load_mini(tmp_path, split="hash").fingerprint != stream.fingerprint
    found = in_folders(root)
    as_published = [dataclasses.replace(p, part="validation" if p.part == "test" else "train") for p in found]
    of_imagenet = [dataclasses.replace(p, name=f"{p.name}2", part="test") for p in found]
    assert divided_by_image(as_published + of_imagenet) == found


def test_a_hub_copy_of_miniimagenet(photos, tmp_path, monkeypatch):
    import datasets

    names = sorted(CLASSES)
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=names)})

    def part(chosen):
        columns = {"image": [{"bytes": photos[name], "path": name[10:]} for name in chosen],
                   "label": [names.index(name[:9]) for name in chosen]}  # fmt: skip
        return datasets.Dataset.from_dict(columns, features=features)

    held = list(photos)[::6]
    kept = [name for name in photos if name not in held]
    made = datasets.DatasetDict({"train": part(kept), "validation": part(held), "test": part(held[::-1])})
    monkeypatch.setattr(datasets, "load_dataset", lambda source: made)
    stream = load_mini(tmp_path, hub="some/copy")
    assert [len(task.train) for task in stream] == [20, 20] and stream.test_sizes == [4, 4]
    assert stream.meta["split"] == "given" and stream.class_names == tuple(names)


def test_pickles_of_miniimagenet_are_not_opened(photos, tmp_path):
    write(tmp_path / "miniimagenet", {"mini-imagenet-cache-train.pkl": b"\x80\x04."})
    with pytest.raises(UsageError, match="is a pickle, which can run any code") as error:
        load_mini(tmp_path)
    assert "hub=timm/mini-imagenet" in one_line(error)
    with pytest.raises(StorageError, match="miniimagenet is not under .*: put its images there as folders n01532829"):
        load_mini(tmp_path / "nowhere")


# -- stand-ins ------------------------------------------------------------------------------------------------------

# tasks, classes, input, training and test images per task, and between what the nearest class mean is right
MINIS = {
    "split-cifar100-mini": (10, 100, (3, 24, 24), 600, 200, (0.45, 0.7)),
    "cifar100-superclasses-mini": (20, 100, (3, 24, 24), 300, 100, (0.4, 0.65)),
    "five-datasets-mini": (5, 50, (3, 24, 24), 600, 250, (0.4, 0.7)),
    "split-miniimagenet-mini": (20, 100, (3, 42, 42), 250, 100, (0.45, 0.7)),
}


LARGE = pytest.mark.slow  # its pictures take ten seconds to draw


@pytest.fixture(scope="module", params=[pytest.param(n, marks=[LARGE] * ("imagenet" in n)) for n in MINIS])
def mini(request):
    return load_stream(request.param)


def nearest_mean(task, test) -> float:
    """Accuracy of the nearest mean of the task's classes, on pixels."""
    x, y = task.train.samples.float().flatten(1), task.train.targets
    means = torch.stack([x[y == c].mean(0) for c in task.classes])
    guess = torch.cdist(test.data.samples.float().flatten(1), means).argmin(1)
    return (torch.tensor(task.classes)[guess] == test.data.targets).float().mean().item()


def test_a_stand_in_is_what_its_page_says(mini):
    tasks, classes, shape, train, test, (low, high) = MINIS[mini.name]
    assert (len(mini), mini.classes, mini.info.shape, mini.setting.name) == (tasks, classes, shape, "til")
    assert {len(task.train) for task in mini} == {train} and set(mini.test_sizes) == {test}
    assert len(set(mini.class_names)) == classes
    seen = [hashes(task.train) for task in mini]
    held = [hashes(test.data) for test in mini.tests]
    assert len(set().union(*seen)) == tasks * train and not set().union(*seen) & set().union(*held)
    right = [nearest_mean(task, test) for task, test in zip(mini, mini.tests, strict=True)]
    assert low < sum(right) / tasks < high and min(right) > 1.2 / len(mini.tasks[0].classes)


def test_a_stand_in_is_the_same_from_call_to_call(mini):
    builds = iter([mini, load_stream(mini.name)])
    assert check_stream(lambda: next(builds)) == mini.fingerprint


@pytest.mark.slow
def test_classes_of_a_family_look_more_alike_than_those_of_others():
    stream = load_stream("cifar100-superclasses-mini")
    assert [task.name for task in stream][:2] == ["A with marks", "C with marks"]
    means = torch.stack([task.train.samples[task.train.targets == c].float().mean((0, 1)).flatten()
                         for task in stream for c in task.classes])  # fmt: skip
    apart = torch.corrcoef(means)
    within = torch.block_diag(*[torch.ones(5, 5)] * 20).bool() & ~torch.eye(100).bool()
    assert apart[within].mean() > apart[~within & ~torch.eye(100).bool()].mean() + 0.1
    other = load_stream("cifar100-superclasses-mini", order=3, seed=1)
    assert other.tasks[0].name == "double arrows" and other.tasks[0].classes == tuple(range(55, 60))
    assert other.fingerprint != stream.fingerprint


def test_the_five_small_worlds_are_different():
    stream = load_stream("five-datasets-mini")
    assert [task.name for task in stream] == ["textures", "digits", "shapes", "symbols", "letters"]
    x = torch.cat([task.train.samples.float().flatten(1) for task in stream])
    means = torch.stack([part.mean(0) for part in x.split(600)])
    held = torch.cat([test.data.samples.float().flatten(1) for test in stream.tests])
    world = torch.cdist(held, means).argmin(1)
    assert (world == torch.arange(5).repeat_interleave(250)).float().mean() > 0.6
    assert len(load_stream("five-datasets-mini", n_tasks=2)) == 2
    with pytest.raises(UsageError, match="n_tasks must be from 1 to 5"):
        load_stream("five-datasets-mini", n_tasks=0)
