"""How the small backbones that are shipped came to be: `carryover pretrain vit-micro` makes them again.

For `clip-micro` see `contrastive`, for `bc-micro` `cloning`. `vit-micro`:

Supervised classification of 300 characters in the fonts of matplotlib, drawn as photographs without end
(`streams.sources.drawings.photographs`), so that no image is seen twice and there is nothing to download. No rendition
and no canvas of a stream is among them; swapped tones, blur, holes and fabrics are, in 6 % of the images each. AdamW
with warm-up and a cosine, label smoothing, bfloat16. On one machine with one number of threads the same seed gives the
same file; on another one, other last bits.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...base.errors import UsageError, unknown
from ...base.files import sha256, write_atomic
from ...base.seeds import drawing, torch_generator
from ..config import Amount, Count, NonNegative, Positive, Share
from . import registry
from .cloning import PolicyRecipe
from .cloning import train as train_policy
from .contrastive import PairsRecipe, rate
from .contrastive import train as train_pairs

DATA = "photographs of 300 characters, generated; supervised"
OVERLAP = "all classes of imagenet-r-mini, as photographs, in none of its renditions"


@dataclass(frozen=True)
class Recipe:
    """Everything that the weights depend on, beside the code and the machine; it is kept in the file's header."""

    model: Literal["vit-micro"] = "vit-micro"
    steps: Count = 12_000
    batch_size: Count = 64
    lr: Positive = 1.5e-3
    warmup: Count = 500
    weight_decay: NonNegative = 0.05
    smoothing: Share = 0.1
    rare: Share = 0.06
    seed: Amount = 0


AnyRecipe = Recipe | PairsRecipe | PolicyRecipe
RECIPES = {"vit-micro": Recipe, "clip-micro": PairsRecipe, "bc-micro": PolicyRecipe}
THREADS = {"vit-micro": 2, "clip-micro": 1, "bc-micro": 1}  # of the shipped files


def recipe_of(model: str) -> type[AnyRecipe]:
    """The recipe of a shipped backbone."""
    if model not in RECIPES:
        raise unknown("backbone to pre-train", model, RECIPES)
    return RECIPES[model]


def pretrain(
    out: Path, recipe: AnyRecipe, device: str = "cpu", told: Callable[[int], None] | None = None
) -> dict[str, object]:
    """Train a shipped backbone and write it to `out`, float16 safetensors, of `vit-micro` without the head.

    Args:
        told: called every hundredth of the way with the steps done.

    Returns:
        What the file's header says, and its SHA-256.
    """
    from safetensors.torch import save

    if recipe.steps < 1:
        raise UsageError(f"steps={recipe.steps} must be at least 1.")
    train = {Recipe: _train, PairsRecipe: train_pairs, PolicyRecipe: train_policy}[recipe_of(recipe.model)]
    net, facts = train(recipe, torch.device(device), told)
    header = asdict(recipe) | facts
    weights = {name: p.detach().half().cpu().contiguous() for name, p in net.state_dict().items()}
    data = save(weights, metadata={"recipe": json.dumps(header, sort_keys=True)})
    write_atomic(out, data)
    return header | {"sha256": sha256(data), "bytes": len(data)}


def _train(
    recipe: Recipe, device: torch.device, told: Callable[[int], None] | None
) -> tuple[nn.Module, dict[str, Any]]:
    """The trained body, and facts for the header."""
    photos = _Photographs(recipe, device)
    net = _network(recipe, photos.classes).to(device)
    matrices = [p for p in net.parameters() if p.ndim > 1]
    others = [p for p in net.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=recipe.lr, betas=(0.9, 0.98))
    for step in range(recipe.steps):
        for group in optimizer.param_groups:
            group["lr"] = recipe.lr * rate(step, recipe.warmup, recipe.steps)
        x, y = photos.batch(recipe.batch_size)
        optimizer.zero_grad()
        F.cross_entropy(_logits(net, x), y, label_smoothing=recipe.smoothing).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        if told is not None and (step + 1) % max(recipe.steps // 100, 1) == 0:
            told(step + 1)
    return net.body, {"data": DATA, "overlap": OVERLAP, "accuracy": round(photos.accuracy(net), 4)}


class _Photographs:
    """Batches of generated photographs, all of a size, and a thousand that are kept to judge by."""

    def __init__(self, recipe: Recipe, device: torch.device) -> None:
        from ...streams.sources.drawings import FINE, Draw
        from ...streams.sources.glyphs import CHARACTERS, FACES, glyph_masks

        found = glyph_masks(CHARACTERS)
        bank = torch.zeros(len(found), len(FACES), FINE, FINE, dtype=torch.uint8)
        for number, masks in enumerate(found):
            bank[number, : len(masks)] = torch.from_numpy(masks)
        self.bank, self.faces = bank.to(device), torch.tensor([len(masks) for masks in found], device=device)
        self.classes, self.rare = len(found), recipe.rare
        self.draw = Draw.fast(torch_generator("pretrain", recipe.seed, device=device))
        self.held = self._drawn(Draw.fast(torch_generator("pretrain", "held out", device=device)), 1000, rare=0.0)

    def batch(self, size: int) -> tuple[Tensor, Tensor]:
        """Images [B, 3, 24, 24] in [0, 1] and classes [B]."""
        return self._drawn(self.draw, size, self.rare)

    @torch.no_grad()
    def accuracy(self, net: nn.Module) -> float:
        """On the photographs kept."""
        net.eval()
        x, y = self.held
        right = (_logits(net, x).argmax(1) == y).float().mean().item()
        net.train()
        return right

    def _drawn(self, draw, size: int, rare: float) -> tuple[Tensor, Tensor]:
        from ...streams.sources.drawings import photographs

        y = draw.below(torch.full((size,), self.classes, device=self.bank.device))
        masks = self.bank[y, draw.below(self.faces[y])].float() / 255
        return photographs(masks, draw, rare), y


def _network(recipe: Recipe, classes: int) -> nn.Module:
    with drawing("pretrain", recipe.seed, "weights"):
        net = registry.load(recipe.model)((3, 24, 24), classes, weights="random").train()
    for block in net.body.blocks:
        block.attn.fused_attn = False  # twice as fast under bfloat16 on a CPU, at this size
    return net


def _logits(net: nn.Module, x: Tensor) -> Tensor:
    with torch.autocast(x.device.type, torch.bfloat16):
        return net(x).float()
