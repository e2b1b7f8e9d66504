"""Real loaders on small fixtures in the exact layout of the published files, whole and broken."""

from __future__ import annotations

import gzip
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from carryover.base.errors import CarryoverError, InvalidError, StorageError, UsageError
from carryover.streams import check_stream, from_folder, from_hub, from_torchvision, load_stream, split
from carryover.streams.augment import RandomResizedCrop, Resize
from carryover.streams.sources import cifar as cifar_source
from carryover.streams.sources import data_root, idx
from carryover.streams.sources.cifar import LAYOUTS, cifar
from carryover.streams.sources.digits import digits
from carryover.streams.sources.idx import mnist, read_idx
from PIL import Image

MNIST = Path(os.environ.get("CARRYOVER_TEST_DATA") or Path(__file__).parents[2] / "shared/data/mnist-small")


def one_line(error: pytest.ExceptionInfo) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


# -- the data folder ------------------------------------------------------------------------------------------------


def test_the_data_folder_is_the_argument_then_the_variable_then_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("CARRYOVER_DATA", str(tmp_path / "env"))
    assert data_root(tmp_path / "arg") == tmp_path / "arg"
    assert data_root() == tmp_path / "env"
    monkeypatch.delenv("CARRYOVER_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert data_root() == tmp_path / "xdg" / "carryover"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert Path.home() in data_root().parents
    assert data_root("~/x") == Path.home() / "x"


def test_digits_are_split_once_and_for_all():
    found = digits()
    assert (len(found.train_y), len(found.test_y), found.classes) == (1198, 599, 10)
    assert found.train_x.max() == 255 and found.train_x.shape[1:] == (1, 8, 8)
    shares = found.test_y.bincount() / (found.test_y.bincount() + found.train_y.bincount())
    assert ((shares - 1 / 3).abs() < 0.005).all()


# -- IDX ------------------------------------------------------------------------------------------------------------


def idx_bytes(array: np.ndarray) -> bytes:
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def mnist_folder(tmp_path) -> Path:
    """MNIST/raw with 60 + 30 random images, two files gzipped and two not."""
    folder, draw = tmp_path / "MNIST" / "raw", np.random.RandomState(0)
    folder.mkdir(parents=True)
    for part, n in (("train", 60), ("t10k", 30)):
        images = draw.randint(0, 256, (n, 28, 28)).astype(np.uint8)
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(images)))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx_bytes((np.arange(n) % 10).astype(np.uint8)))
    return tmp_path


def test_idx_files_are_read_as_published(mnist_folder):
    found = mnist("MNIST", mnist_folder)
    want = np.random.RandomState(0).randint(0, 256, (60, 28, 28)).astype(np.uint8)
    assert torch.equal(found.train_x, torch.from_numpy(want)[:, None])
    assert found.test_y.tolist() == [i % 10 for i in range(30)] and found.test_y.dtype == torch.int64
    assert check_stream(lambda: load_stream("split-mnist", data=mnist_folder))
    (mnist_folder / "MNIST").rename(mnist_folder / "FashionMNIST")
    assert load_stream("split-fashion-mnist", data=mnist_folder).tasks[0].name == "T-shirt/top, Trouser"


@pytest.mark.parametrize(
    "name, damage, says",
    [
        ("train-images-idx3-ubyte.gz", lambda b: b[:-100], "truncated or corrupt"),
        ("train-images-idx3-ubyte.gz", lambda b: b[:20] + b"xx" + b[22:], "truncated or corrupt"),
        ("train-images-idx3-ubyte.gz", lambda b: b"not gzip", "truncated or corrupt"),
        ("train-images-idx3-ubyte.gz", lambda b: gzip.compress(gzip.decompress(b)[:-1]), "holds 47,039 bytes"),
        ("train-images-idx3-ubyte.gz", lambda b: gzip.compress(gzip.decompress(b) + b"x"), "holds 47,041 bytes"),
        ("t10k-labels-idx1-ubyte", lambda b: b[:-1], r"header \(30,\) needs 30"),
        ("t10k-labels-idx1-ubyte", lambda b: b"", "not an IDX file"),
        ("t10k-labels-idx1-ubyte", lambda b: b[:3] + b"\x03" + b[4:], "not an IDX file"),
        ("t10k-labels-idx1-ubyte", lambda b: b[:4] + b"\xff" * 4 + b[8:], "needs 4,294,967,295"),
        ("t10k-labels-idx1-ubyte", lambda b: b[:-1] + b"\x0a", "label 10, but there are 10 classes"),
        ("t10k-labels-idx1-ubyte", lambda b: idx_bytes(np.zeros(29, np.uint8)), "30 images but .* has 29 labels"),
    ],
)
def test_a_damaged_idx_file_is_named(mnist_folder, name, damage, says):
    path = mnist_folder / "MNIST" / "raw" / name
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InvalidError, match=says) as error:
        mnist("MNIST", mnist_folder)
    assert name in one_line(error)


def test_an_idx_file_does_not_unpack_without_bound(tmp_path, monkeypatch):
    monkeypatch.setattr(idx, "LIMIT", 1000)
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(idx_bytes(np.zeros(100_000, np.uint8))))
    with pytest.raises(InvalidError, match="more than 1,000 bytes"):
        read_idx(path, 1)


def test_a_failed_download_is_one_line(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("no route\nto host")

    monkeypatch.setattr("torchvision.datasets.utils.download_url", refuse)
    monkeypatch.setattr("torchvision.datasets.utils.download_and_extract_archive", refuse)
    with pytest.raises(StorageError, match="MNIST is not available in .*: no route to host"):
        load_stream("split-mnist", data=tmp_path, download=True)
    monkeypatch.setattr("torchvision.datasets.utils.download_and_extract_archive", lambda *_, **__: refuse())
    with pytest.raises(StorageError, match="CIFAR10 is not available in .*: no route to host"):
        load_stream("split-cifar10", data=tmp_path, download=True)


def test_a_download_is_read_like_any_file(mnist_folder, tmp_path, monkeypatch):
    def copy(url, folder, file, md5):
        source = mnist_folder / "MNIST" / "raw" / file
        content = source.read_bytes() if source.exists() else gzip.compress(source.with_suffix("").read_bytes())
        (Path(folder) / file).write_bytes(content)

    monkeypatch.setattr("torchvision.datasets.utils.download_url", copy)
    fetched = load_stream("split-mnist", data=tmp_path / "new", download=True)
    assert fetched.fingerprint == load_stream("split-mnist", data=mnist_folder).fingerprint


@pytest.mark.skipif(not MNIST.is_dir(), reason="no MNIST at hand; point CARRYOVER_TEST_DATA to a folder")
def test_real_mnist_files_from_a_folder_that_cannot_be_written():
    found = mnist("MNIST", MNIST)
    assert found.train_x.shape[1:] == (1, 28, 28) and found.classes == 10
    ink = found.train_x.float().mean().item()
    assert 30 < ink < 37  # of 255: real digits, not noise and not inverted


# -- CIFAR ----------------------------------------------------------------------------------------------------------


def cifar_fixture(root: Path, name: str, n: int = 200) -> dict[str, np.ndarray]:
    """The binary files, n records each: label bytes, then the red, green and blue planes."""
    layout, draw, written = LAYOUTS[name], np.random.RandomState(0), {}
    (root / layout.folder).mkdir()
    for file in (*layout.train, layout.test):
        pixels = draw.randint(0, 256, (n, 3, 32, 32)).astype(np.uint8)
        labels = np.arange(n) % len(layout.classes)
        coarse = np.full((n, layout.label_bytes - 1), 19)
        rows = np.concatenate([coarse, labels[:, None], pixels.reshape(n, -1)], axis=1).astype(np.uint8)
        (root / layout.folder / file).write_bytes(rows.tobytes())
        written[file] = pixels
    return written


@pytest.mark.parametrize("name, stream", [("CIFAR10", "split-cifar10"), ("CIFAR100", "split-cifar100")])
def test_cifar_binary_files_are_read_as_published(tmp_path, name, stream):
    written = cifar_fixture(tmp_path, name)
    found, layout = cifar(name, tmp_path), LAYOUTS[name]
    assert torch.equal(found.train_x, torch.from_numpy(np.concatenate([written[file] for file in layout.train])))
    assert torch.equal(found.test_x, torch.from_numpy(written[layout.test]))
    assert found.test_y.tolist() == [i % found.classes for i in range(200)]
    assert check_stream(lambda: load_stream(stream, data=tmp_path))
    if name == "CIFAR100":
        tasks = load_stream(stream, data=tmp_path, n_tasks=20).tasks
        assert len(tasks) == 20 and tasks[0].name == "apple, aquarium_fish, baby, bear, beaver"


@pytest.mark.parametrize("name, stream", [("CIFAR10", "split-cifar10"), ("CIFAR100", "split-cifar100")])
def test_cifar_at_another_size_is_resized_on_the_way_to_the_network(tmp_path, name, stream):
    cifar_fixture(tmp_path, name)
    plain, large = (load_stream(stream, data=tmp_path, **more) for more in ({}, {"image_size": 56}))
    assert plain.info.shape == (3, 32, 32) and plain.tasks[0].train.transform is None
    assert large.info.shape == (3, 56, 56) and large.fingerprint != plain.fingerprint
    train = large.tasks[0].train
    assert torch.equal(train.samples, plain.tasks[0].train.samples)  # stored as it was
    assert (train.transform, train.augment) == (Resize(56), RandomResizedCrop(56, (0.05, 1.0)))
    x = train.prepare(train.samples[:2], torch.Generator().manual_seed(0))
    assert x.shape == (2, 3, 56, 56) and not torch.equal(x, train.prepare(train.samples[:2]))
    with pytest.raises(UsageError, match="image_size must be an integer of at least 1; got 0"):
        load_stream(stream, data=tmp_path, image_size=0)


def test_damaged_cifar_files_are_named(tmp_path):
    cifar_fixture(tmp_path, "CIFAR10", 20)
    path = tmp_path / "cifar-10-batches-bin" / "data_batch_3.bin"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(InvalidError, match="data_batch_3.bin has 61,459 bytes, not a multiple of 3,073"):
        cifar("CIFAR10", tmp_path)
    path.write_bytes(b"\x0a" + whole[1:])
    with pytest.raises(InvalidError, match="label 10, but there are 10 classes"):
        cifar("CIFAR10", tmp_path)
    path.unlink()
    with pytest.raises(StorageError, match="unpack cifar-10-binary.tar.gz there"):
        cifar("CIFAR10", tmp_path)


class Bomb:
    def __reduce__(self):
        return os.mkdir, (Bomb.path,)


def test_a_pickle_of_unknown_bytes_is_never_opened(tmp_path):
    Bomb.path = str(tmp_path / "exploded")
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for file in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"]:
        (folder / file).write_bytes(pickle.dumps(Bomb()))
    for load in (lambda: cifar("CIFAR10", tmp_path), lambda: from_torchvision("CIFAR10", data=tmp_path, size=8)):
        with pytest.raises(CarryoverError) as error:
            load()
        assert not (tmp_path / "exploded").exists()
        assert one_line(error)
    with pytest.raises(InvalidError, match="not the published one .* use the binary version: unpack cifar-10-binary"):
        cifar("CIFAR10", tmp_path)


def test_published_pickles_are_read_by_torchvision(tmp_path, monkeypatch):
    """The bytes are checked against the list that torchvision carries; here that list describes a fixture."""
    from torchvision import datasets

    folder, draw = tmp_path / "cifar-100-python", np.random.RandomState(0)
    folder.mkdir()
    pixels = draw.randint(0, 256, (100, 3072)).astype(np.uint8)
    for file in ("train", "test"):
        content = {"data": pixels ^ (file == "test"), "fine_labels": list(range(100))}
        (folder / file).write_bytes(pickle.dumps(content))
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": list(LAYOUTS["CIFAR100"].classes)}))
    md5 = {
        file: cifar_source.hashlib.md5((folder / file).read_bytes()).hexdigest() for file in ("train", "test", "meta")
    }
    monkeypatch.setattr(datasets.CIFAR100, "train_list", [["train", md5["train"]]])
    monkeypatch.setattr(datasets.CIFAR100, "test_list", [["test", md5["test"]]])
    monkeypatch.setattr(datasets.CIFAR100, "meta", {**datasets.CIFAR100.meta, "md5": md5["meta"]})
    found = cifar("CIFAR100", tmp_path)
    assert torch.equal(found.train_x, torch.from_numpy(pixels).reshape(100, 3, 32, 32))
    assert found.test_y.tolist() == list(range(100))


# -- folders of images ----------------------------------------------------------------------------------------------


def picture(seed: int, size: tuple[int, int] = (12, 12), mode: str = "RGB") -> Image.Image:
    shape = size if mode == "L" else (*size, 3)
    return Image.fromarray(np.random.RandomState(seed).randint(0, 256, shape).astype(np.uint8))


def image_folder(root: Path, classes: str, n: int = 5, **options) -> Path:
    for name in classes:
        (root / name).mkdir(parents=True)
        for i in range(n):
            picture(100 * ord(name) + i, **options).save(root / name / f"{i}.png")
    return root


def test_a_folder_of_classes(tmp_path):
    image_folder(tmp_path, "ba")
    (tmp_path / "a" / "notes.txt").write_text("not an image")
    found = from_folder(tmp_path)
    assert found.class_names == ("a", "b") and (len(found.train_y), len(found.test_y)) == (8, 2)
    want = {np.asarray(picture(i)).tobytes() for i in (*range(9700, 9705), *range(9800, 9805))}
    got = torch.cat([found.train_x, found.test_x]).movedim(1, -1)
    assert {x.numpy().tobytes() for x in got} == want
    assert check_stream(lambda: split(from_folder(tmp_path), 2, name="mine"))


def test_a_folder_with_train_and_test(tmp_path):
    image_folder(tmp_path / "train", "abc")
    image_folder(tmp_path / "test", "ac", n=2, mode="L")
    found = from_folder(tmp_path, size=6)
    assert found.class_names == ("a", "b", "c") and found.test_y.tolist() == [0, 0, 2, 2]
    assert found.train_x.shape == (15, 3, 6, 6)
    with pytest.raises(UsageError, match=r"test has the class 'd', which .*train has not"):
        image_folder(tmp_path / "test", "d")
        from_folder(tmp_path)


def test_grey_images_have_one_channel_and_sizes_are_brought_together(tmp_path):
    image_folder(tmp_path, "a", mode="L")
    image_folder(tmp_path, "b", mode="L", size=(12, 20))
    with pytest.raises(UsageError, match="12x20 pixels but the first image is 12x12; give size="):
        from_folder(tmp_path)
    found = from_folder(tmp_path, size=12)
    assert found.train_x.shape[1:] == (1, 12, 12)
    middle = np.asarray(picture(9800, (12, 20), "L"))[:, 4:16].tobytes()
    assert middle in {x.numpy().tobytes() for x in torch.cat([found.train_x, found.test_x])}


def test_broken_folders_say_what_is_wrong(tmp_path):
    with pytest.raises(StorageError, match="not a folder"):
        from_folder(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="holds no folder with images"):
        from_folder(tmp_path)
    image_folder(tmp_path, "ab")
    (tmp_path / "a" / "3.png").write_bytes((tmp_path / "a" / "2.png").read_bytes()[:200])
    with pytest.raises(InvalidError, match="3.png cannot be decoded") as error:
        from_folder(tmp_path)
    one_line(error)


# -- Hugging Face datasets ------------------------------------------------------------------------------------------


@pytest.fixture
def hub(tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    return datasets


def encoded(seed: int, tmp_path: Path) -> bytes:
    picture(seed).save(tmp_path / "one.png")
    return (tmp_path / "one.png").read_bytes()


def test_a_dataset_dict_with_image_features(hub, tmp_path):
    features = hub.Features({"img": hub.Image(), "fine": hub.ClassLabel(names=["cat", "dog"])})

    def part(seeds):
        rows = {"img": [{"bytes": encoded(s, tmp_path), "path": None} for s in seeds], "fine": [s % 2 for s in seeds]}
        return hub.Dataset.from_dict(rows, features=features)

    found = from_hub(hub.DatasetDict({"train": part(range(8)), "validation": part(range(8, 12))}))
    assert found.class_names == ("cat", "dog") and found.test_y.tolist() == [0, 1, 0, 1]
    assert np.array_equal(found.train_x[3].movedim(0, -1), np.asarray(picture(3)))
    alone = from_hub(part(range(10)), test_fraction=0.4, size=6)
    assert alone.train_x.shape == (6, 3, 6, 6) and len(alone.test_y) == 4


def test_a_parquet_file_with_image_structs(hub, tmp_path):
    import pyarrow as pa
    from pyarrow import parquet

    rows = {"image": [{"bytes": encoded(s, tmp_path), "path": f"{s}.png"} for s in range(10)], "label": [*"ababababab"]}
    parquet.write_table(pa.table(rows), tmp_path / "data.parquet")
    found = from_hub(tmp_path / "data.parquet")
    assert found.class_names == ("a", "b") and found.train_x.shape == (8, 3, 12, 12)
    with pytest.raises(UsageError, match="unknown column 'labels'. Did you mean 'label'"):
        from_hub(tmp_path / "data.parquet", label="labels")
    with pytest.raises(UsageError, match="unknown split 'test'"):
        from_hub(tmp_path / "data.parquet", test="test")
    with pytest.raises(StorageError, match="does not exist"):
        from_hub(tmp_path / "other.parquet")


def test_hub_data_that_cannot_be_used(hub, tmp_path, monkeypatch):
    rows = {"picture": [{"bytes": b"broken", "path": None}] * 4, "y": [0, 1, 0, 1]}
    part = hub.Dataset.from_dict(rows)
    with pytest.raises(UsageError, match="which column is the image.*one of picture, y"):
        from_hub(part)
    with pytest.raises(InvalidError, match="row 0 of split 'train' cannot be decoded") as error:
        from_hub(part, "picture", "y")
    one_line(error)
    with pytest.raises(UsageError, match="not list"):
        from_hub([1, 2])

    def offline(*_):
        raise ConnectionError("offline")

    monkeypatch.setattr(hub, "load_dataset", offline)
    with pytest.raises(StorageError, match="'some/name' is not available in .*: offline"):
        from_hub("some/name")


# -- torchvision ----------------------------------------------------------------------------------------------------


class Plain:
    """The shape of torchvision's in-memory data sets."""

    classes = ["cat", "dog"]

    def __init__(self, n: int, seed: int = 0, transform=None):
        self.data = np.random.RandomState(seed).randint(0, 256, (n, 9, 9, 3)).astype(np.uint8)
        self.targets = [i % 2 for i in range(n)]
        self.transform = transform

    def __len__(self):
        return len(self.data)

    def __getitem__(self, i):
        image = Image.fromarray(self.data[i])
        return self.transform(image) if self.transform else image, self.targets[i]


def test_torchvision_objects_by_array_and_by_item():
    from torchvision import transforms

    fast = from_torchvision(Plain(10), Plain(4, seed=1))
    assert fast.class_names == ("cat", "dog") and fast.train_x.shape == (10, 3, 9, 9)
    pairs = [Plain(10)[i] for i in range(10)], [Plain(4, seed=1)[i] for i in range(4)]
    assert torch.equal(from_torchvision(*pairs).train_x, fast.train_x)
    crop = from_torchvision(Plain(10, transform=transforms.CenterCrop(5)))
    assert crop.train_x.shape[1:] == (3, 5, 5)
    floats = from_torchvision(Plain(10, transform=transforms.ToTensor()), Plain(4, 1, transforms.ToTensor()))
    assert torch.equal(floats.train_x, fast.train_x.float() / 255)
    assert from_torchvision(Plain(10), size=4).train_x.shape[1:] == (3, 4, 4)


def test_torchvision_by_name(tmp_path, mnist_folder):
    assert len(from_torchvision("MNIST", data=mnist_folder).train_y) == 60
    with pytest.raises(UsageError, match="unknown torchvision data set 'MINST'. Did you mean 'MNIST'"):
        from_torchvision("MINST", data=tmp_path)
    with pytest.raises(StorageError, match="KMNIST is not available in"):
        from_torchvision("KMNIST", data=tmp_path)
    with pytest.raises(UsageError, match="no train and test parts by argument"):
        from_torchvision("Caltech101", data=tmp_path)
