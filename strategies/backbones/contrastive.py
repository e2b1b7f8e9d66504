"""How `clip-micro` came to be: pictures and captions, each picture to its caption and each caption to its pictures.

The loss is CLIP's (Radford et al., 2021), with one change that a small vocabulary asks for: a caption that occurs twice
in a batch is one caption with two pictures, and not a wrong answer for either. AdamW with warm-up and a cosine,
pictures with noise and changes of brightness and tint.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ...base.seeds import derive, drawing, torch_generator
from ..config import Amount, Count, NonNegative, Positive
from .clip import TwoTowers, clip_micro, vocabulary_digest

DATA = "pictures with captions in a closed vocabulary, generated; contrastive"
OVERLAP = (
    "the words of all classes of mtil-mini, with pictures in another style; its 16 combinations themselves left out"
)
LARGEST = 100.0  # factor on cosines


@dataclass(frozen=True)
class PairsRecipe:
    """Everything that the weights depend on, beside the code and the machine; it is kept in the file's header.

    brightness: largest relative change of a picture. tint, noise: the most that a channel of a picture, and each value,
    is moved by, as standard deviations; how far up to that is drawn for each picture.
    """

    model: Literal["clip-micro"] = "clip-micro"
    text: Literal["transformer", "bag"] = "transformer"
    pairs: Count = 16_000
    steps: Count = 1500
    batch_size: Count = 128
    lr: Positive = 2e-3
    warmup: Count = 50
    weight_decay: NonNegative = 0.01
    brightness: NonNegative = 0.2
    tint: NonNegative = 0.1
    noise: NonNegative = 0.08
    seed: Amount = 0


def train(
    recipe: PairsRecipe, device: torch.device, told: Callable[[int], None] | None
) -> tuple[TwoTowers, dict[str, Any]]:
    """The trained network, and facts for the header: accuracy is the share of a thousand unseen pictures whose own
    caption is the nearest of all of theirs."""
    from ...streams.sources.captioned import pairs

    with drawing("pretrain", recipe.model, recipe.seed, "weights"):
        net = clip_micro((3, 24, 24), 0, weights="random", text=recipe.text).to(device).train()
    images, tokens, caption = _tables(net, *pairs(recipe.pairs, recipe.seed), device)
    net.logit_scale.requires_grad_(True)
    matrices = [p for p in net.parameters() if p.ndim > 1]
    others = [p for p in net.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=recipe.lr)
    draws = torch_generator("pretrain", recipe.model, recipe.seed, device=device)
    for step in range(recipe.steps):
        for group in optimizer.param_groups:
            group["lr"] = recipe.lr * rate(step, recipe.warmup, recipe.steps)
        rows = torch.randint(len(images), (recipe.batch_size,), generator=draws, device=device)
        x = augmented(images[rows].float() / 255, draws, recipe)
        held, owner = caption[rows].unique(return_inverse=True)
        optimizer.zero_grad()
        loss(net.encode_image(x), net.encode_text(tokens[held]), owner, net.logit_scale.exp()).backward()
        optimizer.step()
        with torch.no_grad():
            net.logit_scale.clamp_(max=math.log(LARGEST))
        if told is not None and (step + 1) % max(recipe.steps // 100, 1) == 0:
            told(step + 1)
    net.logit_scale.requires_grad_(False)
    unseen = _tables(net, *pairs(1000, derive("pretrain", "held out")), device)
    facts = {
        "data": DATA,
        "overlap": OVERLAP,
        "vocabulary": vocabulary_digest(net.words),
        "accuracy": round(_accuracy(net.eval(), *unseen), 4),
        "logit_scale": round(net.logit_scale.exp().item(), 2),
    }
    return net, facts


def loss(images: Tensor, texts: Tensor, owner: Tensor, scale: Tensor | float) -> Tensor:
    """Symmetric contrastive loss of images [B, D] and distinct captions [U, D], each of at least one image.

    Args:
        owner: [B], which caption each image has.

    Returns:
        Half the mean over images of -log p(caption | image), and half the mean over captions of the mean over their
        images of -log p(image | caption).
    """
    logits = scale * F.normalize(images, dim=1) @ F.normalize(texts, dim=1).T  # [B, U]
    own = F.one_hot(owner, len(texts)).to(logits.dtype)
    return (F.cross_entropy(logits, owner) + F.cross_entropy(logits.T, (own / own.sum(0)).T)) / 2


def augmented(x: Tensor, draws: torch.Generator, recipe: PairsRecipe) -> Tensor:
    """Images [B, 3, H, W] in [0, 1], each brighter or darker, tinted, and with noise."""
    B, where = len(x), {"generator": draws, "device": x.device}
    brightness, tint, noise = torch.rand((3, B, 1, 1, 1), **where)  # how much of each
    x = x * (1 + recipe.brightness * (2 * brightness - 1))
    x = x + recipe.tint * tint * torch.randn((B, 3, 1, 1), **where)
    return (x + recipe.noise * noise * torch.randn(x.shape, **where)).clamp_(0, 1)


def rate(step: int, warmup: int, steps: int) -> float:
    """Share of the learning rate: up to 1 in a line, down to 0 in half a cosine over all steps."""
    return min(step / warmup, 1.0) * (1 + math.cos(math.pi * step / steps)) / 2


def _tables(net: TwoTowers, images: Tensor, captions: list[str], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Images [N, ...], tokens [M, L] of the distinct captions, and the number of each image's caption [N]."""
    distinct = {words: number for number, words in enumerate(sorted(set(captions)))}
    number = torch.tensor([distinct[words] for words in captions])
    return images.to(device), net.tokenise(list(distinct)).to(device), number.to(device)


@torch.no_grad()
def _accuracy(net: TwoTowers, images: Tensor, tokens: Tensor, caption: Tensor) -> float:
    nearest = net.encode_image(images.float() / 255) @ F.normalize(net.encode_text(tokens), dim=1).T
    return (nearest.argmax(1) == caption).float().mean().item()
