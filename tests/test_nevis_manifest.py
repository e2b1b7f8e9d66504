"""NEVIS'22: the manifest against the published counts, rules of division by hand, files in their real layouts."""

from __future__ import annotations

import csv
import dataclasses
import struct

import numpy as np
import pytest
from carryover.base.errors import InvalidError, StorageError, UsageError
from carryover.streams.sources.nevis import layouts
from carryover.streams.sources.nevis.divisions import RULES, SPLITS, assign, cut, drawn, rows
from carryover.streams.sources.nevis.manifest import FILE, dataset, read, tasks
from carryover.streams.sources.nevis.official import dataset_need, divided, official, present, status
from carryover.streams.sources.nevis.variants import NAMES, partial_name, variant
from carryover.tests.layouts import (
    caltech101_files,
    cifar10_files,
    cifar100_files,
    digits,
    dtd_files,
    flowers102_files,
    food101_files,
    idx_files,
    photo,
    sun397_files,
    svhn_files,
    tiny_imagenet_files,
    write,
)

# -- the manifest ---------------------------------------------------------------------------------------------------

COUNTS = {  # tasks, those before 2020, those since, different data sets
    "full": (106, 92, 14, 97), "short": (29, 25, 4, 28), "tiny": (7, 6, 1, 6), "debug": (2, 2, 0, 2),
    "imagenet-only": (1, 1, 0, 1), "major-domain-only": (70, 56, 14, 64), "large-dataset-only": (67, 53, 14, 64),
    "lite": (24, 22, 2, 21),
    "remove-first-30": (76, 62, 14, 75), "remove-last-30": (76, 62, 14, 70), "no-imagenet": (105, 91, 14, 97),
}  # fmt: skip


@pytest.mark.parametrize("name", COUNTS)
def test_variants_have_as_many_tasks_as_published(name):
    found = variant(name)
    early = variant(name, held_out=False)
    assert (len(found), len(early), len(found) - len(early), len({t.name for t in found})) == COUNTS[name]
    assert all(task.year < 2020 for task in early)
    assert [task.year for task in found] == sorted(task.year for task in found)


def test_the_full_stream():
    full = tasks()
    assert [t.name for t in full[:6]] == ["magellan", "aberdeen", "landsat", "brodatz", "olivetti", "coil20"]
    assert [t.name for t in full[-3:]] == ["pcam", "ddsm", "synthetic-covid"]
    assert {(t.name, t.year, t.repeats) for t in full if t.repeats} == {
        ("olivetti", 2010, 1998), ("brodatz", 2011, 1998), ("mnist", 2015, 2004), ("caltech101", 2016, 2005),
        ("scenes15", 2019, 2008), ("coil20", 2019, 2000), ("coil100", 2019, 2001), ("imagenet", 2021, 2011),
        ("flowers102", 2021, 2011),
    }  # fmt: skip
    many = {t.name for t in full if t.kind == "multi-label"}
    assert many == {"pascal2007", "iaprtc12", "pascal2012", "voc-actions", "celeba", "sun-attributes", "awa2", "biwi",
                    "nih-chest"}  # fmt: skip
    binned = {t.name: (t.classes, t.bins) for t in full if t.bins}
    assert binned == {"tid2008": (5, 5), "tid2013": (5, 5), "trancos": (10, 10), "mall": (10, 10),
                      "shanghaitech": (10, 10), "biwi": (15, 5)}  # fmt: skip
    assert {t.name for t in full if t.kind == "quantised"} == set(binned) - {"biwi"}
    known = {"mnist": 10, "caltech101": 102, "aircraft-family": 70, "emnist-balanced": 47, "celeba": 40, "vistex": None}
    assert {name: dataset(name).classes for name in known} == known


def test_major_domains_are_cut_by_domain_before_2019_alone():
    minor = {"satellite", "face", "texture", "shape", "ocr", "quality", "medical"}
    assert all(t.major == (t.year >= 2019 or t.domain not in minor or t.name == "svhn") for t in tasks())
    assert all(t.large for t in tasks() if t.year >= 2019)


def test_every_line_leads_somewhere():
    from torchvision import datasets

    for task in tasks():
        assert task.split in RULES and task.get and task.title
        source, _, name = task.source.partition(".")
        assert source in ("torchvision", "archive", "folder", "unread")
        assert not name or name in datasets.__all__
        assert (task.source == "unread") == (layouts.layout(task) is None)
        found = layouts.layout(task)
        assert found is None or not found.sizes or set(found.sizes) == set(RULES[task.split].parts)
        assert task.kind != "multi-label" or task.source != "folder"  # a folder tells one class
        if task.status == "maintained":
            assert found.calls or found.archives, task.name
    assert set(layouts.LAYOUTS) == {t.name for t in tasks() if t.source.startswith(("torchvision", "archive"))}
    assert all(task.status == "maintained" for task in variant("lite"))


def test_short_and_its_kin_have_orders_of_their_own():
    assert " ".join(t.name for t in variant("short")) == (
        "coil100 mnist pascal2005 caltech-cars uiuc-cars pascal2006 caltech101 graz02 scenes15 pascal2007 lfw sketch "
        "brodatz imagenet pascal2012 caltech256 cifar100 cifar10 usps mnist mnist-m office-caltech pacs isic2017 "
        "fashion-mnist stanford-dogs cub200 stanford-cars aircraft-family"
    )
    assert [(t.name, t.year, t.repeats) for t in variant("tiny")][4] == ("mnist", 2018, 2004)
    assert [t.name for t in variant("debug")] == ["pascal2007", "coil20"]
    full = {(task.name, task.year) for task in tasks()}
    assert {(task.name, task.year) for task in variant("lite")} <= full


def test_ablations():
    full, late = variant("full"), variant("full")[92:]
    assert [t.name for t in variant("remove-first-30")] == [t.name for t in full[30:]]
    kept = variant("remove-last-30")
    assert [t.name for t in kept[:50]] == [t.name for t in full[:50]] and kept[50:52] == full[
        52:54
    ]  # of 2016 the first
    assert [t for t in kept if t.year in (2017, 2018, 2019)] == [] and kept[62].name == "shanghaitech"
    without = variant("no-imagenet")
    assert [(t.year, t.repeats) for t in without if t.name == "imagenet"] == [(2021, None)]
    some = variant("random-dataset", n=20)
    assert len(some) == 20 and [t.name for t in some[6:]] == [t.name for t in late]
    assert some == variant("random-dataset", n=20) != variant("random-dataset", n=20, seed=1)
    assert {t.name for t in variant("random-dataset", n=106)} == {t.name for t in full}
    for wrong in (14, 107):
        with pytest.raises(UsageError, match="from 15 to 106"):
            variant("random-dataset", n=wrong)
    with pytest.raises(UsageError, match="needs it"):
        variant("random-dataset")
    with pytest.raises(UsageError, match="Did you mean 'short'"):
        variant("shorts")
    assert len(NAMES) == len(COUNTS) + 1


def test_a_broken_manifest_names_the_line():
    lines = FILE.read_text().splitlines()
    with pytest.raises(InvalidError, match="tasks.csv, line 3: .*'single'"):
        read("\n".join([lines[0], lines[1], lines[2].replace("single-label", "single")]))
    with pytest.raises(InvalidError, match="line 3: mnist is not of 2004"):
        read("\n".join([lines[0], lines[1], next(line for line in lines if line.startswith("2015,mnist"))]))
    with pytest.raises(InvalidError, match="line 3: 1992 comes after 2021"):
        read("\n".join([lines[0], lines[-1], lines[1]]))
    with pytest.raises(InvalidError, match="line 3: magellan came before"):
        read("\n".join([lines[0], lines[1], lines[1]]))
    assert {len(row) for row in csv.reader(lines)} == {16}


# -- division -------------------------------------------------------------------------------------------------------


def test_slices_are_runs_in_the_order_of_files():
    assert cut(20, 0.7, 0.15).tolist() == [0] * 14 + [1] * 3 + [2] * 3
    assert cut(11, 0.7, 0.15).tolist() == [0] * 7 + [1] + [2] * 3  # rounded down; the rest is dev_test
    found = assign("sliced", {"train": 60_000, "test": 10_000})
    counts = np.bincount(found["train"]).tolist()
    assert counts == [42_000, 9_000, 9_000] and (np.diff(found["train"]) >= 0).all() and (found["test"] == 3).all()
    val = assign("sliced-val", {"train": 11, "val": 3, "test": 2})
    assert val["train"].tolist() == [0] * 8 + [1] * 3 and set(val["val"]) == {2} and set(val["test"]) == {3}
    voc = assign("sliced-voc2012", {"train": 5_717, "val": 5_823})
    assert np.bincount(voc["train"]).tolist() == [4_573, 1_144] and np.bincount(voc["val"])[2:].tolist() == [
        2_911,
        2_912,
    ]
    assert np.bincount(assign("sliced-imagenet", {"train": 1_281_167, "test": 1})["train"]).tolist() == [
        1_153_050, 64_058, 64_059,
    ]  # fmt: skip


def one_by_one(n, fractions):
    """As the published code draws: an index at a time, splits in alphabetical order."""
    draw, names = np.random.RandomState(0), sorted(fractions)
    return [SPLITS.index(names[np.argmax(draw.multinomial(1, [fractions[k] for k in names]))]) for _ in range(n)]


def test_draws_are_those_of_one_generator_index_by_index():
    every = {"train": 0.56, "dev": 0.12, "dev_test": 0.12, "test": 0.2}
    assert drawn(300, **every).tolist() == one_by_one(300, every)
    found = assign("drawn", {"all": 300})["all"]
    assert found.tolist() == one_by_one(300, every) and found.dtype == np.int8
    assert found[:8].tolist() == [0, 0, 2, 1, 0, 2, 0, 3]
    train = assign("drawn-train", {"train": 200, "test": 50})
    assert train["train"].tolist() == one_by_one(200, {"train": 0.7, "dev": 0.15, "dev_test": 0.15})
    assert (train["test"] == 3).all()
    val = assign("drawn-val", {"train": 200, "val": 30, "test": 50})
    assert val["train"].tolist() == one_by_one(200, {"train": 0.8, "dev": 0.2}) and (val["val"] == 2).all()
    held = assign("drawn-domains", {"train": 90, "held": 60})["held"]
    assert held.tolist() == one_by_one(60, {"dev_test": 0.5, "test": 0.5})
    longer = assign("drawn", {"all": 400})["all"]
    assert longer[:300].tolist() == found.tolist()  # samples that come later move none


def test_rules_of_single_data_sets():
    n = 800  # Mall: positions of one permutation, cut at 560 and 680
    order = np.random.default_rng(1).permutation(n)
    mall = assign("shuffled-train", {"train": n, "test": 1200})["train"]
    assert set(mall[order[:560]]) == {0} and set(mall[order[560:680]]) == {1} and set(mall[order[680:]]) == {2}
    isic = assign("shuffled-val", {"train": 2_000, "val": 150, "test": 600})["train"]
    assert np.bincount(isic).tolist() == [1_600, 400]
    people = np.repeat([0, 1, 2], [5, 7, 6])
    assert assign("by-person", {"all": 18}, {"all": people})["all"].tolist() == [
        0, 1, 2, 3, 3, 0, 0, 0, 1, 2, 3, 3, 0, 0, 1, 2, 3, 3,
    ]  # fmt: skip
    with pytest.raises(UsageError, match="needs 5 pictures of a person; 1 has 4"):
        assign("by-person", {"all": 4}, {"all": np.ones(4, int)})
    views = np.arange(0, 360, 5)
    counts = np.bincount(assign("by-view", {"all": 72}, {"all": views})["all"])
    assert counts.tolist() == [5, 5, 5, 57]
    assert assign("by-pose", {"all": 9}, {"all": np.arange(9)})["all"].tolist() == [0, 2, 0, 0, 0, 1, 3, 0, 3]
    crops = assign("by-crop", {"all": 27})["all"].reshape(3, 9)
    assert (np.sort(crops) == [0, 0, 0, 0, 0, 1, 2, 3, 3]).all() and len({tuple(c) for c in crops}) > 1
    labels = np.repeat([4, 9], [100, 50])
    classes = assign("per-class-more", {"all": 150, "more": 3}, {"all": labels, "more": np.zeros(3, int)})
    assert np.bincount(classes["all"][:100]).tolist() == [55, 12, 12, 21]  # 56 % of 100 rounds down below itself
    assert np.bincount(classes["all"][100:]).tolist() == [27, 6, 6, 11] and set(classes["more"]) == {0}


@pytest.mark.parametrize("rule", RULES)
def test_every_sample_is_in_one_split_and_again_the_same(rule):
    sizes = dict.fromkeys(RULES[rule].parts, 180)
    numbers = np.arange(180) * 5 % 360 if rule == "by-view" else np.arange(180) // 9
    keys = dict.fromkeys(sizes, numbers)
    found = assign(rule, sizes, keys)
    assert {part: len(array) for part, array in found.items()} == sizes
    assert all((array >= 0).all() and (array < 4).all() for array in found.values())
    again = assign(rule, sizes, keys)
    assert all(np.array_equal(found[part], again[part]) for part in sizes)
    taken = {split: rows(found, split) for split in (*SPLITS, "train_and_dev")}
    for part in sizes:
        apart = np.concatenate([taken[split][part] for split in SPLITS])
        assert sorted(apart) == list(range(180))
        both = np.concatenate([taken["train"][part], taken["dev"][part]])
        assert sorted(both) == taken["train_and_dev"][part].tolist()
    assert set(np.concatenate(list(found.values()))) == {0, 1, 2, 3}


def test_wrong_parts_and_rules():
    with pytest.raises(UsageError, match="sliced divides train, test; got all"):
        assign("sliced", {"all": 3})
    with pytest.raises(UsageError, match="by-view needs keys: of each sample, its angle"):
        assign("by-view", {"all": 3})
    with pytest.raises(UsageError, match="unknown rule of division 'slice'"):
        assign("slice", {"all": 3})
    with pytest.raises(UsageError, match="unknown split 'val'"):
        rows({}, "val")


# -- files ----------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def any_size(monkeypatch, tmp_path):
    """Copies may be small, and there is no cache but the test's."""
    for name, found in layouts.LAYOUTS.items():
        monkeypatch.setitem(layouts.LAYOUTS, name, dataclasses.replace(found, sizes={}))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own"))


def small(name):
    """A task whose copy may have few classes."""
    return dataclasses.replace(dataset(name), classes=None)


def sizes(parts):
    return {part: len(found) for part, found in parts.items()}


def voc_files(root, year, lists):
    """Pascal VOC: lists of parts, an XML file for each picture, and the pictures."""
    found = {}
    for part, images in lists.items():
        found[f"ImageSets/Main/{part}.txt"] = "".join(f"{image}\n" for image in images).encode()
        for image, objects in images.items():
            things = "".join(
                f"<object><name>{name}</name><difficult>{i % 2}</difficult><part><name>head</name></part></object>"
                for i, name in enumerate(objects)
            )
            found[f"Annotations/{image}.xml"] = f"<annotation><filename>x</filename>{things}</annotation>".encode()
            found[f"JPEGImages/{image}.jpg"] = photo(int(image))
    return write(root / "VOCdevkit" / f"VOC{year}", found)


VOC = {
    "train": {"000005": ["chair", "chair", "person"], "000007": ["car"], "000009": ["person", "horse"]},
    "val": {"000012": ["car"], "000017": ["horse", "person"]},
    "test": {"000001": ["person", "chair"]},
}


def test_voc_is_multi_label(tmp_path):
    from torchvision.datasets import VOCDetection

    voc_files(tmp_path, 2007, VOC)
    parts = official(small("pascal2007"), tmp_path)
    assert sizes(parts) == {"train": 3, "val": 2, "test": 1}
    assert parts["train"].classes == parts["test"].classes == ("car", "chair", "horse", "person")
    for part, found in parts.items():
        assert found.labels.dtype == np.uint8 and found.labels.shape == (len(found), 4)
        theirs = VOCDetection(tmp_path, "2007", part)
        pairs = {
            (image.tobytes(), frozenset(o["name"] for o in about["annotation"]["object"])) for image, about in theirs
        }
        ours = zip(found.pictures, found.labels, strict=True)
        assert pairs == {
            (p.open().convert("RGB").tobytes(), frozenset(np.array(found.classes)[row == 1])) for p, row in ours
        }
    splits = divided(small("pascal2007"), parts)
    assert sizes(splits) == {"train": 2, "dev": 1, "dev_test": 2, "test": 1, "train_and_dev": 3}
    assert splits["dev_test"].pictures == parts["val"].pictures and splits["test"].labels.tolist() == [[0, 1, 0, 1]]
    with pytest.raises(StorageError, match="Pascal VOC 2007 in .* has 4 classes, not 20; it is incomplete"):
        official(dataset("pascal2007"), tmp_path)


def test_voc_2012_has_no_test_and_halves_its_validation(tmp_path):
    voc_files(tmp_path, 2012, {"train": VOC["train"], "val": VOC["val"]})
    splits = divided(small("pascal2012"), official(small("pascal2012"), tmp_path))
    assert sizes(splits) == {"train": 2, "dev": 1, "dev_test": 1, "test": 1, "train_and_dev": 3}


def test_a_broken_annotation_is_one_line(tmp_path):
    home = voc_files(tmp_path, 2012, {"train": VOC["train"], "val": VOC["val"]})
    for text in ("<annotation>", "<annotation></annotation>"):
        (home / "Annotations" / "000007.xml").write_text(text)
        with pytest.raises(InvalidError, match="000007.xml"):
            official(small("pascal2012"), tmp_path)


def emnist_files(root, n):
    for part, count in (("train", n), ("test", n // 2)):
        x, y = digits(count, 47, seed=count)
        for kind, array in (("images-idx3", x), ("labels-idx1", y.astype(np.uint8))):
            head = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
            write(root / "EMNIST" / "raw", {f"emnist-balanced-{part}-{kind}-ubyte": head + array.tobytes()})


def test_idx_files(tmp_path):
    from torchvision.datasets import EMNIST

    emnist_files(tmp_path, 94)
    task = dataset("emnist-balanced")
    parts = official(task, tmp_path)
    assert sizes(parts) == {"train": 94, "test": 47} and len(parts["train"].classes) == 47
    theirs = EMNIST(tmp_path, "balanced", train=False)
    found = parts["test"]
    assert {(p.open().tobytes(), int(y)) for p, y in zip(found.pictures, found.labels, strict=True)} == {
        (image.tobytes(), label) for image, label in theirs
    }
    splits = divided(task, parts)
    assert sizes(splits) == {"train": 65, "dev": 14, "dev_test": 15, "test": 47, "train_and_dev": 79}
    order = [p.name for split in ("train", "dev", "dev_test") for p in splits[split].pictures]
    assert order == [p.name for p in parts["train"].pictures]


def test_what_is_cut_by_order_does_not_stand_class_by_class(tmp_path):
    """Files of one class stand together; runs of them would give dev_test classes that train has not."""
    dtd_files(tmp_path, 20)
    parts = official(small("dtd"), tmp_path)
    splits = divided(small("dtd"), parts)
    assert sizes(splits) == {"train": 32, "dev": 8, "dev_test": 40, "test": 40, "train_and_dev": 40}
    assert all(set(found.labels) == {0, 1} for found in splits.values())
    names = [p.name for p in official(small("dtd"), tmp_path)["train"].pictures]
    assert names == [p.name for p in parts["train"].pictures] != sorted(names)


@pytest.mark.parametrize(
    "name, folders",
    [
        ("scenes15", [""]),
        ("belgium", ["train", "test"]),
        ("pacs", ["train", "held"]),
        ("flowers17", ["train", "val", "test"]),
        ("domainnet", SPLITS),
    ],
)
def test_folders_of_classes(name, folders, tmp_path):
    with pytest.raises(StorageError, match=f"is not under .*: put its pictures into nevis/{name}/.*CLASS.*: "):
        official(small(name), tmp_path)
    for folder in folders:
        found = {f"{label}/{i}.png": photo(i) for label in ("field", "hill") for i in range(40)}
        write(tmp_path / "nevis" / name / folder, found)
    assert dataset_need(name, tmp_path).there
    parts = official(small(name), tmp_path)
    assert sizes(parts) == dict.fromkeys(RULES[dataset(name).split].parts, 80)
    assert all(
        np.bincount(part.labels).tolist() == [40, 40] and part.classes == ("field", "hill") for part in parts.values()
    )
    splits = divided(small(name), parts)
    assert sum(len(splits[split]) for split in SPLITS) == 80 * len(folders)
    assert all(len(splits[split]) for split in SPLITS)


def test_views_people_and_crops(tmp_path):
    write(tmp_path / "coil-100", {f"obj{k}__{angle}.png": photo(k) for k in (1, 2, 10) for angle in range(0, 360, 5)})
    splits = divided(small("coil100"), official(small("coil100"), tmp_path))
    assert sizes(splits) == {"train": 15, "dev": 15, "dev_test": 15, "test": 171, "train_and_dev": 30}
    assert {p.name.partition("__")[2] for p in splits["train"].pictures} == {f"{a}.png" for a in (350, 355, 0, 5, 10)}
    assert splits["train"].classes == ("001", "002", "010")
    people = {"Ann": 6, "Bob": 4, "Cid": 5}
    write(tmp_path / "nevis/lfw", {f"{who}/{who}_{i:04}.jpg": photo(i) for who, n in people.items() for i in range(n)})
    splits = divided(small("lfw"), official(small("lfw"), tmp_path))
    assert splits["test"].classes == ("Ann", "Cid")  # too few of Bob
    assert [p.name for p in splits["test"].pictures] == [f"Ann/Ann_000{i}.jpg" for i in (4, 5)] + [
        f"Cid/Cid_000{i}.jpg" for i in (3, 4)
    ]
    write(tmp_path / "nevis" / "brodatz", {f"D{i}/D{i}.png": photo(i) for i in (1, 2)})
    parts = official(small("brodatz"), tmp_path)
    whole = photo_of(1)
    w, h = whole.width // 3, whole.height // 3
    assert parts["all"].pictures[5].open().tobytes() == whole.crop((w, 2 * h, 2 * w, 3 * h)).tobytes()
    assert sizes(divided(small("brodatz"), parts)) == {
        "train": 10, "dev": 2, "dev_test": 2, "test": 4, "train_and_dev": 12,
    }  # fmt: skip
    write(tmp_path / "coil-100", {"obj3__left.png": photo(3)})
    with pytest.raises(UsageError, match="obj3__left.png does not tell its angle in degrees"):
        divided(small("coil100"), official(small("coil100"), tmp_path))


def photo_of(seed):
    import io

    from PIL import Image

    return Image.open(io.BytesIO(photo(seed)))


def gtsrb_files(root):
    train = {f"Final_Training/Images/{c:05}/0000{i}.ppm": photo(i, "PPM") for c in (0, 14) for i in range(4)}
    rows = [("00000.ppm", 14), ("00001.ppm", 0)]
    test = {f"Final_Test/Images/{file}": photo(9 + c, "PPM") for file, c in rows}
    write(root / "gtsrb" / "GTSRB", train | test)
    head = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId\n"
    text = head + "".join(f"{file};20;20;1;1;9;9;{c}\n" for file, c in rows)
    write(root / "gtsrb", {"GT-final_test.csv": text.encode()})


def celeba_files(root):
    rows = {"000001.jpg": ("1 -1 1", 0), "000002.jpg": ("-1 -1 -1", 1), "000003.jpg": ("-1  1 -1", 2)}
    table = "3\nBald Smiling Young\n" + "".join(f"{file} {values}\n" for file, (values, _) in rows.items())
    parts = "".join(f"{file} {part}\n" for file, (_, part) in rows.items())
    found = {f"img_align_celeba/{file}": photo(i) for i, file in enumerate(rows)}
    write(root / "celeba", found | {"list_attr_celeba.txt": table.encode(), "list_eval_partition.txt": parts.encode()})


def aircraft_files(root):
    lists = {"trainval": ["0000001 A300", "0000002 Boeing 737", "0000003 A300"], "test": ["0000004 Boeing 737"]}
    found = {f"images/000000{i}.jpg": photo(i) for i in range(1, 5)}
    found |= {f"images_family_{part}.txt": "\n".join(lines).encode() for part, lines in lists.items()}
    write(root / "fgvc-aircraft-2013b" / "data", found)


def stl10_files(root):
    for part, n in (("train", 4), ("test", 3)):
        x, y = digits(n, shape=(3, 96, 96), seed=n)
        write(
            root / "stl10_binary", {f"{part}_X.bin": x.tobytes(), f"{part}_y.bin": (y + 1).astype(np.uint8).tobytes()}
        )


def test_signs_faces_aircraft_and_planes(tmp_path):
    gtsrb_files(tmp_path)
    signs = official(small("gtsrb"), tmp_path)
    assert sizes(signs) == {"train": 8, "test": 2} and signs["test"].labels.tolist() == [1, 0]
    assert signs["test"].classes == ("00000", "00014")
    celeba_files(tmp_path)
    faces = official(small("celeba"), tmp_path)
    assert {part: found.labels.tolist() for part, found in faces.items()} == {
        "train": [[1, 0, 1]], "val": [[0, 0, 0]], "test": [[0, 1, 0]],
    }  # fmt: skip
    aircraft_files(tmp_path)
    planes = official(small("aircraft-family"), tmp_path)
    assert planes["train"].labels.tolist() == [0, 1, 0] and planes["test"].classes == ("A300", "Boeing 737")
    stl10_files(tmp_path)
    pixels = official(small("stl10"), tmp_path)
    x, _ = digits(4, shape=(3, 96, 96), seed=4)
    first = next(p for p in pixels["train"].pictures if p.name.startswith("00/"))
    assert np.array_equal(np.asarray(first.open()), x[0].transpose(2, 1, 0))  # stored column by column


def test_patches_are_read_one_by_one(tmp_path):
    h5py = pytest.importorskip("h5py")
    (tmp_path / "pcam").mkdir()
    for number, part in enumerate(("train", "valid", "test")):
        x, y = digits(6, 2, (8, 8, 3), number)
        for kind, array in (("x", x), ("y", y.astype(np.uint8).reshape(-1, 1, 1, 1))):
            with h5py.File(tmp_path / "pcam" / f"camelyonpatch_level_2_split_{part}_{kind}.h5", "w") as file:
                file[kind] = array
    parts = official(dataset("pcam"), tmp_path)
    assert sizes(parts) == {"train": 6, "val": 6, "test": 6}
    x, y = digits(6, 2, (8, 8, 3), 1)
    for picture, label in zip(parts["val"].pictures, parts["val"].labels, strict=True):
        row = int(picture.name[-6:])
        assert np.array_equal(np.asarray(picture.open()), x[row]) and label == y[row]


def test_what_other_streams_read_is_read_here_too(tmp_path, monkeypatch):
    from torchvision import datasets

    for make, n in ((caltech101_files, 20), (flowers102_files, 10), (food101_files, 10), (sun397_files, 10)):
        make(tmp_path, n)
    cifar10_files(tmp_path, 20)
    cifar100_files(tmp_path, [0] * 100, 200)
    svhn_files(tmp_path / "SVHN", 20)
    monkeypatch.setattr(datasets.utils, "check_integrity", lambda *_: True)
    monkeypatch.setattr(datasets.svhn, "check_integrity", lambda *_: True)
    tiny_imagenet_files(tmp_path)
    idx_files(tmp_path / "MNIST")
    idx_files(tmp_path / "FashionMNIST")
    want = {
        "flowers102": {"train": 20, "val": 20, "test": 20}, "food101": {"train": 20, "test": 20},
        "sun397": {"train": 25, "val": 3, "test": 8}, "cifar10": {"train": 100, "test": 20},
        "cifar100": {"train": 200, "test": 200}, "svhn": {"train": 20, "test": 20},
        "tiny-imagenet": {"train": 24, "test": 12}, "mnist": {"train": 40, "test": 20},
        "fashion-mnist": {"train": 40, "test": 20}, "mnist-rot": {"train": 40, "test": 20},
    }  # fmt: skip
    found = {name: official(small(name), tmp_path) for name in want}
    assert {name: sizes(parts) for name, parts in found.items()} == want
    assert found["cifar10"]["train"].classes[:2] == ("airplane", "automobile")
    monkeypatch.setattr(datasets.Flowers102, "_check_integrity", lambda self: True)
    theirs, ours = datasets.Flowers102(tmp_path, "val"), found["flowers102"]["val"]
    want = {(image.tobytes(), f"{label + 1:03}") for image, label in theirs}
    assert {(p.open().convert("RGB").tobytes(), p.label) for p in ours.pictures} == want and len(want) == 20
    upright, turned = found["mnist"], found["mnist-rot"]
    pixels = {p.name: p.open().tobytes() for part in upright.values() for p in part.pictures}
    assert {p.open().tobytes() for p in turned["test"].pictures} <= set(pixels.values())
    assert all(p.open().tobytes() != pixels[p.name.rpartition("-")[0]] for p in turned["train"].pictures[:5])
    thirty = official(small("caltech101"), tmp_path)
    assert np.bincount(thirty["train"].labels).tolist() == [3, 20, 22, 30] and len(thirty["test"]) == 10
    assert thirty["train"].classes == ("BACKGROUND_Google", "Faces", "Faces_easy", "cougar_body")


# -- what a machine has ---------------------------------------------------------------------------------------------


def test_status_tells_what_is_there(tmp_path):
    needs = status("nevis-short", tmp_path)
    assert len(needs) == 28 and [one.name for one in needs][:3] == ["coil100", "mnist", "pascal2005"]
    assert not any(one.there for one in needs) and all(one.get for one in needs)
    by_name = {one.name: one for one in needs}
    assert by_name["mnist"].download and not by_name["coil100"].download
    assert by_name["stanford-cars"].hub == "mteb/StanfordCars" and not by_name["pacs"].hub  # a copy nobody has seen
    assert by_name["graz02"].lacks == ("nevis/graz02",) and "nevis/graz02/CLASS" in by_name["graz02"].get
    assert present("nevis-short", tmp_path) == ("nevis-short-partial-0of29", ())
    idx_files(tmp_path / "MNIST")
    write(tmp_path / "nevis" / "graz02" / "bikes", {"1.png": photo(1)})
    name, found = present("nevis-short", tmp_path)
    assert name == "nevis-short-partial-3of29" and [t.name for t in found] == ["mnist", "graz02", "mnist"]
    assert partial_name("nevis-short", 29, 29) == "nevis-short"
    assert partial_name("nevis-short", 17, 29) == "nevis-short-partial-17of29"
    assert len(status("nevis-random-dataset", tmp_path, n=20)) <= 20


def test_what_nothing_reads_says_what_to_do(tmp_path):
    with pytest.raises(
        StorageError, match=r"Mall is not under .*: nothing here reads it yet; its pictures are https://"
    ):
        official(dataset("mall"), tmp_path)
    with pytest.raises(StorageError, match="gone"):
        official(dataset("lfw"), tmp_path)
    with pytest.raises(StorageError, match="ImageNet .*register at https://www.image-net.org"):
        official(dataset("imagenet"), tmp_path)
    with pytest.raises(StorageError, match="Mall has no download"):
        layouts.download(dataset("mall"), tmp_path)
    with pytest.raises(UsageError, match="is not read from a copy"):
        official(dataset("pascal2007"), tmp_path, hub="mteb/VOC2007")


def test_a_copy_that_lacks_pictures_is_refused(tmp_path, monkeypatch):
    idx_files(tmp_path / "MNIST")
    whole = dataclasses.replace(layouts.LAYOUTS["mnist"], sizes={"train": 60_000, "test": 10_000})
    monkeypatch.setitem(layouts.LAYOUTS, "mnist", whole)
    with pytest.raises(StorageError, match="MNIST in .* has 40 pictures of the part train, not 60,000"):
        official(dataset("mnist"), tmp_path)
    stl10_files(tmp_path)
    write(tmp_path / "stl10_binary", {"test_X.bin": b"cut short"})
    with pytest.raises(InvalidError, match="STL-10 under .* cannot be read: ValueError .* Instead unpack http"):
        official(dataset("stl10"), tmp_path)
    write(tmp_path / "nevis" / "belgium" / "train", {"a/1.png": photo(1)})
    (tmp_path / "nevis" / "belgium" / "test").mkdir()
    with pytest.raises(StorageError, match="no pictures of the part test"):
        official(small("belgium"), tmp_path)


def test_a_copy_in_a_table(tmp_path):
    import datasets

    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["Audi", "BMW"])})
    for part, n in (("train", 6), ("test", 4)):
        rows = {"image": [{"bytes": photo(i), "path": None} for i in range(n)], "label": [i % 2 for i in range(n)]}
        datasets.Dataset.from_dict(rows, features).to_parquet(tmp_path / "cars" / f"{part}-00000-of-00001.parquet")
    parts = official(small("stanford-cars"), tmp_path, hub=str(tmp_path / "cars"))
    assert sizes(parts) == {"train": 6, "test": 4} and parts["test"].classes == ("Audi", "BMW")
