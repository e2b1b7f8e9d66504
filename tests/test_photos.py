"""Streams of photos on small copies in the layouts of the real data sets: whole, divided, damaged and incomplete."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import sys
import tarfile

import numpy as np
import pytest
import torch
from carryover.base.errors import InvalidError, StorageError, UsageError
from carryover.streams import check_stream, fine_grained, imagenet_r, load_stream
from carryover.streams.augment import CenterCrop, RandomResizedCrop
from carryover.streams.rows import Rows
from carryover.streams.sources import decoded as decoding
from carryover.streams.sources.decoded import decoded, square
from carryover.streams.sources.pictures import in_folders
from carryover.streams.sources.wordnet import IMAGENET_R as NAMES
from carryover.tests.layouts import SIZES, contents, photo, write

FINGERPRINT = "9b79c6521af59c1fc91bc2f203274819155169cb220cb8087ee97033e2e8adbe"


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    """The published data sets with as many classes as the copies here have, and no cache but theirs."""
    names = {label: NAMES[label] for label in SIZES}
    facts = {"classes": 6, "images": sum(SIZES.values())}
    monkeypatch.setattr(imagenet_r, "IMAGENET_R", dataclasses.replace(imagenet_r.IMAGENET_R, names=names, **facts))
    monkeypatch.setattr(imagenet_r, "IMAGENET_A", dataclasses.replace(imagenet_r.IMAGENET_A, **facts))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own"))


@pytest.fixture
def root(tmp_path):
    write(tmp_path / "data" / "imagenet-r", contents() | {"README.txt": b"ImageNet-R"})
    return tmp_path / "data"


def load(root, **options):
    return load_stream("split-imagenet-r", data=root, **{"n_tasks": 3, **options})


def one_line(error: pytest.ExceptionInfo) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def all_samples(stream) -> set[tuple[bytes, int]]:
    parts = [data for task, test in zip(stream, stream.tests, strict=True) for data in (task.train, test.data)]
    return {(x.tobytes(), int(y)) for data in parts for x, y in zip(data.samples[:], data.targets, strict=True)}


# -- ImageNet-R -----------------------------------------------------------------------------------------------------


def test_a_folder_as_it_is_published(root):
    stream = load(root)
    assert check_stream(lambda: load(root)) == stream.fingerprint == FINGERPRINT
    assert stream.info.shape == (3, 224, 224) and stream.classes == 6 and stream.setting.name == "cil"
    assert [task.name for task in stream] == ["goldfish, great white shark", "hammerhead, stingray", "hen, ostrich"]
    train = stream.tasks[0].train
    assert isinstance(train.samples, Rows) and train.shape == (3, 256, 256) and train.samples.dtype == np.uint8
    assert train.transform == CenterCrop(224) and train.augment == RandomResizedCrop(224, (0.05, 1.0), flip=0.5)
    assert len(all_samples(stream)) == 65
    x = train.prepare(train.span(0, 2)[0])
    assert x.shape == (2, 3, 224, 224) and x.min() >= 0 and x.max() <= 1


def test_a_fifth_of_each_class_is_tested_by_the_hash_of_its_names(root):
    stream = load(root, n_tasks=6)
    for (label, size), task, test in zip(SIZES.items(), stream, stream.tests, strict=True):
        held = max(1, int(size / 5 + 0.5))
        assert (len(task.train), len(test)) == (size - held, held)
        names = sorted(name for name in contents() if name.startswith(label))
        by_hash = sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
        rows = [names.index(name) for name in sorted(by_hash[:held])]
        home = root / "imagenet-r"
        want = [square(p) for p in np.array(in_folders(home), object) if p.label == label]
        assert np.array_equal(test.data.samples[:], np.stack(want)[rows])


def test_no_seed_and_no_file_system_moves_the_split(root, tmp_path):
    seeded = load(root, class_order="seeded", seed=7)
    assert all_samples(seeded) == all_samples(load(root)) and seeded.fingerprint != FINGERPRINT
    held = {x.tobytes() for test in seeded.tests for x in test.data.samples[:]}
    assert held == {x.tobytes() for test in load(root).tests for x in test.data.samples[:]}
    files = contents()
    other = write(tmp_path / "other" / "imagenet-r", dict(reversed(files.items()))).parent
    assert load(other).fingerprint == FINGERPRINT


def test_class_orders(root):
    assert load(root, n_tasks=6).meta["class_order"] == [0, 1, 2, 3, 4, 5]
    orders = {tuple(load(root, class_order="seeded", seed=seed).meta["class_order"]) for seed in range(3)}
    assert len(orders) == 3
    assert [task.classes for task in load(root, class_order=[5, 4, 3, 2, 1, 0])] == [(5, 4), (3, 2), (1, 0)]
    with pytest.raises(UsageError, match="6 classes do not divide into n_tasks=4"):
        load(root, n_tasks=4)


def test_the_record_tells_the_division(root):
    hashed, given = load(root).meta, load(root, split=str(_json_lists(root))).meta
    assert hashed["split"] == "hash" and given["split"] == "listed"
    assert hashed["test_names_sha256"] != given["test_names_sha256"]


# -- published divisions --------------------------------------------------------------------------------------------


def _lists() -> tuple[list[str], list[str]]:
    names = sorted(contents())
    return [name for name in names if not name.endswith("_0.jpg")], [name for name in names if name.endswith("_0.jpg")]


def _json_lists(root):
    train, test = _lists()
    path = root / "split.json"
    path.write_text(json.dumps({"train": train, "test": test}))
    return path


def test_every_form_of_a_division_says_the_same(root, tmp_path):
    train, test = _lists()
    want = load(root, split=str(_json_lists(root))).fingerprint
    assert want != FINGERPRINT
    for part, names in (("train", train), ("test", test)):
        (tmp_path / f"r_{part}.txt").write_text("# comment/ed out\n" + "".join(f"./imagenet-r/{n}\n" for n in names))
        entries = "".join(f"- data/imagenet-r/{name}\n" for name in reversed(names))
        (tmp_path / f"r_{part}.yaml").write_text(f"data:\n{entries}targets:\n- 0\n- 17\n")
        write(tmp_path / "divided" / "imagenet-r" / part, {name: contents()[name] for name in names})
    for split in ("r_train.txt", "r_train.yaml", "divided/imagenet-r"):
        assert load(root, split=str(tmp_path / split)).fingerprint == want
    divided = load(tmp_path / "divided", split="given")
    assert divided.fingerprint == want and divided.meta["split"] == "given"
    assert load(tmp_path / "divided").fingerprint == FINGERPRINT  # the hash is of the names, whatever the folders


@pytest.mark.parametrize(
    "change, says",
    [
        (lambda a, b: (a, [*b, "n01443537/none_9.jpg"]), r"lists n01443537/none_9.jpg \(and 0 more\)"),
        (lambda a, b: (a[1:], b), "leaves out 1 of 65 pictures, such as n01443537/art_1.jpg"),
        (lambda a, b: (a, b + a[:1]), "lists n01443537/art_1.jpg 2 times"),
        (lambda a, b: (a, 3), "not of the form"),
    ],
)
def test_lists_that_do_not_fit(root, change, says):
    train, test = change(*_lists())
    path = root / "split.json"
    path.write_text(json.dumps({"train": train, "test": test}))
    with pytest.raises((UsageError, InvalidError), match=says) as error:
        load(root, split=str(path))
    assert str(path) in one_line(error)


def test_divisions_that_are_none(root, tmp_path):
    (tmp_path / "list.txt").write_text("n01443537/art_0.jpg")
    (tmp_path / "train.txt").write_text("n01443537/art_0.jpg")
    for split, says in (
        ("hsah", "split=hsah does not exist; it is 'hash', 'given', or lists: a .json"),
        (str(tmp_path / "list.txt"), "is not understood; give a .json"),
        (str(tmp_path / "train.txt"), "test.txt does not exist"),
        (str(root), "a folder without train/CLASS/"),
        ("given", "split=given needs a data set that comes as train/ and test/"),
    ):
        with pytest.raises((UsageError, StorageError), match=says) as error:
            load(root, split=split)
        one_line(error)


def test_names_that_both_parts_have_are_told_by_their_folder_alone(tmp_path, monkeypatch):
    files = contents()
    for part, seed in (("train", 0), ("test", 1)):
        home = tmp_path / "imagenet-r" / part
        write(home, {name: photo(seed * 10**6 + i) for i, name in enumerate(sorted(files))})
    monkeypatch.setattr(imagenet_r, "IMAGENET_R", dataclasses.replace(imagenet_r.IMAGENET_R, images=0))
    assert sum(load(tmp_path, split="given").test_sizes) == 65
    with pytest.raises(UsageError, match="art_0.jpg is in train/ and in test/.*use split=given"):
        load(tmp_path)


# -- not there, or not all of it ------------------------------------------------------------------------------------


def test_what_is_missing_is_said_and_where_to_get_it(root, tmp_path):
    with pytest.raises(
        StorageError,
        match=r"imagenet-r is not under .*nowhere: unpack https://people.eecs.berkeley.edu"
        r"/~hendrycks/imagenet-r.tar \(2.2 GB\) there, so that .* exists or run again with --download",
    ):
        load(tmp_path / "nowhere")
    (root / "imagenet-r" / "n01498041" / "toy_3.jpg").unlink()
    with pytest.raises(StorageError, match="64 images, not the 65 of imagenet-r. The download is incomplete") as error:
        load(root)
    one_line(error)
    for file in (root / "imagenet-r" / "n01498041").iterdir():
        file.unlink()
    with pytest.raises(
        StorageError,
        match=r"5 classes, not the 6 of imagenet-r; 1 of them are missing, such as "
        r"n01498041 \(stingray\)",
    ):
        load(root)
    assert not (root / "decoded").exists()
    with pytest.raises(StorageError, match="cars196 is not under .*: put the Stanford Cars there as train/CLASS/"):
        load_stream("split-cars196", data=tmp_path)


def test_the_real_data_sets_have_their_real_sizes():
    from carryover.streams.sources.wordnet import IMAGENET_R

    assert len(IMAGENET_R) == 200 and list(IMAGENET_R) == sorted(IMAGENET_R) and len(set(IMAGENET_R.values())) == 200
    assert fine_grained.CUB200.images == 5_994 + 5_794 and fine_grained.CARS196.classes == 196


def test_a_download_is_checked_and_unpacked_whole(root, tmp_path, monkeypatch):
    archive = tmp_path / "made.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(root / "imagenet-r", "imagenet-r")
    fetched = lambda url, folder, name: (tmp_path / "new" / name).write_bytes(archive.read_bytes())  # noqa: E731
    monkeypatch.setattr("torchvision.datasets.utils.download_url", fetched)
    with pytest.raises(InvalidError, match="imagenet-r.tar is not the published one") as error:
        load(tmp_path / "new", download=True)
    one_line(error)
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    monkeypatch.setattr(imagenet_r, "IMAGENET_R", dataclasses.replace(imagenet_r.IMAGENET_R, sha256=digest))
    assert load(tmp_path / "new", download=True).fingerprint == FINGERPRINT
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["decoded", "imagenet-r"]


# -- decoding -------------------------------------------------------------------------------------------------------


def test_a_square_is_torchvisions(root):
    from torchvision.transforms import functional

    for picture in in_folders(root / "imagenet-r")[:8]:
        image = functional.resize(picture.open().convert("RGB"), 256, functional.InterpolationMode.BICUBIC)
        want = np.asarray(functional.center_crop(image, [256, 256])).transpose(2, 0, 1)
        assert np.array_equal(square(picture), want)


def test_images_of_every_kind_become_rgb(tmp_path):
    from PIL import Image

    home = tmp_path / "a"
    home.mkdir()
    for mode in ("L", "P", "RGBA", "CMYK", "1"):
        Image.new(mode, (30, 20)).save(home / f"{mode}.{'tif' if mode == 'CMYK' else 'png'}")
    assert {square(picture, 8).shape for picture in in_folders(tmp_path)} == {(3, 8, 8)}


def test_a_map_is_made_once_and_is_a_fresh_decode(root, monkeypatch):
    pictures = in_folders(root / "imagenet-r")
    first = decoded("r", pictures, [root / "d"], side=32)
    assert isinstance(first, np.memmap) and not first.flags.writeable and first.shape == (65, 3, 32, 32)
    assert np.array_equal(first, np.stack([square(picture, 32) for picture in pictures]))
    assert sorted(path.name for path in (root / "d").iterdir()) == ["r-32.json", "r-32.npy"]
    monkeypatch.setattr(decoding, "square", lambda *_: pytest.fail("decoded again"))
    assert np.array_equal(decoded("r", pictures, [root / "d"], side=32), first)


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: os.truncate(folder / "r-32.npy", 5000),
        lambda folder: (folder / "r-32.npy").write_bytes((folder / "r-32.npy").read_bytes() + b"x"),
        lambda folder: np.save(folder / "r-32.npy", np.zeros((65, 3, 32, 32), np.int8)),
        lambda folder: np.save(folder / "r-32.npy", np.zeros((64, 3, 32, 32), np.uint8)),
        lambda folder: np.save(folder / "r-32.npy", np.array([{}], object)),
        lambda folder: (folder / "r-32.npy").unlink(),
        lambda folder: (folder / "r-32.json").unlink(),
        lambda folder: (folder / "r-32.json").write_text("{"),
        lambda folder: (folder / "r-32.json").write_text('{"images":65}'),
        lambda folder: (folder / "r-32.npy").write_bytes(b""),
    ],
)
def test_a_damaged_map_is_made_anew(root, damage):
    pictures, folder = in_folders(root / "imagenet-r"), root / "d"
    want = np.array(decoded("r", pictures, [folder], side=32))
    damage(folder)
    assert np.array_equal(decoded("r", pictures, [folder], side=32), want)
    assert sorted(path.name for path in folder.iterdir()) == ["r-32.json", "r-32.npy"]


def test_a_map_of_other_images_is_made_anew(root):
    before = load(root).fingerprint
    (root / "imagenet-r" / "n01443537" / "art_0.jpg").write_bytes(photo(77))
    assert load(root).fingerprint != before


def test_a_broken_image_is_named_and_leaves_nothing(root):
    path = root / "imagenet-r" / "n01498041" / "toy_3.jpg"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(InvalidError, match=r"n01498041.toy_3.jpg cannot be decoded: .*\. Fetch it again") as error:
        load(root)
    one_line(error)
    assert list((root / "decoded").iterdir()) == []


def test_a_folder_that_cannot_be_written_is_read_and_the_map_lies_in_the_own_cache(root, tmp_path, monkeypatch):
    monkeypatch.setattr(decoding, "_writable", lambda folder: root not in folder.parents)
    assert load(root).fingerprint == FINGERPRINT
    assert not (root / "decoded").exists()
    assert (tmp_path / "own" / "carryover" / "decoded" / "imagenet-r-256.npy").exists()


def test_a_full_disk_is_one_line(root, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(decoding.os, "fsync", full)
    with pytest.raises(StorageError, match="imagenet-r-256.npy cannot be written: No space left on device. It needs"):
        load(root)
    assert list((root / "decoded").iterdir()) == []


def test_progress_is_for_terminals(root, capsys, monkeypatch):
    load(root)
    assert capsys.readouterr() == ("", "")
    (root / "decoded" / "imagenet-r-256.json").unlink()
    monkeypatch.setattr(decoding, "EVERY", 0)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    load(root)
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("imagenet-r: decoding 65 images, once, into") and said[-1].endswith(
        "65 of 65 images decoded"
    )


# -- Hugging Face copies --------------------------------------------------------------------------------------------


@pytest.fixture
def hub(tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    return datasets


def table(paths: bool = True, **more) -> dict:
    """Rows in no order of ours, with the columns of a published copy."""
    names = sorted(contents(), key=lambda name: hashlib.sha256(name.encode()).digest())
    images = [{"bytes": contents()[name], "path": name.rpartition("/")[2] if paths else None} for name in names]
    return {"image": images, "wnid": [name[:9] for name in names], "class_name": ["?"] * len(names), **more}


def write_parquet(path, rows):
    import pyarrow as pa
    from pyarrow import parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.table(rows), path)
    return str(path)


def test_a_parquet_copy_is_the_folder(hub, root, tmp_path):
    one = write_parquet(tmp_path / "one.parquet", table())
    assert load(root, hub=one).fingerprint == FINGERPRINT
    rows = table()
    for i, cut in enumerate((slice(0, 20), slice(20, 65))):
        piece = {name: values[cut] for name, values in rows.items()}
        write_parquet(tmp_path / "many" / f"test-0000{i}-of-00002.parquet", piece)
    assert load(tmp_path, hub=str(tmp_path / "many")).fingerprint == FINGERPRINT


def test_a_copy_without_paths_is_divided_by_its_bytes(hub, tmp_path):
    one = write_parquet(tmp_path / "one.parquet", table(paths=False))
    rows = {name: values[::-1] for name, values in table(paths=False).items()}
    other = write_parquet(tmp_path / "other.parquet", rows)
    stream = load(tmp_path, hub=one)
    assert stream.fingerprint == load(tmp_path, hub=other).fingerprint != FINGERPRINT
    assert stream.test_sizes == [4, 6, 3] and len(all_samples(stream)) == 65


def test_a_hub_copy_with_class_labels_and_its_own_division(hub, tmp_path, monkeypatch):
    features = hub.Features({"img": hub.Image(), "label": hub.ClassLabel(names=sorted(SIZES))})
    rows, (_, test) = table(), _lists()

    def part(held):
        names = [f"{label}/{image['path']}" for label, image in zip(rows["wnid"], rows["image"], strict=True)]
        chosen = [i for i, name in enumerate(names) if (name in test) is held]
        columns = {"img": [rows["image"][i] for i in chosen],
                   "label": [sorted(SIZES).index(rows["wnid"][i]) for i in chosen]}  # fmt: skip
        return hub.Dataset.from_dict(columns, features=features)

    made = hub.DatasetDict({"train": part(False), "test": part(True)})
    monkeypatch.setattr(hub, "load_dataset", lambda source: made)
    given = load(tmp_path, hub="some/copy", split="given")
    assert given.test_sizes == [4, 4, 4] and given.tasks[0].name == "goldfish, great white shark"
    assert load(tmp_path, hub="some/copy").fingerprint == FINGERPRINT


def test_copies_that_cannot_be_used(hub, tmp_path):
    rows = table()
    for columns, says in (
        ({"wnid": rows["wnid"]}, "has no column of images; its columns are wnid"),
        ({"image": rows["image"]}, "has no column of labels: one of wnid, synset, label"),
        ({name: values[:20] for name, values in rows.items()}, "20 images, not the 65 of imagenet-r"),
        ({**rows, "image": [{"bytes": None, "path": "x.jpg"}] * 65}, "row .* of split 'bad' of .* holds no image"),
        ({**rows, "image": [{"bytes": b"x", "path": f"{i}.jpg"} for i in range(65)]}, "row .* cannot be decoded"),
    ):
        path = write_parquet(tmp_path / "bad.parquet", columns)
        with pytest.raises((UsageError, StorageError, InvalidError), match=says) as error:
            load(tmp_path, hub=path)
        one_line(error)
    with pytest.raises(StorageError, match="none.parquet does not exist"):
        load(tmp_path, hub=str(tmp_path / "none.parquet"))
    with pytest.raises(StorageError, match="holds no .parquet file"):
        (tmp_path / "empty").mkdir()
        load(tmp_path, hub=str(tmp_path / "empty"))


# -- the other data sets --------------------------------------------------------------------------------------------


def test_imagenet_a(root):
    (root / "imagenet-r").rename(root / "imagenet-a")
    stream = load_stream("split-imagenet-a", data=root, n_tasks=2)
    assert stream.name == "split-imagenet-a" and stream.class_names[0] == "n01443537" and sum(stream.test_sizes) == 13
    assert load_stream("split-imagenet-a", data=root / "imagenet-a", n_tasks=2).fingerprint == stream.fingerprint


def test_birds_as_published(tmp_path, monkeypatch):
    facts = {"classes": 3, "images": 15}
    monkeypatch.setattr(fine_grained, "CUB200", dataclasses.replace(fine_grained.CUB200, **facts))
    sizes = {"001.Black_footed_Albatross": 4, "002.Laysan_Albatross": 6, "003.Sooty_Albatross": 5}
    files = contents(sizes)
    home = write(tmp_path / "CUB_200_2011", {f"images/{name}": data for name, data in files.items()})
    (home / "images.txt").write_text("".join(f"{i} {name}\n" for i, name in enumerate(files, 1)))
    (home / "train_test_split.txt").write_text("".join(f"{i} {i % 2}\n" for i in range(1, 16)))
    stream = load_stream("split-cub200", data=tmp_path, n_tasks=3)
    assert stream.class_names == ("Black footed Albatross", "Laysan Albatross", "Sooty Albatross")
    want = {square(p).tobytes() for p in in_folders(home) if list(files).index(p.name) % 2}
    assert {x.tobytes() for test in stream.tests for x in test.data.samples[:]} == want
    (home / "train_test_split.txt").write_text("1 1\n2 x\n")
    with pytest.raises(InvalidError, match="train_test_split.txt does not say 0 or 1 of every image of images.txt"):
        load_stream("split-cub200", data=tmp_path, n_tasks=3)
    (home / "train_test_split.txt").write_text("1\n")
    with pytest.raises(InvalidError, match="train_test_split.txt does not have two words on every line"):
        load_stream("split-cub200", data=tmp_path, n_tasks=3)


def test_cars_with_a_smaller_last_task(tmp_path, monkeypatch):
    monkeypatch.setattr(fine_grained, "CARS196", dataclasses.replace(fine_grained.CARS196, classes=5))
    sizes = {f"Acura {i}": 3 + i for i in range(5)}
    for part, seed in (("train", 1), ("test", 2)):
        files = {name: photo(seed * 10**6 + i) for i, name in enumerate(contents(sizes))}
        write(tmp_path / "cars196" / part, files)
    stream = load_stream("split-cars196", data=tmp_path, n_tasks=3)
    assert [len(task.classes) for task in stream] == [2, 2, 1] and stream.tasks[2].name == "Acura 4"
    assert sum(stream.test_sizes) == 25 and torch.equal(stream.tests[2].data.targets, torch.full((7,), 4))
    with pytest.raises(UsageError, match="sizes must be positive"):
        load_stream("split-cars196", data=tmp_path, n_tasks=4)
