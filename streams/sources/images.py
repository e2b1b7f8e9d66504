"""Decoding many image files into one array of pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...base.errors import CarryoverError, InvalidError, UsageError
from ..affine import resize

Found = Iterable[tuple[str, Callable[[], Any]]]


def decode(size: int | None, *parts: Found) -> list[Tensor]:
    """Pixels [N, C, H, W] uint8 of each part; C is 1 if every image of all parts is grey, else 3. Floats stay floats.

    Args:
        size: cut the largest centred square and resize it to `size` x `size`; None keeps images that are of one size.
        parts: (where, opener) pairs; the opener gives a PIL image, an array [H, W] or [H, W, C], or a tensor
            [C, H, W], and `where` names it in messages.
    """
    first: Tensor | None = None
    decoded: list[list[Tensor]] = []
    for part in parts:
        decoded.append([])
        for where, opener in part:
            array = _opened(where, opener)
            array = array if size is None else _square(array, size)
            first = array if first is None else first
            if array.shape[1:] != first.shape[1:]:
                raise UsageError(
                    f"{where} is {array.shape[1]}x{array.shape[2]} pixels but the first image is "
                    f"{first.shape[1]}x{first.shape[2]}; give size= to bring all to one size."
                )
            decoded[-1].append(array)
    if not all(decoded):
        raise UsageError("there are no images.")
    channels = max(len(array) for part in decoded for array in part)
    return [torch.stack([array.expand(channels, -1, -1) for array in part]) for part in decoded]


def _opened(where: str, opener: Callable[[], Any]) -> Tensor:
    try:
        return _pixels(opener())
    except CarryoverError as error:
        raise type(error)(f"{where}: {error}") from None
    except Exception as error:  # decoders raise whatever they like on a broken file
        raise InvalidError(f"{where} cannot be decoded: {' '.join(str(error).split())}.") from None


def _pixels(image: Any) -> Tensor:
    """[C, H, W] of a PIL image, array or tensor, with one or three channels; floats are what a transform made."""
    if isinstance(image, Tensor):
        array = image
    elif isinstance(image, np.ndarray):
        array = torch.from_numpy(image)
        array = array[None] if array.ndim == 2 else array.movedim(-1, 0)
    else:
        grey = image.mode in ("1", "L")
        array = torch.from_numpy(np.array(image.convert("L" if grey else "RGB")))
        array = array[None] if grey else array.movedim(-1, 0)
    if array.ndim != 3 or len(array) not in (1, 3) or not (array.dtype == torch.uint8 or array.is_floating_point()):
        raise UsageError(
            f"an image must be uint8 or float with 1 or 3 channels, not {list(array.shape)} {array.dtype}."
        )
    return array.contiguous()


def _square(array: Tensor, size: int) -> Tensor:
    h, w = array.shape[1:]
    side = min(h, w)
    top, left = (h - side) // 2, (w - side) // 2
    return resize(array[None, :, top : top + side, left : left + side], size, size)[0]
