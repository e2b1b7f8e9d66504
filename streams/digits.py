"""Streams of handwritten digits that need no download and train in about a second: for first steps, tests and CI.

They have the shapes of the MNIST streams in small and are no substitute for their numbers.
"""

from __future__ import annotations

from typing import Unpack

from .affine import resize
from .builders import RELATED, Options, PermutedOptions, RotatedOptions, SplitOptions, permuted, rotated, split
from .core import Stream
from .labelled import Labelled
from .named import stream


@stream("split-digits", embedded=True, setting="cil", needs="")
def split_digits(*, n_tasks: int = 5, **options: Unpack[SplitOptions]) -> Stream:
    """Handwritten digits 8x8, 5 tasks of 2 classes; class-incremental.

    scikit-learn's digits (1,797 images; 1,198 to train, 599 to test), about 240 to train and 120 to test per task.
    """
    return split(_digits(), n_tasks, name="split-digits", **options)


@stream("permuted-digits", embedded=True, setting="dil", needs="")
def permuted_digits(*, n_tasks: int = 10, **options: Unpack[PermutedOptions]) -> Stream:
    """Handwritten digits 8x8, 10 tasks with permuted pixels; domain-incremental.

    scikit-learn's digits; 1,198 images to train and 599 to test per task. Permuted MNIST (Lopez-Paz and Ranzato 2017)
    in small.
    """
    return permuted(_digits(), n_tasks, name="permuted-digits", **options)


@stream("rotated-digits", embedded=True, setting="dil", needs="")
def rotated_digits(*, n_tasks: int = 10, **options: Unpack[RotatedOptions]) -> Stream:
    """Handwritten digits 16x16, 10 tasks of growing rotation up to 180°; domain-incremental.

    scikit-learn's digits, enlarged from 8x8 before turning; 1,198 images to train and 599 to test per task. Rotated
    MNIST (Lopez-Paz and Ranzato 2017) in small.
    """
    return rotated(_digits(size=16), n_tasks, name="rotated-digits", **options)


@stream("recurring-digits", embedded=True, setting="til", needs="")
def recurring_digits(*, n_tasks: int = 6, distinct: int = 2, **options: Unpack[Options]) -> Stream:
    """Handwritten digits 8x8, 6 tasks of 100 new images under two permutations in turn; task-incremental, one head.

    scikit-learn's digits; 100 images to train and all 599 to test per task. recurring-mnist in small.
    """
    made = RELATED | {"train_per_task": 100} | options
    return permuted(_digits(), n_tasks, name="recurring-digits", distinct=distinct, **made)


@stream("slowly-rotated-digits", embedded=True, setting="til", needs="")
def slowly_rotated_digits(*, n_tasks: int = 10, step: float = 15.0, **options: Unpack[Options]) -> Stream:
    """Handwritten digits 16x16, 10 tasks of 100 new images, each turned by 15° more; task-incremental, one head.

    scikit-learn's digits, enlarged from 8x8 before turning; 100 images to train and all 599 to test per task, turned by
    `step` degrees more from task to task. slowly-rotated-mnist in small.
    """
    angles = [step * t for t in range(n_tasks)]
    made = RELATED | {"train_per_task": 100} | options
    return rotated(_digits(size=16), n_tasks, name="slowly-rotated-digits", angles=angles, **made)


def _digits(size: int | None = None) -> Labelled:
    from .sources.digits import digits

    found = digits()
    if size is None:
        return found
    large = (resize(x, size, size) for x in (found.train_x, found.test_x))
    return Labelled(next(large), found.train_y, next(large), found.test_y, found.class_names)
