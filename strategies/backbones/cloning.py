"""`bc-micro`, a small policy that has learnt ninety tasks, and how it came to.

LIBERO pre-trains on LIBERO-90 before the ten tasks of a suite arrive (Liu et al., 2023, arXiv 2306.03310, section 5);
here a `bc-transformer` of the default size learns all of libero-90-mini at once, by imitation: AdamW with warm-up and a
cosine, every frame as the stream weights it. Its head and its words' vectors are part of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ...base.errors import MismatchError
from ...base.files import sha256
from ...base.seeds import drawing, torch_generator
from ..config import Amount, Count, NonNegative, Positive
from . import backbone
from .clip import vocabulary_digest
from .contrastive import rate
from .policies import Attentive, Layout, bc_transformer
from .weights import Pretrained, fill, recipe

WEIGHTS = Path(__file__).parent / "bc-micro.safetensors"
STREAM = "libero-90-mini"
DATA = "demonstrations of the 90 tasks of libero-90-mini; imitation"
OVERLAP = (
    "moves, and some of the things and words, of the other libero minis; none of their 40 tasks, but one instruction "
    "of libero-goal-mini, on another table"
)


@backbone("bc-micro")
def bc_micro(shape: tuple[int, ...], classes: int, *, layout: Layout, weights: str = "shipped") -> Attentive:
    """A `bc-transformer` of the default size, trained on libero-90-mini and shipped, for one observation at a time.

    Args:
        weights: "shipped", "random", or a file that `carryover pretrain bc-micro` made.
    """
    if "words" not in layout:
        raise ValueError("it was trained on instructions in words; set stream.language=words")
    net = bc_transformer(shape, classes, layout=layout)
    if weights != "random":
        path = WEIGHTS if weights == "shipped" else Path(weights).expanduser()
        net.pretrained = _filled(net, path, "bc-micro" if weights == "shipped" else path.name)
    return net


def _filled(net: Attentive, path: Path, name: str) -> Pretrained:
    """With the weights of a file, which must have been trained on the same words in the same order."""
    told = recipe(path)
    if told.get("vocabulary") != _vocabulary():
        raise MismatchError(
            f"the weights {path} were not trained on the words of instructions as they are numbered now. "
            "Make others by carryover pretrain bc-micro."
        )
    digest = fill(net, path)
    return Pretrained(name, digest, "none", str(told.get("data")), str(told.get("overlap")))


def _vocabulary() -> str:
    from ...streams.tabletop.things import VOCABULARY

    return vocabulary_digest(VOCABULARY)


@dataclass(frozen=True)
class PolicyRecipe:
    """Everything that the weights depend on, beside the code and the machine; it is kept in the file's header.

    demonstrations: of each task. attempts: of each task, on states of its test, by which the end is judged.
    """

    model: Literal["bc-micro"] = "bc-micro"
    demonstrations: Count = 50
    steps: Count = 20_000
    batch_size: Count = 256
    lr: Positive = 2e-3
    warmup: Count = 200
    weight_decay: NonNegative = 1e-4
    clip: Positive = 10.0
    attempts: Count = 5
    seed: Amount = 0


def train(
    recipe: PolicyRecipe, device: torch.device, told: Callable[[int], None] | None
) -> tuple[nn.Module, dict[str, Any]]:
    """The trained policy, and facts for the header: success is the share of attempts at the ninety tasks, from states
    that no demonstration starts from."""
    from ...streams import load_stream
    from ..parts.imitation import Imitation

    stream = load_stream(
        STREAM, demonstrations=recipe.demonstrations, attempts=min(recipe.attempts, 50), val_fraction=0.0
    )
    with drawing("pretrain", recipe.model, recipe.seed, "weights"):
        net = bc_micro(stream.info.shape, stream.info.classes, layout=stream.info.layout, weights="random")
    net, objective = net.to(device).train(), Imitation(net)
    x, y = (torch.cat([getattr(task.train, part) for task in stream]).to(device) for part in ("samples", "targets"))
    optimizer = torch.optim.AdamW(net.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    draws = torch_generator("pretrain", recipe.model, recipe.seed, device=device)
    for step in range(recipe.steps):
        for group in optimizer.param_groups:
            group["lr"] = recipe.lr * rate(step, recipe.warmup, recipe.steps)
        rows = torch.randint(len(x), (recipe.batch_size,), generator=draws, device=device)
        optimizer.zero_grad()
        objective.loss(net(x[rows]), y[rows]).backward()
        nn.utils.clip_grad_norm_(net.parameters(), recipe.clip)
        optimizer.step()
        if told is not None and (step + 1) % max(recipe.steps // 100, 1) == 0:
            told(step + 1)
    facts = {
        "data": DATA,
        "overlap": OVERLAP,
        "frames": sha256("".join(task.train.digest() for task in stream).encode()),
        "vocabulary": _vocabulary(),
        "success": round(_success(net.eval(), stream), 4),
    }
    return net, facts


@torch.no_grad()
def _success(net: Attentive, stream: Any) -> float:
    device = next(net.parameters()).device

    def act(seen: Tensor) -> Tensor:
        return net.head.act(net(seen))

    every = stream.tests[0].joined(stream.tests[1:]).to(device)
    return every.score(act).float().mean().item()
