"""Two towers, one for images and one for sentences, that meet in one space; and the small pair that is shipped.

Built like CLIP (Radford et al., 2021), a thousandth of its size: no weights are shared, nothing is normalised by the
batch, and a sentence is embedded alike whatever sentences are beside it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...base.errors import MismatchError, UsageError
from ...base.files import sha256
from . import backbone
from .weights import Pretrained, fill, recipe

WEIGHTS = Path(__file__).parent / "clip-micro.safetensors"
SIDE = 24  # pixels
LONGEST = 16  # words of a sentence
WIDTH = 64  # of words and of the common space


@backbone("clip-micro")
def clip_micro(
    shape: tuple[int, ...], classes: int, *, weights: str = "shipped", text: str = "transformer"
) -> TwoTowers:
    """Two small towers, trained on generated images with captions and shipped; its words are `captioned.VOCABULARY`.

    Three convolutions of 24, 48 and 96 3x3 filters and a layer of 192 units read images of 24 x 24; one block of
    attention over words, their average, reads sentences. About 292,000 parameters.

    Args:
        weights: "shipped", "random", or a file that `carryover pretrain clip-micro` made.
        text: "transformer", or "bag": the sum of the words and a hidden layer; it is not shipped.
    """
    from ...streams.sources.captioned import VOCABULARY

    towers = {"transformer": Attending, "bag": Bag}
    if text not in towers:
        raise ValueError(f'text={text!r} must be "transformer" or "bag"')
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise ValueError("it reads images of 3 channels, or of 1, which is repeated")
    if weights == "shipped" and text == "bag":
        raise UsageError(
            "clip-micro with text=bag is not shipped. Make it by carryover pretrain clip-micro --set text=bag, and "
            "give the file by model.weights=FILE, or start from model.weights=random."
        )
    net = TwoTowers(towers[text](len(VOCABULARY)), VOCABULARY)
    if weights != "random":
        path = WEIGHTS if weights == "shipped" else Path(weights).expanduser()
        net.pretrained = _filled(net, path, "clip-micro" if weights == "shipped" else path.name)
    return net


class Pixels(nn.Module):
    """Images as a tower reads them: of one size, of three channels, normalised.

    Args:
        size: (height, width) to which other images are resized (bilinear, antialiased).
        scale: (mean, standard deviation) per channel; None leaves values as they come.
    """

    def __init__(self, size: tuple[int, int], scale: tuple[Sequence[float], Sequence[float]] | None) -> None:
        super().__init__()
        self.size = size
        mean, std = (None, None) if scale is None else (torch.tensor(part).reshape(-1, 1, 1) for part in scale)
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Images [B, C, H, W] in [0, 1] to [B, 3, *size]."""
        if x.shape[-2:] != self.size:
            x = F.interpolate(x, self.size, mode="bilinear", antialias=True)
        if x.shape[1] == 1:
            x = x.expand(-1, 3, -1, -1)
        return x if self.mean is None else (x - self.mean) / self.std

    def told(self) -> str:
        """What it normalises by, for the record."""
        if self.mean is None:
            return "none"
        mean, std = (" ".join(f"{value:g}" for value in part.flatten()) for part in (self.mean, self.std))
        return f"mean {mean}, std {std}"


class TwoTowers(nn.Module):
    """A small image tower beside a tower for sentences.

    Attributes:
        words: the vocabulary; word i is token i + 1, and token 0 is no word.
        logit_scale: logarithm of the factor on cosines, learnt in pre-training and frozen from then on.
        pretrained: facts about the weights; None if they are random.
    """

    def __init__(self, text: nn.Module, words: Sequence[str]) -> None:
        super().__init__()
        self.words, self.pretrained = tuple(words), None
        self._number = {word: number for number, word in enumerate(self.words, 1)}
        self.pixels = Pixels((SIDE, SIDE), ((0.5,) * 3, (0.5,) * 3))
        layers: list[nn.Module] = []
        for inputs, outputs in ((3, 24), (24, 48), (48, 96)):
            layers += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), nn.GELU()]
        flat = 96 * (SIDE // 8) ** 2
        self.image = nn.Sequential(*layers, nn.Flatten(), nn.Linear(flat, 192), nn.GELU(), nn.Linear(192, WIDTH))
        self.text = text
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """As `encode_image`."""
        return self.encode_image(x)

    def encode_image(self, x: Tensor) -> Tensor:
        """Images [B, C, H, W] in [0, 1] to embeddings [B, D], not normalised."""
        return self.image(self.pixels(x))

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Tokens [N, L] to embeddings [N, D], not normalised, the same however far a sentence is padded."""
        return self.text(tokens)

    def tokenise(self, sentences: Sequence[str]) -> Tensor:
        """Sentences of known words to tokens [N, L], padded by 0 to the longest of them.

        Raises:
            UsageError: a word that is not in the vocabulary, more than 16 words, or none.
        """
        rows = [[self._token(word, sentence) for word in sentence.split()] for sentence in sentences]
        for row, sentence in zip(rows, sentences, strict=True):
            if not 0 < len(row) <= LONGEST:
                raise UsageError(f"clip-micro reads sentences of 1 to {LONGEST} words, not {sentence!r}.")
        longest = max(map(len, rows), default=1)
        return torch.tensor([row + [0] * (longest - len(row)) for row in rows]).reshape(-1, longest)

    def random_tokens(self, count: int, length: int, generator: torch.Generator) -> Tensor:
        """Tokens [count, length] of random words, drawn on the CPU."""
        if not 0 < length <= LONGEST:
            raise UsageError(f"clip-micro reads sentences of 1 to {LONGEST} words; length={length} is too long.")
        return torch.randint(1, len(self.words) + 1, (count, length), generator=generator)

    def _token(self, word: str, sentence: str) -> int:
        if word not in self._number:
            near = get_close_matches(word, self.words, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "its words are streams.sources.captioned.VOCABULARY."
            raise UsageError(f"clip-micro does not know the word {word!r} in {sentence!r}; {hint}")
        return self._number[word]


class Attending(nn.Module):
    """A sentence as the average of its words after one block of attention and one hidden layer (pre-norm)."""

    def __init__(self, words: int, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.embed = nn.Embedding(words + 1, WIDTH, padding_idx=0)
        self.places = nn.Parameter(torch.empty(LONGEST, WIDTH))
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(WIDTH) for _ in range(3))
        self.attend, self.join = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.hidden = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))
        self.project = nn.Linear(WIDTH, WIDTH)
        nn.init.normal_(self.embed.weight[1:], std=0.1)
        nn.init.normal_(self.places, std=0.01)

    def forward(self, tokens: Tensor) -> Tensor:
        """[N, L] to [N, D]. No word attends to padding, and the average leaves it out."""
        there = tokens != 0
        x = self.embed(tokens) + self.places[: tokens.shape[1]]
        q, k, v = self.attend(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # [N, H, L, d]
        x = x + self.join(F.scaled_dot_product_attention(q, k, v, there[:, None, None]).transpose(1, 2).flatten(2))
        x = self.norm3(x + self.hidden(self.norm2(x)))
        there = there[:, :, None]
        return self.project((x * there).sum(1) / there.sum(1))


class Bag(nn.Module):
    """A sentence as the sum of its words, in whatever order, and one hidden layer."""

    def __init__(self, words: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(words + 1, WIDTH, padding_idx=0)
        self.hidden = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.ReLU(), nn.Linear(2 * WIDTH, WIDTH))
        nn.init.normal_(self.embed.weight[1:], std=0.3)

    def forward(self, tokens: Tensor) -> Tensor:
        """[N, L] to [N, D]."""
        return self.hidden((self.embed(tokens) * (tokens != 0)[:, :, None]).sum(1))


def vocabulary_digest(words: Sequence[str]) -> str:
    """SHA-256 of the words in their order; weights keep that of the words they were trained on."""
    return sha256("\n".join(words).encode())


def _filled(net: TwoTowers, path: Path, name: str) -> Pretrained:
    """With the weights of a file, which must have been trained on the same words in the same order."""
    told = recipe(path)
    if told.get("vocabulary") != vocabulary_digest(net.words):
        raise MismatchError(
            f"the weights {path} were not trained on the words that clip-micro reads now. "
            "Make others by carryover pretrain clip-micro."
        )
    digest = fill(net, path)
    return Pretrained(name, digest, net.pixels.told(), str(told.get("data")), str(told.get("overlap")))
