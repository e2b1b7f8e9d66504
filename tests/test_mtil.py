"""MTIL, X-TAIL and ZSCL's class-incremental streams on small copies in the layouts of the real data sets."""

from __future__ import annotations

import dataclasses
import io
import json
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from carryover.base.errors import InvalidError, StorageError, UsageError
from carryover.streams import check_stream, load_stream, registry, zscl
from carryover.streams.needs import needs
from carryover.streams.sources import mtil_layouts
from carryover.streams.sources.decoded import square
from carryover.streams.sources.mtil import DOMAINS, load_domain
from carryover.streams.sources.mtil_words import FLOWERS, TEMPLATES, prompts, word
from carryover.tests.layouts import MTIL, cifar100_files, mtil_files, photo, tiny_imagenet_files, write
from carryover.tests.terminal import call, one_line
from PIL import Image

# Classes, pictures to train and to test, of the small copies.
SMALL = {
    "aircraft": (3, 15, 15), "caltech101": (3, 17, 5), "cifar100": (100, 100, 100), "dtd": (2, 10, 10),
    "eurosat": (2, 20, 5), "flowers102": (2, 10, 10), "food101": (2, 10, 10), "mnist": (10, 40, 20),
    "oxford-pets": (3, 15, 15), "stanford-cars": (2, 10, 10), "sun397": (3, 16, 5),
}  # fmt: skip
# As published, and how many prompts there are.
WHOLE = {
    "aircraft": (100, 2), "caltech101": (101, 34), "cifar100": (100, 18), "dtd": (47, 8), "eurosat": (10, 3),
    "flowers102": (102, 1), "food101": (101, 1), "mnist": (10, 1), "oxford-pets": (37, 1), "stanford-cars": (196, 9),
    "sun397": (397, 2),
}  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return mtil_files(tmp_path_factory.mktemp("data"))


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    """The data sets with as many pictures as the copies have, and no cache but theirs."""
    for name, (classes, train, test) in SMALL.items():
        domain = dataclasses.replace(DOMAINS[name], classes=classes, train=train, test=test)
        monkeypatch.setitem(DOMAINS, name, domain)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own"))


# -- the data sets --------------------------------------------------------------------------------------------------


def theirs(name, root, monkeypatch):
    """(label, PIL image) of the training and of the test part by torchvision's classes, used as published code does."""
    from torchvision import datasets

    monkeypatch.setattr(datasets.Flowers102, "_check_integrity", lambda self: True)  # the real files' checksums
    if name in ("caltech101", "eurosat", "sun397"):
        source = {"caltech101": "Caltech101", "eurosat": "EuroSAT", "sun397": "SUN397"}[name]
        whole = getattr(datasets, source)(root)
        count = int(0.8 * len(whole))
        draw = torch.Generator().manual_seed(42)
        return whole, torch.utils.data.random_split(whole, [count, len(whole) - count], draw)
    source, train = {
        "aircraft": ("FGVCAircraft", "train"), "dtd": ("DTD", "train"), "flowers102": ("Flowers102", "train"),
        "food101": ("Food101", "train"), "oxford-pets": ("OxfordIIITPet", "trainval"),
        "stanford-cars": ("StanfordCars", "train"),
    }[name]  # fmt: skip
    parts = [getattr(datasets, source)(root, split=part) for part in (train, "test")]
    return parts[0], parts


def fingerprints(pairs) -> list:
    return sorted((label, image.convert("RGB").tobytes()) for image, label in pairs)


@pytest.mark.parametrize("name", [name for name in MTIL if name not in ("cifar100", "mnist", "sun397")])
def test_pictures_labels_and_parts_are_those_of_published_code(name, root, monkeypatch):
    whole, parts = theirs(name, root, monkeypatch)
    labels = getattr(whole, "categories", None) or whole.classes
    pictures = DOMAINS[name].read(root / DOMAINS[name].forms[0][0].partition("/")[0])
    assert len(pictures) == sum(SMALL[name][1:])
    for said, part in zip(("train", "test"), parts, strict=True):
        want = fingerprints((image, word(name, labels[label]).rstrip("?")) for image, label in part)
        ours = fingerprints((p.open(), word(name, p.label)) for p in pictures if p.part == said)
        assert ours == want


def test_scenes_are_torchvisions_divided_in_the_order_of_their_names(root, monkeypatch):
    whole, _ = theirs("sun397", root, monkeypatch)
    pictures = mtil_layouts.sun397(root / "SUN397")
    assert fingerprints((p.open(), p.label) for p in pictures) == fingerprints(
        (image, whole.classes[label]) for image, label in whole
    )
    assert [p.name for p in pictures] == sorted(p.name for p in pictures)
    order = torch.randperm(len(pictures), generator=torch.Generator().manual_seed(42)).tolist()
    assert sorted(order[16:]) == [i for i, p in enumerate(pictures) if p.part == "test"]


def test_numbers_and_digits_are_what_their_own_readers_read(root):
    from carryover.streams.sources.cifar import cifar
    from carryover.streams.sources.idx import mnist

    for name, plain in (("cifar100", cifar("CIFAR100", root)), ("mnist", mnist("MNIST", root))):
        labelled, _ = load_domain(name, root)
        assert labelled.train_x.shape == (len(plain.train_x), 3, 224, 224)
        names = [word(name, label) for label in plain.class_names]
        assert sorted(names) == list(labelled.class_names)
        assert sorted(names[y] for y in plain.test_y) == sorted(labelled.class_names[y] for y in labelled.test_y)
        pixels = plain.test_x[7].expand(3, -1, -1).numpy().transpose(1, 2, 0)
        image = Image.fromarray(pixels).resize((224, 224), Image.Resampling.BICUBIC)
        want, label = np.asarray(image).transpose(2, 0, 1), names[plain.test_y[7]]
        rows = [labelled.test_x[i] for i, y in enumerate(labelled.test_y) if labelled.class_names[y] == label]
        assert any(np.array_equal(row, want) for row in rows)


def test_a_stored_picture_is_what_clip_reads(root):
    labelled, about = load_domain("dtd", root)
    pictures = [p for p in sorted(mtil_layouts.dtd(root / "dtd")) if p.part == "test"]
    assert np.array_equal(labelled.test_x[:], np.stack([square(p, 224) for p in pictures]))
    assert labelled.transform is None and labelled.augment is None
    assert about["split"] == "given" and (root / "decoded" / "dtd-224.npy").is_file()


def test_published_sizes_are_divided_as_ever(monkeypatch):
    for count, digest in mtil_layouts.DRAWN.items():
        split = torch.utils.data.random_split(
            range(count), [int(0.8 * count), count - int(0.8 * count)], torch.Generator().manual_seed(42)
        )
        held = np.sort(np.array(split[1].indices)).astype("<i8")
        assert mtil_layouts.hashlib.sha256(held.tobytes()).hexdigest() == digest
    pictures = [mtil_layouts.Picture("a", f"a/{i:03}", "", 1, "", lambda: None) for i in range(20)]
    assert [p.part for p in mtil_layouts.divided(pictures)].count("test") == 4
    monkeypatch.setitem(mtil_layouts.DRAWN, 20, "0" * 64)
    with pytest.raises(InvalidError, match="draws another division of 20 pictures than the published"):
        mtil_layouts.divided(pictures)


def test_words():
    from torchvision.datasets import Flowers102

    assert {name: len(TEMPLATES[name]) for name in WHOLE} == {name: count for name, (_, count) in WHOLE.items()}
    assert all(template.count("{}") == 1 for templates in TEMPLATES.values() for template in templates)
    assert all(len(set(templates)) == len(templates) for templates in TEMPLATES.values())
    first = {name: templates[0] for name, templates in TEMPLATES.items()}
    assert first["aircraft"] == "a photo of a {}, a type of aircraft." and first["dtd"] == "a photo of a {} texture."
    assert first["eurosat"] == "a centered satellite photo of {}." and first["sun397"] == "a photo of a {}."
    assert {"the plastic {}.", "a {} in a video game.", "art of the {}."} < set(TEMPLATES["caltech101"])
    assert "a photo of the small {}." in TEMPLATES["cifar100"] and "i love my {}!" in TEMPLATES["stanford-cars"]
    assert list(FLOWERS) == [name.rstrip("?") for name in Flowers102.classes] and len(set(FLOWERS)) == 102
    assert word("sun397", "apartment_building/outdoor") == "apartment building outdoor"
    assert word("caltech101", "Faces_easy") == "centered face" and word("eurosat", "SeaLake") == "lake or sea"
    assert prompts(("a {}!", "the {}"), ("x{}", "y")) == (("a x{}!", "the x{}"), ("a y!", "the y"))


def test_published_facts(monkeypatch):
    monkeypatch.undo()
    assert {name: domain.classes for name, domain in DOMAINS.items()} == {name: n for name, (n, _) in WHOLE.items()}
    assert sum(domain.classes for domain in DOMAINS.values()) == 1_201
    for domain in DOMAINS.values():
        if domain.drawn:
            assert domain.train + domain.test in mtil_layouts.DRAWN
            assert domain.train == int(0.8 * (domain.train + domain.test))


# -- mtil -----------------------------------------------------------------------------------------------------------


def test_mtil(root):
    stream = load_stream("mtil", data=root)
    assert stream.name == "mtil" and stream.kind == "image-text" and stream.setting.name == "til"
    assert stream.fingerprint == check_stream(lambda: load_stream("mtil", data=root))
    assert [task.name for task in stream] == [DOMAINS[name].title for name in SMALL]
    assert [(len(t.classes), len(t.train), n) for t, n in zip(stream, stream.test_sizes, strict=True)] == list(
        SMALL.values()
    )
    assert stream.classes == sum(classes for classes, _, _ in SMALL.values()) and stream.info.shape == (3, 224, 224)
    x = stream.tasks[2].train.prepare(stream.tasks[2].train.span(0, 2)[0])
    assert x.shape == (2, 3, 224, 224) and x.min() >= 0 and x.max() <= 1
    shown, query = stream.shown(1), stream.query(1, 0)
    assert shown.texts == query.texts and query.task == 1 and query.classes == shown.classes == (3, 4, 5)
    assert [row[0] for row in shown.texts] == [
        "a photo of a body of a cougar cat.", "a photo of a centered face.", "a photo of a off-center face.",
    ]  # fmt: skip
    assert [len(stream.shown(i).texts[0]) for i in range(11)] == [count for _, count in WHOLE.values()]


def test_order_two(root):
    stream = load_stream("mtil", data=root, order="II")
    names = list(SMALL)
    assert [task.name for task in stream] == [DOMAINS[names[i]].title for i in (9, 6, 7, 8, 5, 10, 0, 1, 3, 4, 2)]
    assert stream.name == "mtil" and stream.fingerprint != load_stream("mtil", data=root).fingerprint


def test_a_part_of_it_is_called_so(root):
    stream = load_stream("mtil", data=root, domains=["mnist", "dtd"])
    assert stream.name == "mtil-subset" and [task.name for task in stream] == ["Describable Textures", "MNIST"]
    assert load_stream("mtil", data=root, n_tasks=2).name == "mtil-subset"
    second = load_stream("mtil", data=root, domains=["mnist", "dtd"], order="II")
    assert [task.name for task in second] == ["MNIST", "Describable Textures"]
    assert stream.texts[:2] == second.texts[-2:]
    for options, says in (
        ({"domains": ["dtb"]}, "unknown data set of mtil 'dtb'. Did you mean 'dtd'"),
        ({"domains": []}, "domains is empty"),
        ({"n_tasks": 12}, "n_tasks of mtil is from 1 to 11"),
        ({"order": "III"}, "must be 'I' or 'II'"),
        ({"hub": ["cars=x/y"]}, "hub: 'cars=x/y' is not NAME=ADDRESS, with a NAME of aircraft"),
        ({"hub": ["dtd"]}, "hub: 'dtd' is not NAME=ADDRESS"),
        ({"shots": 0}, "shots must be an integer of at least 1"),
    ):
        with pytest.raises(UsageError, match=says):
            load_stream("mtil", data=root, **options)


def test_shots_are_drawn_by_the_seed(root):
    made = {seed: load_stream("mtil", data=root, domains=["oxford-pets"], shots=2, seed=seed) for seed in (0, 1)}
    assert len({stream.fingerprint for stream in made.values()}) == 2
    for stream in made.values():
        assert torch.bincount(stream.tasks[0].train.targets).tolist() == [2, 2, 2] and stream.test_sizes == [15]
    assert made[0].fingerprint == check_stream(lambda: load_stream("mtil", data=root, domains=["oxford-pets"], shots=2))


def test_what_is_missing_is_told_at_once_and_what_is_there_is_offered(tmp_path):
    for name in ("mnist", "dtd"):
        MTIL[name](tmp_path, 5)
    (tmp_path / "dtd/dtd/labels/test1.txt").unlink()
    missing = ", ".join(name for name in SMALL if name != "mnist")
    answer = call("run", "zero-shot", "mtil", "--data", tmp_path, "--out", tmp_path / "out")
    one_line(answer, 6, f"mtil lacks 10 of its 11 data sets under {tmp_path}: {missing}. `carryover data status mtil`",
             'What is there makes mtil-subset: domains=["mnist"].')  # fmt: skip
    with pytest.raises(StorageError, match=r"lacks 1 of its 2 data sets .*: dtd\."):
        load_stream("mtil", data=tmp_path, domains=["dtd", "mnist"])
    assert load_stream("mtil", data=tmp_path, domains=["mnist"]).test_sizes == [20]


def test_a_download_fetches_what_is_missing_alone(tmp_path, monkeypatch):
    MTIL["mnist"](tmp_path, 5)
    fetched = []
    for name in ("dtd", "mnist"):
        get = lambda root, name=name: (fetched.append(name), MTIL[name](root, 5))
        monkeypatch.setitem(DOMAINS, name, dataclasses.replace(DOMAINS[name], download=get))
    assert len(load_stream("mtil", data=tmp_path, domains=["mnist", "dtd"], download=True)) == 2
    assert fetched == ["dtd"]


def test_a_copy_that_is_not_whole(tmp_path):
    for name in ("food101", "flowers102", "aircraft", "stanford-cars"):
        MTIL[name](tmp_path, 5)
    (tmp_path / "food-101/images/waffles/7.jpg").unlink()
    with pytest.raises(StorageError, match=r"waffles.7.jpg does not exist; the data set lists it"):
        load_domain("food101", tmp_path)
    (tmp_path / "flowers-102/setid.mat").write_bytes(b"no MATLAB")
    with pytest.raises(InvalidError, match=r"setid.mat holds no array 'trnid'"):
        load_domain("flowers102", tmp_path)
    lists = tmp_path / "fgvc-aircraft-2013b" / "data"
    train, test = (lists / f"images_variant_{part}.txt" for part in ("train", "test"))
    rows = train.read_text().splitlines()
    train.write_text("\n".join(rows[1:]))
    with pytest.raises(StorageError, match="29 images, not the 30 of aircraft"):
        load_domain("aircraft", tmp_path)
    test.write_text(test.read_text() + rows[0])
    with pytest.raises(
        StorageError, match="aircraft has 14 pictures to train and 16 to test, but FGVC Aircraft has 15"
    ):
        load_domain("aircraft", tmp_path)


def test_cars_in_folders_are_cars_in_lists(root, tmp_path):
    pictures = mtil_layouts.stanford_cars(root / "stanford_cars")
    for p in pictures:
        file = io.BytesIO()
        p.open().save(file, "PNG")
        write(tmp_path / "stanford_cars" / p.part, {p.name: file.getvalue()})
    ours, theirs = (load_stream("mtil", data=home, domains=["stanford-cars"]) for home in (root, tmp_path))
    assert ours.fingerprint == theirs.fingerprint
    assert ours.class_names == ("acura rl sedan 2012", "am general hummer suv 2000")


# -- copies at Hugging Face -----------------------------------------------------------------------------------------


def parquet(folder, parts: dict[str, list[tuple[str, bytes]]]) -> str:
    """A folder of Parquet files, by split."""
    import pyarrow as pa
    from pyarrow import parquet as files

    folder.mkdir()
    for part, rows in parts.items():
        images = [{"bytes": data, "path": f"{part}{i}.jpg"} for i, (_, data) in enumerate(rows)]
        files.write_table(
            pa.table({"image": images, "label": [label for label, _ in rows]}), folder / f"{part}.parquet"
        )
    return str(folder)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()


def cars(count: int, seed: int) -> list[tuple[str, bytes]]:
    return [(("Acura RL Sedan 2012", "AM_General Hummer SUV 2000")[i % 2], photo(seed + i)) for i in range(count)]


def test_a_copy_stands_in_for_a_folder(hub, tmp_path):
    address = parquet(tmp_path / "cars", {"train": cars(10, 0), "test": cars(10, 50), "contrast": cars(10, 90)})
    stream = load_stream("mtil", data=tmp_path, domains=["stanford-cars"], hub=[f"stanford-cars={address}"])
    assert (len(stream.tasks[0].train), stream.test_sizes) == (10, [10])
    assert stream.texts[1][0] == "a photo of a am general hummer suv 2000, a type of car."


def test_a_copy_that_is_something_else_is_refused(hub, tmp_path):
    for number, (parts, says) in enumerate(
        (
            ({"train": cars(12, 0), "test": cars(8, 50)}, "has 12 pictures to train and 8 to test.*divided in another"),
            ({"train": cars(10, 0), "test": cars(9, 50)}, "19 images, not the 20 of stanford-cars"),
            ({"train": [(3, photo(i)) for i in range(10)], "test": cars(0, 0)}, "labels without names, such as 3"),
        )
    ):
        address = parquet(tmp_path / str(number), {part: rows for part, rows in parts.items() if rows})
        with pytest.raises((StorageError, UsageError), match=says):
            load_domain("stanford-cars", tmp_path, address)


def test_an_undivided_copy_is_drawn(hub, tmp_path, root):
    pictures = mtil_layouts.eurosat(root / "eurosat")
    rows = []
    for p in pictures:
        file = io.BytesIO()
        p.open().save(file, "PNG")
        rows.append((p.label, file.getvalue()))
    labelled, _ = load_domain("eurosat", tmp_path, parquet(tmp_path / "land", {"train": rows}))
    assert (len(labelled.train_y), len(labelled.test_y)) == (20, 5)
    assert labelled.class_names == ("annual crop land", "lake or sea")


# -- x-tail ---------------------------------------------------------------------------------------------------------


def test_x_tail(root):
    stream = load_stream("x-tail", data=root, shots=3)
    assert stream.name == "x-tail" and len(stream) == 10 and "CIFAR-100" not in [task.name for task in stream]
    assert stream.fingerprint == check_stream(lambda: load_stream("x-tail", data=root, shots=3))
    sizes = [classes for name, (classes, _, _) in SMALL.items() if name != "cifar100"]
    assert stream.classes == sum(sizes) - 1 and "centered face" not in stream.class_names
    faces = stream.tasks[1]
    assert faces.classes == (3, 4) and set(faces.train.targets.tolist()) == {3, 4}
    assert [stream.class_names[c] for c in faces.classes] == ["body of a cougar cat", "off-center face"]
    assert all(n <= 3 for task in stream for n in torch.bincount(task.train.targets).tolist())
    query = stream.query(4, 1)
    assert query.open and len(query.texts) == stream.classes and query._index is None
    assert load_stream("x-tail", data=root, domains=["dtd"]).name == "x-tail-subset"
    labels = [stream.class_names[y] for y in stream.tests[1].data.targets.tolist()]
    whole = load_stream("mtil", data=root, domains=["caltech101"])
    theirs = [whole.class_names[y] for y in whole.tests[0].data.targets.tolist()]
    assert labels == [label for label in theirs if label != "centered face"]
    with pytest.raises(UsageError, match="unknown data set of x-tail 'cifar100'"):
        load_stream("x-tail", data=root, domains=["cifar100"])


# -- class-incremental streams of ZSCL ------------------------------------------------------------------------------


def test_zscl_cifar100(tmp_path):
    cifar100_files(tmp_path, [0] * 100)
    stream = load_stream("zscl-cifar100", data=tmp_path, image_size=48)
    assert stream.kind == "image-text" and stream.setting.name == "cil" and stream.info.shape == (3, 48, 48)
    assert stream.fingerprint == check_stream(lambda: load_stream("zscl-cifar100", data=tmp_path, image_size=48))
    assert [len(task.classes) for task in stream] == [10] * 10
    assert stream.tasks[0].classes == (87, 0, 52, 58, 44, 91, 68, 97, 51, 15)
    assert sorted(zscl.CIFAR100_ORDER) == list(range(100))
    assert stream.shown(0).texts[1:3] == (("a bad photo of a apple.",), ("a bad photo of a oak tree.",))
    query = stream.query(0, 2)
    assert len(query.classes) == len(query.texts) == 20 and query.texts[0] == ("a bad photo of a apple.",)
    fine = load_stream(
        "zscl-cifar100", data=tmp_path, n_tasks=50, prompt="a good photo of a {}.", class_order="natural"
    )
    assert fine.tasks[0].classes == (0, 1) and fine.texts[1] == ("a good photo of a aquarium fish.",)
    with pytest.raises(UsageError, match="one {} in place of the class name"):
        load_stream("zscl-cifar100", data=tmp_path, prompt="a photo")


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    facts = dataclasses.replace(zscl.TINYIMAGENET, classes=6, images=6 * 6)
    monkeypatch.setattr(zscl, "TINYIMAGENET", facts)
    tiny_imagenet_files(tmp_path)
    return tmp_path


def test_zscl_tinyimagenet(tiny):
    stream = load_stream("zscl-tinyimagenet", data=tiny, base=2, n_tasks=3, image_size=48)
    assert stream.fingerprint == check_stream(
        lambda: load_stream("zscl-tinyimagenet", data=tiny, base=2, n_tasks=3, image_size=48)
    )
    assert [task.classes for task in stream] == [(0, 1), (2, 3), (4, 5)]
    assert [len(task.train) for task in stream] == [8, 8, 8] and stream.test_sizes == [4, 4, 4]
    assert stream.texts[4] == ("a bad photo of a thing 4.",) and stream.tasks[0].train.shape == (3, 64, 64)
    with pytest.raises(UsageError, match="6 classes do not make a first task of base=2 and n_tasks=4"):
        load_stream("zscl-tinyimagenet", data=tiny, base=2, n_tasks=4)
    (tiny / "tiny-imagenet-200/val/images/val_3.JPEG").unlink()
    with pytest.raises(StorageError, match="val_3.JPEG does not exist; val_annotations.txt lists it"):
        load_stream("zscl-tinyimagenet", data=tiny, base=2, n_tasks=3)
    (tiny / "tiny-imagenet-200/words.txt").write_text("n01443537 goldfish\n")
    with pytest.raises(InvalidError, match="words.txt does not have two columns"):
        load_stream("zscl-tinyimagenet", data=tiny, base=2, n_tasks=3)


# -- carryover data status ------------------------------------------------------------------------------------------


def test_status_of_what_is_whole(root):
    answer = call("data", "status", "mtil", "--data", root)
    assert (answer.code, answer.err) == (0, "")
    lines = answer.out.splitlines()
    assert lines[0] == f"mtil: 11 of 11 data sets are in {root}" and len(lines) == 12
    assert [line.split()[:2] for line in lines[1:]] == [[name, "there"] for name in SMALL]


def test_status_of_what_is_not(tmp_path):
    MTIL["dtd"](tmp_path, 5)
    (tmp_path / "dtd/dtd/labels/test1.txt").unlink()
    MTIL["stanford-cars"](tmp_path, 5)
    answer = call("data", "status", "mtil", "--data", tmp_path)
    assert answer.code == 6 and answer.err == "" and f"mtil: 1 of 11 data sets are in {tmp_path}" in answer.out
    assert "lacks dtd/dtd/labels/test1.txt\n" in answer.out and answer.out.count("lacks") == 1
    assert 'or read a copy: stream.hub=["oxford-pets=timm/oxford-iiit-pet"]' in answer.out
    assert "unpack http://vision.princeton.edu/projects/2010/SUN/SUN397.tar.gz, or run with --download" in answer.out
    told = call("data", "status", "x-tail", "--data", tmp_path, "--json")
    found = json.loads(told.out)
    assert told.code == 6 and found["complete"] is False and found["root"] == str(tmp_path)
    rows = {row["name"]: row for row in found["needs"]}
    assert len(rows) == 10 and rows["stanford-cars"]["there"] and rows["dtd"]["lacks"] == ["dtd/dtd/labels/test1.txt"]
    assert rows["aircraft"]["where"] == str(tmp_path / "fgvc-aircraft-2013b") and rows["aircraft"]["download"]


def test_status_of_other_streams(tmp_path):
    assert call("data", "status", "split-digits").out == "split-digits needs no data.\n"
    one_line(call("data", "status", "mtli"), 2, "unknown stream 'mtli'. Did you mean 'mtil'")
    for entry in registry.entries.values():
        for need in needs(entry.name, tmp_path):
            package = {"metaworld": "metaworld", "hf-libero": "libero"}.get(need.name)
            there = package is not None and find_spec(package) is not None
            assert need.there is there and need.get, (entry.name, need)
            own = need.name in ("hf-libero", "libero-assets")  # which lie where their packages look for them
            assert own or need.where.startswith(str(tmp_path)), (entry.name, need)
    assert [need.download for need in needs("five-datasets", tmp_path)] == [True, True, True, True, False]
    assert not any(need.hub for need in needs("split-mnist", tmp_path))


def test_status_of_a_stream_of_ones_own(tmp_path):
    (tmp_path / "mine.py").write_text(
        'from carryover.streams import stream\n\n\n@stream("a", embedded=False, needs="my lab, MNIST")\n'
        "def a():\n    ...\n\n\ndef b():\n    ...\n"
    )
    answer = call("data", "status", f"{tmp_path}/mine.py:a", "--data", tmp_path)
    assert answer.code == 6 and "my lab  unknown" in answer.out and "MNIST   missing" in answer.out
    one_line(call("data", "status", f"{tmp_path}/mine.py:b"), 2, "does not tell what it needs")
