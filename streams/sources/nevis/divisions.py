"""Which samples are for training, development and the test: NEVIS'22's rules as functions of sizes, drawn once.

Every sample of the official parts is assigned to train (what a learner fits), dev (what it tunes on), dev_test (what is
reported while methods are developed) or test (what is reported once, at the end); train_and_dev is the first two.

Draws are those of the published code, bit for bit, for samples in its order; its order is that of its archives, and
ours that of names. It draws when a sample is first met, which is in order, so that one array holds all draws. Classes
are not stratified, and sizes are near the fractions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from ....base.errors import UsageError, unknown

SPLITS = ("train", "dev", "dev_test", "test")
TRAIN, DEV, DEV_TEST, TEST = range(4)
LEAST = 5  # pictures of a person, else the person is left out
PARTS_OF = {"train_and_dev": (TRAIN, DEV)} | {name: (number,) for number, name in enumerate(SPLITS)}

Assigned = dict[str, np.ndarray]
Sizes = Mapping[str, int]
Keys = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Rule:
    """How official parts become splits.

    Attributes:
        parts: the official parts that it divides, by name; "all" of what comes undivided.
        assign: gives an array of split numbers for each part, from the parts' sizes and the samples' keys.
        keys: what a sample's key is, where the rule goes by it; "" where sizes are enough.
        ordered: whether it cuts by the order of the samples, so that their order must not be that of their classes.
    """

    parts: tuple[str, ...]
    assign: Callable[[Sizes, Keys], Assigned]
    keys: str = ""
    ordered: bool = False


def assign(rule: str, sizes: Sizes, keys: Keys | None = None) -> Assigned:
    """[N] int8 for each official part: positions in `SPLITS`.

    Args:
        sizes: number of samples by part.
        keys: [N] integers by part, for rules that go by them; see `RULES`.

    Raises:
        UsageError: an unknown rule, other parts than it divides, or keys that are missing.
    """
    if rule not in RULES:
        raise unknown("rule of division", rule, RULES)
    told = RULES[rule]
    if set(sizes) != set(told.parts):
        raise UsageError(f"{rule} divides {', '.join(told.parts)}; got {', '.join(sizes) or 'nothing'}.")
    if told.keys and (keys is None or any(len(keys[part]) != sizes[part] for part in told.parts)):
        raise UsageError(f"{rule} needs keys: of each sample, {told.keys}.")
    return {part: array.astype(np.int8) for part, array in told.assign(sizes, keys or {}).items()}


def rows(assigned: Assigned, split: str) -> Assigned:
    """Ascending rows of each part that are of a split, or of train_and_dev."""
    if split not in PARTS_OF:
        raise unknown("split", split, PARTS_OF)
    return {part: np.flatnonzero(np.isin(array, PARTS_OF[split])) for part, array in assigned.items()}


def drawn(n: int, **fractions: float) -> np.ndarray:
    """One multinomial draw for each sample, of `RandomState(0)`; splits compete in alphabetical order."""
    names = sorted(fractions)
    draws = np.random.RandomState(0).multinomial(1, [fractions[name] for name in names], size=n)
    return np.array([SPLITS.index(name) for name in names])[draws.argmax(1)]


def cut(n: int, first: float, second: float, splits: tuple[int, int, int] = (TRAIN, DEV, DEV_TEST)) -> np.ndarray:
    """Two fractions of the samples in order, rounded down, and the rest."""
    counts = int(n * first), int(n * second)
    return np.repeat(splits, (*counts, n - sum(counts)))


def shuffled(n: int, bounds: tuple[int, ...]) -> np.ndarray:
    """The samples in an order drawn by `default_rng(1)`, cut at the bounds into train, dev and dev_test."""
    array = np.empty(n, int)
    array[np.random.default_rng(1).permutation(n)] = np.searchsorted(bounds, np.arange(n), side="right")
    return array


def per_class(labels: np.ndarray) -> np.ndarray:
    """Of each class 56 %, 12 % and 12 % rounded down, and the rest; classes draw from `default_rng(1)` in turn."""
    draw, array = np.random.default_rng(1), np.empty(len(labels), int)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        counts = (len(members) * np.array([0.8 * (1 - 0.15 - 0.15), 0.8 * 0.15, 0.8 * 0.15])).astype(int)
        array[members[draw.permutation(len(members))]] = np.repeat(range(4), (*counts, len(members) - counts.sum()))
    return array


def per_person(labels: np.ndarray) -> np.ndarray:
    """Of each person the last two pictures are the test, and the two before them dev and dev_test."""
    array = np.empty(len(labels), int)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if len(members) < LEAST:
            raise UsageError(f"by-person needs {LEAST} pictures of a person; {label} has {len(members)}.")
        array[members] = [TRAIN] * (len(members) - 4) + [DEV, DEV_TEST, TEST, TEST]
    return array


def per_crop(n: int) -> np.ndarray:
    """Of the nine crops of each picture five, one, one and two, drawn by `default_rng(0)` picture by picture."""
    if n % 9:
        raise UsageError(f"by-crop divides nine crops of each picture, one after the other; {n:,} are no multiple.")
    draw, array = np.random.default_rng(0), np.empty((n // 9, 9), int)
    for crops in array:
        crops[draw.permutation(9)] = [TRAIN] * 5 + [DEV, DEV_TEST, TEST, TEST]
    return array.ravel()


def by_key(**numbers: tuple[int, ...]) -> Callable[[Sizes, Keys], Assigned]:
    """Samples whose key is among a split's numbers; all others are the test."""
    table = {number: SPLITS.index(split) for split, group in numbers.items() for number in group}
    return lambda sizes, keys: {"all": np.array([table.get(int(key), TEST) for key in keys["all"]], int)}


def _drawn_train(n: int) -> np.ndarray:
    return drawn(n, train=0.7, dev=0.15, dev_test=0.15)


def _drawn_dev(n: int) -> np.ndarray:
    return drawn(n, train=0.8, dev=0.2)


def _rule(*parts: str, ordered: bool = False, **assign: Callable[[int], np.ndarray]) -> Rule:
    """A rule that assigns each part by its size alone: by the function given for it, or as a whole."""
    whole = {"val": DEV_TEST, "more": TRAIN} | {name: number for number, name in enumerate(SPLITS)}
    each = {part: assign.get(part) or (lambda n, part=part: np.full(n, whole[part])) for part in parts}
    return Rule(parts, lambda sizes, keys: {part: each[part](sizes[part]) for part in parts}, ordered=ordered)


RULES: Mapping[str, Rule] = {
    # Handlers of the published code: random, of what comes undivided, with a test, or with a validation part, too.
    "drawn": _rule("all", all=lambda n: drawn(n, train=0.56, dev=0.12, dev_test=0.12, test=0.2)),
    "drawn-train": _rule("train", "test", train=_drawn_train),
    "drawn-val": _rule("train", "val", "test", train=_drawn_dev),
    "drawn-domains": _rule("train", "held", train=_drawn_dev, held=lambda n: drawn(n, dev_test=0.5, test=0.5)),
    # Data sets of TensorFlow Datasets: runs of its records.
    "sliced": _rule("train", "test", ordered=True, train=lambda n: cut(n, 0.7, 0.15)),
    "sliced-val": _rule("train", "val", "test", ordered=True, train=lambda n: cut(n, 0.8, 0, (TRAIN, DEV, DEV))),
    "sliced-imagenet": _rule("train", "test", ordered=True, train=lambda n: cut(n, 0.9, 0.05)),
    "sliced-voc2012": _rule(
        "train", "val", ordered=True,
        train=lambda n: cut(n, 0.8, 0, (TRAIN, DEV, DEV)), val=lambda n: cut(n, 0.5, 0, (DEV_TEST, TEST, TEST)),
    ),
    # Rules of one or two data sets.
    "shuffled-train": _rule(
        "train", "test", train=lambda n: shuffled(n, (int((1 - 0.15 - 0.15) * n), int((1 - 0.15) * n)))
    ),
    "shuffled-val": _rule("train", "val", "test", train=lambda n: shuffled(n, (int(n * 0.8),))),
    "per-class": Rule(("all",), lambda sizes, keys: {"all": per_class(keys["all"])}, "its class"),
    "per-class-more": Rule(
        ("all", "more"), lambda sizes, keys: {"all": per_class(keys["all"]), "more": np.full(sizes["more"], TRAIN)},
        "its class",
    ),
    "by-person": Rule(("all",), lambda sizes, keys: {"all": per_person(keys["all"])}, "its class"),
    "by-crop": _rule("all", all=per_crop),
    "by-view": Rule(
        ("all",),
        by_key(train=(350, 355, 0, 5, 10), dev=(80, 85, 90, 95, 100), dev_test=(250, 255, 260, 265, 270)),
        "its angle in degrees",
    ),
    "by-pose": Rule(("all",), by_key(train=(0, 2, 3, 4, 7), dev=(5,), dev_test=(1,)), "its pose"),
    "by-subject": Rule(
        ("all",), by_key(train=(5, 6, *range(11, 25)), dev=(2, 7), dev_test=(3, 9)), "its subject"
    ),
    "by-instance": Rule(("all",), by_key(train=(7, 8, 9), dev=(4,), dev_test=(6,)), "its instance"),
    "given": _rule(*SPLITS),
}  # fmt: skip
