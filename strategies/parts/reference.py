"""Images and sentences from outside the stream, on which a contrastive model is held to what it knew."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from ...base.errors import StorageError
from ...streams.core import Data


def reference(source: str, size: int, seed: int, shape: tuple[int, ...]) -> tuple[Data, list[str]]:
    """(Images that a network of inputs `shape` reads, sentences without repetition).

    Args:
        source: "generated", from the generator of the pairs that `clip-micro` was pre-trained on; or a folder that
            holds images at any depth, and captions.txt, a sentence a line.
        size: so many images at most; of a folder's, chosen by the seed.
    """
    if source == "generated":
        from ...streams.sources.captioned import reference as generated

        images, captions = generated(size, seed)
        samples = images if isinstance(images, torch.Tensor) else torch.from_numpy(np.asarray(images))
    else:
        samples, captions = _from_folder(Path(source).expanduser(), size, seed, shape)
    return Data(samples, torch.zeros(len(samples), dtype=torch.int64)), sorted(set(captions))


def _from_folder(folder: Path, size: int, seed: int, shape: tuple[int, ...]) -> tuple[torch.Tensor, list[str]]:
    from ...base.seeds import frozen_random
    from ...streams.sources.images import decode

    sentences = folder / "captions.txt"
    if not sentences.is_file():
        raise StorageError(f"reference={folder} needs images and {sentences}, a sentence a line.")
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
    if not files:
        raise StorageError(f"reference={folder} holds no image (.jpg, .jpeg, .png).")
    chosen = np.sort(frozen_random("reference", seed).permutation(len(files))[:size])
    from PIL import Image

    pixels = decode(shape[-1], ((str(files[i]), lambda i=i: Image.open(files[i])) for i in chosen))[0]
    lines = (line.strip() for line in sentences.read_text(encoding="utf-8").splitlines())
    return pixels, [line for line in lines if line]
