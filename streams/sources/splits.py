"""Which pictures of a data set are for the test: by a hash of their names, as they come, or by published lists."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from ...base.errors import InvalidError, StorageError, UsageError
from ...base.files import parse_json, read_bytes
from .pictures import Picture, by_name, in_folders

LIMIT = 2**26  # bytes of a list
LISTS = "a .json of {'train': [...], 'test': [...]}, a train.txt beside a test.txt, or a folder with train/ and test/"


def test_mask(pictures: Sequence[Picture], split: str, home: Path | None, one_in: int = 5) -> np.ndarray:
    """[N] bool, which pictures are for the test.

    Args:
        split: "hash" (see `by_hash`); "given", as the data set comes: its folders train and test, or CUB's two lists;
            otherwise the path of published lists (see `listed`).
        home: folder of the data set, where it is one.
        one_in: of so many pictures a hash gives one to the test.
    """
    if split == "hash":
        return by_hash(pictures, one_in)
    names = None
    if split != "given":
        names = listed(Path(split).expanduser())
    elif home is not None and (home / "train_test_split.txt").is_file():
        names = _of_birds(home)
    if names is not None:
        return _chosen(pictures, *names, where=split if split != "given" else str(home))
    if not any(picture.part for picture in pictures):
        raise UsageError("split=given needs a data set that comes as train/ and test/; this one does not: split=hash.")
    return np.array([picture.part == "test" for picture in pictures])


def by_hash(pictures: Sequence[Picture], one_in: int = 5) -> np.ndarray:
    """Of each class, the fifth, or one in so many (rounded, at least one), whose names have the smallest SHA-256.

    No seed, file system or machine has a say in it, and a picture that comes or goes moves few others.
    """
    by_name(pictures)
    mask = np.zeros(len(pictures), bool)
    members: dict[str, list[int]] = {}
    for row, picture in enumerate(pictures):
        members.setdefault(picture.label, []).append(row)
    for rows in members.values():
        rows.sort(key=lambda row: hashlib.sha256(pictures[row].name.encode()).digest())
        mask[rows[: max(1, (2 * len(rows) + one_in) // (2 * one_in))]] = True
    return mask


def listed(path: Path) -> tuple[list[str], list[str]]:
    """Names of training and test pictures from published lists. An entry is known by its last two parts, "CLASS/FILE".

    Three forms are read: a JSON file {"train": [...], "test": [...]}; a text file with "train" in its name, one path a
    line, beside another with "test" in that place (the simple YAML lists in use, "- path" a line under "data:", are
    read as such); a folder that holds the images themselves in train/CLASS/ and test/CLASS/.
    """
    if path.is_dir():
        pictures = in_folders(path)
        if not any(picture.part for picture in pictures):
            raise UsageError(f"split={path} is a folder without train/CLASS/ and test/CLASS/; give {LISTS}.")
        return tuple([p.name for p in pictures if p.part == part] for part in ("train", "test"))
    if path.suffix == ".json":
        lists = parse_json(read_bytes(path, LIMIT), path)
        if not (isinstance(lists, dict) and all(_texts(lists.get(part)) for part in ("train", "test"))):
            raise InvalidError(f"{path} is not of the form {{'train': [paths], 'test': [paths]}}.")
        return tuple([_name(entry) for entry in lists[part]] for part in ("train", "test"))
    if not path.exists():
        raise StorageError(f"split={path} does not exist; it is 'hash', 'given', or lists: {LISTS}.")
    if "train" not in path.name:
        raise UsageError(f"split={path} is not understood; give {LISTS}.")
    return tuple(_lines(path.with_name(path.name.replace("train", part))) for part in ("train", "test"))


def _chosen(pictures: Sequence[Picture], train: list[str], test: list[str], where: str) -> np.ndarray:
    """The mask that two lists say, if they say it of every picture once."""
    rows = by_name(pictures)
    said = train + test
    strangers = [name for name in said if name not in rows]
    if strangers:
        raise UsageError(f"{where} lists {strangers[0]} (and {len(strangers) - 1:,} more) that the data set has not.")
    (name, count), *_ = Counter(said).most_common(1) or [("", 0)]
    if count > 1:
        raise UsageError(f"{where} lists {name} {count} times; a picture is either for training or for the test.")
    if len(said) < len(rows):
        left = sorted(set(rows) - set(said))
        raise UsageError(f"{where} leaves out {len(left):,} of {len(rows):,} pictures, such as {left[0]}.")
    mask = np.zeros(len(pictures), bool)
    mask[[rows[name] for name in test]] = True
    return mask


def _of_birds(home: Path) -> tuple[list[str], list[str]]:
    """CUB's images.txt ("id name") and train_test_split.txt ("id is_for_training")."""
    files = home / "images.txt", home / "train_test_split.txt"
    columns = [[line.split() for line in _text(file).splitlines() if line.strip()] for file in files]
    for file, lines in zip(files, columns, strict=True):
        if any(len(line) != 2 for line in lines):
            raise InvalidError(f"{file} does not have two words on every line.")
    names, training = (dict(lines) for lines in columns)
    if set(names) != set(training) or not set(training.values()) <= {"0", "1"}:
        raise InvalidError(f"{files[1]} does not say 0 or 1 of every image of {files[0].name}.")
    return tuple([names[i] for i in names if training[i] == said] for said in ("1", "0"))


def _lines(path: Path) -> list[str]:
    """The paths of a text list, or of the "data" of a YAML one."""
    entries = (line.strip().removeprefix("- ").strip("'\" ") for line in _text(path).splitlines())
    return [_name(entry) for entry in entries if "/" in entry and not entry.startswith("#")]


def _text(path: Path) -> str:
    try:
        return read_bytes(path, LIMIT).decode()
    except UnicodeDecodeError as error:
        raise InvalidError(f"{path}: not UTF-8 at byte {error.start}.") from None


def _name(entry: str) -> str:
    return "/".join(PurePosixPath(entry.replace("\\", "/")).parts[-2:])


def _texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(entry, str) for entry in value)
