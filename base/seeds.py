"""Seeds derived from what they are for, never from how often somebody has drawn before.

A draw of task k depends on (seed, k, purpose) alone. Therefore the first k rows of a transfer matrix depend on the
first k tasks alone, a run can be resumed from integers, and a prefix of it can be checked by itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import torch


def derive(*keys: int | str) -> int:
    """A 63-bit seed from any sequence of integers and strings; distinct sequences give unrelated seeds."""
    text = "\x1f".join(f"{type(key).__name__}:{key}" for key in keys)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def frozen_random(*keys: int | str) -> np.random.RandomState:
    """NumPy's legacy generator, for what must never change: class orders, angles, permutations, splits.

    `RandomState` is the one generator whose streams NumPy promises to keep bit for bit in every later version
    (NEP 19), so that a stream's fingerprint outlives the version it was first computed with.
    """
    import numpy as np

    seed = derive(*keys)
    return np.random.RandomState([seed & 0xFFFFFFFF, seed >> 32])


def torch_generator(*keys: int | str, device: str | torch.device = "cpu") -> torch.Generator:
    """A torch generator for draws that belong to a run: batches, replay, augmentation."""
    import torch

    return torch.Generator(device).manual_seed(derive(*keys))


@contextmanager
def drawing(*keys: int | str) -> Iterator[None]:
    """Inside, torch's own CPU generator, from which constructors of networks draw; outside, it has not moved."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive(*keys))
        yield
