"""Small data sets in the layouts of the real ones."""

from __future__ import annotations

import io
import json
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

SIZES = {"n01443537": 9, "n01484850": 12, "n01494475": 5, "n01498041": 23, "n01514859": 6, "n01518878": 10}


def photo(seed: int, kind: str = "PNG") -> bytes:
    """A photo of its own size, some upright and some wide."""
    draw = np.random.RandomState(seed)
    height, width = draw.randint(12, 24, 2)
    file = io.BytesIO()
    Image.fromarray(draw.randint(0, 256, (height, width, 3)).astype(np.uint8)).save(file, kind)
    return file.getvalue()


def contents(sizes: dict[str, int] | None = None) -> dict[str, bytes]:
    """Name to bytes, as ImageNet-R names its files. PNG inside, lest a pinned fingerprint depend on a decoder."""
    found = {}
    for number, (label, size) in enumerate((sizes or SIZES).items()):
        for i in range(size):
            found[f"{label}/{('art', 'toy')[i % 2]}_{i // 2}.jpg"] = photo(1000 * number + i)
    return found


def write(root: Path, files: dict[str, bytes]) -> Path:
    """The files under a folder, made in the order given."""
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def digits(
    n: int, classes: int = 10, shape: tuple[int, ...] = (28, 28), seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Noise [n, *shape] uint8, and labels that go round."""
    return np.random.RandomState(seed).randint(0, 256, (n, *shape)).astype(np.uint8), np.arange(n) % classes


def idx_files(folder: Path, n: int = 40) -> Path:
    """The four IDX files of MNIST or a relative, n images to train and n/2 to test."""
    found = {}
    for part, count in (("train", n), ("t10k", n // 2)):
        x, y = digits(count, seed=count)
        for kind, array in (("images-idx3", x), ("labels-idx1", y.astype(np.uint8))):
            head = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
            found[f"{part}-{kind}-ubyte"] = head + array.tobytes()
    return write(folder / "raw", found)


def cifar10_files(root: Path, n: int = 20) -> Path:
    """The binary version of CIFAR-10: label byte, then the planes; n records a file."""
    found = {}
    for number, file in enumerate([*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]):
        x, y = digits(n, shape=(3072,), seed=number)
        found[file] = np.concatenate([y[:, None], x], axis=1).astype(np.uint8).tobytes()
    return write(root / "cifar-10-batches-bin", found)


def cifar100_files(root: Path, coarse: list[int], n: int = 200) -> Path:
    """The binary version of CIFAR-100: coarse label byte, fine label byte, then the planes."""
    found = {}
    for number, file in enumerate(("train.bin", "test.bin")):
        x, y = digits(n, 100, (3072,), number)
        found[file] = np.concatenate([np.array(coarse)[y][:, None], y[:, None], x], axis=1).astype(np.uint8).tobytes()
    return write(root / "cifar-100-binary", found)


def svhn_files(folder: Path, n: int = 20) -> dict[str, bytes]:
    """SVHN's two .mat files: X [32, 32, 3, n], and y [n, 1] in which 10 stands for the digit 0."""
    from scipy.io import savemat

    for number, part in enumerate(("train", "test")):
        x, y = digits(n, shape=(32, 32, 3), seed=number)
        file = io.BytesIO()
        savemat(file, {"X": x.transpose(1, 2, 3, 0), "y": np.where(y == 0, 10, y).astype(np.uint8)[:, None]})
        write(folder, {f"{part}_32x32.mat": file.getvalue()})
    return {part: (folder / f"{part}_32x32.mat").read_bytes() for part in ("train", "test")}


def letters(n: int, seed: int = 0) -> dict[str, bytes]:
    """notMNIST's folders A to J, n grey images of 28 x 28 each, by name."""
    found = {}
    for label, letter in enumerate("ABCDEFGHIJ"):
        for i, pixels in enumerate(digits(n, seed=100 * seed + label)[0]):
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, "PNG")
            found[f"{letter}/font{i}.png"] = file.getvalue()
    return found


def mtil_files(root: Path, n: int = 5) -> Path:
    """The eleven data sets of MTIL, two or three classes each, n photos of a class for each part that comes divided."""
    for make in MTIL.values():
        make(root, n)
    return root


def aircraft_files(root: Path, n: int) -> None:
    """FGVC Aircraft: images by number, and a list for each part."""
    lists, files, number = {}, {}, 0
    for part in ("train", "val", "test"):
        rows = []
        for label in ("707-320", "C-130", "Model B200"):
            for _ in range(n):
                number += 1
                files[f"data/images/{number:07}.jpg"] = photo(number)
                rows.append(f"{number:07} {label}\n")
        lists[f"data/images_variant_{part}.txt"] = "".join(rows[::-1]).encode()
    names = {"data/variants.txt": b"707-320\nC-130\nModel B200\n"}
    write(root / "fgvc-aircraft-2013b", files | lists | names)


def caltech101_files(root: Path, n: int) -> None:
    """Caltech101: folders of numbered images, one of them of no class."""
    sizes = {"BACKGROUND_Google": 3, "Faces": n, "Faces_easy": n + 2, "cougar_body": 2 * n}
    found = {f"{label}/image_{i:04}.jpg": photo(_seed(label, i)) for label in sizes for i in range(1, sizes[label] + 1)}
    write(root / "caltech101" / "101_ObjectCategories", found)


def dtd_files(root: Path, n: int) -> None:
    """Describable Textures: folders of images, and lists of ten partitions, of which the first counts."""
    found = {}
    for i, part in enumerate(("train", "val", "test")):
        names = [f"{label}/{label}_{n * i + j:04}.jpg" for label in ("banded", "polka-dotted") for j in range(n)]
        found |= {f"images/{name}": photo(_seed(name)) for name in names}
        found[f"labels/{part}1.txt"] = "".join(f"{name}\n" for name in names).encode()
        found[f"labels/{part}2.txt"] = b"none/none.jpg\n"
    write(root / "dtd" / "dtd", found)


def eurosat_files(root: Path, n: int) -> None:
    """EuroSAT: folders of numbered images, which sort as text."""
    sizes = {"AnnualCrop": 2 * n, "SeaLake": 3 * n}
    found = {f"{label}/{label}_{i}.jpg": photo(_seed(label, i)) for label in sizes for i in range(1, sizes[label] + 1)}
    write(root / "eurosat" / "2750", found)


def flowers102_files(root: Path, n: int) -> None:
    """Flowers102: numbered images, their labels from 1, and the numbers of each part, in MATLAB files."""
    from scipy.io import savemat

    images, home = np.arange(1, 6 * n + 1), root / "flowers-102"
    found = {f"jpg/image_{i:05}.jpg": photo(_seed("flower", int(i))) for i in images}
    arrays = {"imagelabels": {"labels": images[None] % 2 + 60}}
    arrays["setid"] = {part: images[None, i::3] for i, part in enumerate(("trnid", "valid", "tstid"))}
    for name, values in arrays.items():
        file = io.BytesIO()
        savemat(file, {key: value.astype(np.uint16) for key, value in values.items()})
        found[f"{name}.mat"] = file.getvalue()
    write(home, found)


def food101_files(root: Path, n: int) -> None:
    """Food101: folders of images by number, and lists by class."""
    found = {}
    for i, part in enumerate(("train", "test")):
        lists = {label: [f"{label}/{n * i + j}" for j in range(n)] for label in ("apple_pie", "waffles")}
        found |= {f"images/{name}.jpg": photo(_seed(name)) for names in lists.values() for name in names}
        found[f"meta/{part}.json"] = json.dumps(lists).encode()
    write(root / "food-101", found)


def pets_files(root: Path, n: int) -> None:
    """Oxford-IIIT Pets: images by breed and number in one folder; lists with the class, the species and a number."""
    found, breeds = {}, ("Abyssinian", "american_bulldog", "yorkshire_terrier")
    for i, part in enumerate(("trainval", "test")):
        rows = [(f"{breed}_{n * i + j}", label) for label, breed in enumerate(breeds, 1) for j in range(n)]
        found |= {f"images/{name}.jpg": photo(_seed(name)) for name, _ in rows}
        found[f"annotations/{part}.txt"] = "".join(f"{name} {label} 1 1\n" for name, label in rows).encode()
    write(root / "oxford-iiit-pet", found)


def cars_files(root: Path, n: int) -> None:
    """Stanford Cars: numbered images of each part, with structs in MATLAB files."""
    from scipy.io import savemat

    found, names = {}, ["AM General Hummer SUV 2000", "Acura RL Sedan 2012"]
    kinds = [("fname", object), ("class", np.uint8)]
    for part, home in (("train", "devkit/cars_train_annos.mat"), ("test", "cars_test_annos_withlabels.mat")):
        rows = np.array([(f"{i:05}.jpg", i % 2 + 1) for i in range(1, 2 * n + 1)], kinds)
        found |= {f"cars_{part}/{row['fname']}": photo(_seed(part, row["fname"])) for row in rows}
        file = io.BytesIO()
        savemat(file, {"annotations": rows[None]})
        found[home] = file.getvalue()
    file = io.BytesIO()
    savemat(file, {"class_names": np.array(names, object)[None]})
    write(root / "stanford_cars", found | {"devkit/cars_meta.mat": file.getvalue()})


def sun397_files(root: Path, n: int) -> None:
    """SUN397: folders by first letter, some of them with an inside and an outside, and a list of them."""
    classes = ("/a/abbey", "/a/apse/indoor", "/p/playground")
    found = {
        f"{label[1:]}/sun_{i:03}{label[3:].replace('/', '')}.jpg": photo(_seed(label, i))
        for label in classes
        for i in range(n + 2)
    }
    write(root / "SUN397", found | {"ClassName.txt": "".join(f"{label}\n" for label in classes).encode()})


def tiny_imagenet_files(root: Path, n: int = 4, classes: int = 6) -> None:
    """TinyImageNet: folders to train, a list for validation, words of more classes than there are."""
    labels = [f"n{1_443_537 + i:08}" for i in range(classes)]
    found = {f"train/{label}/images/{label}_{i}.JPEG": photo(_seed(label, i)) for label in labels for i in range(n)}
    found |= {f"val/images/val_{i}.JPEG": photo(_seed("val", i)) for i in range(2 * classes)}
    rows = "".join(f"val_{i}.JPEG\t{labels[i % classes]}\t0\t32\t44\t62\n" for i in range(2 * classes))
    words = "".join(f"{label}\tThing {i}, Carassius auratus\n" for i, label in enumerate([*labels, "n99999999"]))
    lists = {"val/val_annotations.txt": rows.encode(), "words.txt": words.encode()}
    write(root / "tiny-imagenet-200", found | lists | {"test/images/test_0.JPEG": photo(1)})


def _seed(*keys: object) -> int:
    return zlib.crc32(repr(keys).encode())


MTIL = {
    "aircraft": aircraft_files, "caltech101": caltech101_files,
    "cifar100": lambda root, n: cifar100_files(root, [0] * 100, 100), "dtd": dtd_files, "eurosat": eurosat_files,
    "flowers102": flowers102_files, "food101": food101_files, "mnist": lambda root, n: idx_files(root / "MNIST"),
    "oxford-pets": pets_files, "stanford-cars": cars_files, "sun397": sun397_files,
}  # fmt: skip
