"""Images and sentences from outside the stream, on which a contrastive model is held to what it knew."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from ...base.errors import StorageError, UsageError
from ...base.seeds import frozen_random
from ...streams.core import Data


def reference(source: str, size: int, seed: int, shape: tuple[int, ...], captions: int = 0) -> tuple[Data, list[str]]:
    """(Images that a network of inputs `shape` reads, sentences without repetition).

    Args:
        source: "generated", from the generator of the pairs that `clip-micro` was pre-trained on; or a folder that
            holds images at any depth, and captions.txt, a sentence a line.
        size: so many images at most; of a folder's, chosen by the seed.
        captions: so many sentences at most, chosen by the seed; 0 means all.
    """
    if source == "generated":
        from ...streams.sources.captioned import reference as generated

        samples, sentences = generated(size, seed)
        if shape != tuple(samples.shape[1:]):
            raise UsageError(
                f"reference=generated is images of {'x'.join(map(str, samples.shape[1:]))}, and the stream's are of "
                f"{'x'.join(map(str, shape))}. Name a folder of images and captions.txt."
            )
    else:
        samples, sentences = _from_folder(Path(source).expanduser(), size, seed, shape)
    sentences = sorted(set(sentences))
    if captions:
        chosen = frozen_random("captions", seed).permutation(len(sentences))[:captions]
        sentences = [sentences[i] for i in np.sort(chosen)]
    return Data(samples, torch.zeros(len(samples), dtype=torch.int64)), sentences


def _from_folder(folder: Path, size: int, seed: int, shape: tuple[int, ...]) -> tuple[torch.Tensor, list[str]]:
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
    lines = [line for line in map(str.strip, sentences.read_text(encoding="utf-8").splitlines()) if line]
    if not lines:
        raise StorageError(f"{sentences} holds no sentence; it needs one a line.")
    return pixels, lines
