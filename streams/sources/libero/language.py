"""What a policy is told of a task: its words as numbers, the task's own number, or what a language model makes of it.

"bert" is what LIBERO has by default: `bert-base-cased`, the pooled output of at most 25 tokens (arXiv 2306.03310;
`task_embedding_format` in its code). "clip" are the text features of CLIP ViT-B/32. Models read one instruction at a
time, so that the last digits do not depend on which tasks there are.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ....base.errors import CarryoverError, StorageError
from ....base.files import read_bytes, sha256, write_atomic
from .. import own_cache
from .names import SUITES, language

Language = Literal["words", "one-hot", "bert", "clip"]
LENGTH = 25  # words and tokens at most; LIBERO's longest instruction has 19 words
MODELS = {"bert": ("google-bert/bert-base-cased", 768), "clip": ("openai/clip-vit-base-patch32", 512)}
LIMIT = 2**16  # bytes of a kept embedding
VOCABULARY = tuple(sorted({word for tasks in SUITES.values() for task in tasks for word in language(task).split()}))


def told(instructions: Sequence[str], how: Language) -> tuple[str, Tensor]:
    """Name of the part of a layout, and [T, L] float32: a row for each task.

    Raises:
        StorageError: "bert" or "clip" without its weights, or without the package that reads them.
    """
    if how == "words":
        return "words", words(instructions)
    if how == "one-hot":
        return "task", torch.eye(len(instructions))
    return "language", embedded(instructions, how)


def words(instructions: Sequence[str]) -> Tensor:
    """[T, 25] float32 numbers, from 1, in the vocabulary of all suites; 0 fills up."""
    number = {word: i for i, word in enumerate(VOCABULARY, 1)}
    rows = [[number[word] for word in said.split()] for said in instructions]
    return torch.tensor([row + [0] * (LENGTH - len(row)) for row in rows], dtype=torch.float32)


def embedded(instructions: Sequence[str], tag: str) -> Tensor:
    """[T, D] float32 by a model of `MODELS`; each text is read once and kept in the user's cache folder."""
    encode: Callable[[str], np.ndarray] | None = None
    found = []
    for said in instructions:
        path = own_cache() / "language" / tag / f"{sha256(said.encode())[:24]}.npy"
        row = _kept(path, MODELS[tag][1])
        if row is None:
            encode = encode or encoder(tag)
            row = encode(said)
            file = io.BytesIO()
            np.save(file, row, allow_pickle=False)
            write_atomic(path, file.getvalue())
        found.append(row)
    return torch.from_numpy(np.stack(found))


def _kept(path: Any, width: int) -> np.ndarray | None:
    try:
        row = np.load(io.BytesIO(read_bytes(path, LIMIT)), allow_pickle=False)
    except (CarryoverError, ValueError, EOFError):  # not there, or damaged: worth the time to make it again
        return None
    return row if row.shape == (width,) and row.dtype == np.float32 and np.isfinite(row).all() else None


def encoder(tag: str) -> Callable[[str], np.ndarray]:
    """A text to [D] float32.

    Raises:
        StorageError: transformers is not installed, or the weights are neither in the hub's cache nor to be had.
    """
    name = MODELS[tag][0]
    if find_spec("transformers") is None:
        raise StorageError(f'language={tag} needs transformers. Run: pip install "carryover[libero]".')
    import transformers

    kind = transformers.BertModel if tag == "bert" else transformers.CLIPTextModelWithProjection
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(name)
        model = kind.from_pretrained(name, use_safetensors=True).eval()
    except Exception as error:  # network, a hub that is switched off, a file that is not there: each raises its own
        reason = " ".join(str(error).split()).rstrip(".")
        raise StorageError(
            f"language={tag} needs the weights {name}: {reason[:200]}. On a machine with a network run: "
            f"hf download {name}; then copy the hub's cache, or set stream.language=words."
        ) from error

    @torch.no_grad()
    def encode(text: str) -> np.ndarray:
        tokens = tokenizer(text, max_length=LENGTH, padding="max_length", truncation=True, return_tensors="pt")
        found = model(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"])
        return (found.pooler_output if tag == "bert" else found.text_embeds)[0].float().numpy()

    return encode
