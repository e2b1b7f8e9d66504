"""Policies for behaviour cloning on the table-top and its like: an input [H, D] of H observations, an action out of it.

What an observation holds is told by the stream's layout: `robot`, a vector; `entities`, a token for each thing; parts
of three numbers, pictures (3, S, S) with pixels in [0, 1]; and the instruction, as `words` (numbers in a vocabulary, 0
fills up), as `task` (one-hot), or as `language`, a vector.
Words are the normalised sum of their vectors, which are drawn at random and, unless `words="trained"`, stay so.

Built after the policies of LIBERO (Liu et al., 2023, arXiv 2306.03310), smaller, and for states first; those of the
paper are in `libero_policies`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import backbone
from .actions import Head, head_of
from .patches import Patches
from .vit import Plugs, renormed
from .weights import Pretrained

Layout = Mapping[str, tuple[int, ...]]
Norm = Callable[[nn.LayerNorm, Tensor], Tensor]
LANGUAGE = 32  # width of an instruction


@backbone("bc-mlp")
def bc_mlp(
    shape: tuple[int, ...],
    classes: int,
    *,
    layout: Layout,
    hidden: list[int] | tuple[int, ...] = (128, 128),
    head: Literal["plain", "mixture"] = "plain",
    words: Literal["frozen", "trained"] = "frozen",
) -> Policy:
    """Everything that is observed, flat, and the instruction, through layers of ReLU.

    Args:
        hidden: widths. head: "plain", one action, or "mixture", a distribution of five Gaussians; see `actions`.
        words: whether the vectors of words are learnt.
    """
    H, _ = steps(shape)
    see = _numbers(layout, words == "trained")
    width = H * see.flat
    layers: list[nn.Module] = []
    for out in hidden:
        layers += [nn.Linear(width, out), nn.ReLU()]
        width = out
    return Policy(see, Flat(nn.Sequential(*layers)), head_of(head, width, classes))


@backbone("bc-rnn")
def bc_rnn(
    shape: tuple[int, ...],
    classes: int,
    *,
    layout: Layout,
    hidden: int = 128,
    layers: int = 1,
    head: Literal["plain", "mixture"] = "plain",
    words: Literal["frozen", "trained"] = "frozen",
) -> Policy:
    """The same step after step through an LSTM, as the `BCRNNPolicy` of LIBERO does with its images.

    Args:
        hidden: width of the encoder's layer and of the LSTM. layers: of the LSTM.
    """
    steps(shape)
    see = _numbers(layout, words == "trained")
    return Policy(see, Recurrent(see.flat, hidden, layers), head_of(head, hidden, classes))


@backbone("bc-transformer")
def bc_transformer(
    shape: tuple[int, ...],
    classes: int,
    *,
    layout: Layout,
    width: int = 32,
    depth: int = 2,
    heads: int = 2,
    hidden: int = 128,
    head: Literal["plain", "mixture"] = "plain",
    words: Literal["frozen", "trained"] = "frozen",
) -> Attentive:
    """Attention over a token for the robot, one for the instruction, and one for each thing or patch, of each step.

    Things and patches are scaled and shifted by the instruction (FiLM; Perez et al., 2018), so that it can point at
    one. In the last block only the newest robot's token asks. Pre-norm; a layer of `hidden` units follows.

    Args:
        width, depth, heads: of the blocks.
    """
    H, _ = steps(shape)
    if width % heads:
        raise ValueError(f"heads={heads} must divide width={width}")
    see = Parts(layout, words == "trained")
    body = Attention(see, H, width, depth, heads, hidden)
    return Attentive(see, body, head_of(head, hidden, classes))


def steps(shape: tuple[int, ...]) -> tuple[int, int]:
    if len(shape) != 2:
        raise ValueError("it reads [steps, what is observed]")
    return shape


def _numbers(layout: Layout, trained: bool) -> Parts:
    see = Parts(layout, trained)
    if see.cameras:
        raise ValueError(f"it does not look at {see.cameras[0]}; set model=bc-transformer")
    return see


class Policy(nn.Module):
    """Observations to the outputs of a head.

    Args:
        see: takes an input apart. body: from its parts to features [B, W].
    """

    def __init__(self, see: Parts, body: nn.Module, head: Head) -> None:
        super().__init__()
        self.see, self.body, self.head = see, body, head

    def forward(self, x: Tensor) -> Tensor:
        """Inputs [B, H, D] to [B, P]."""
        return self.head(self.body(*self.see(x)))


class Attentive(Policy):
    """One of attention, whose norms others can stand in for, as in `vit.ViT`. Its features are what the head reads.

    Attributes:
        pretrained: facts about its weights; None if they are random.
    """

    body: Attention
    pretrained: Pretrained | None = None

    @property
    def width(self) -> int:
        """Of the features."""
        return self.head.in_features

    def features(self, x: Tensor, plugs: Plugs | None = None) -> Tensor:
        """Inputs [B, H, D] to [B, width]."""
        return self.body(*self.see(x), plugs=plugs)

    def query(self, x: Tensor) -> Tensor:
        """Inputs [B, H, D] to [B, W], by which tasks are told apart: the instruction's token of the newest step, which
        has seen all others by the last block. (The robot's own tells of the next move instead.)"""
        entered, norms = [], self.norms()

        def watch(number: int, tokens: Tensor) -> tuple[Tensor, Tensor]:
            entered.append(tokens)
            return norms[number].weight, norms[number].bias

        self.features(x, Plugs(norm=watch))
        return entered[-3][:, 1]

    def norms(self) -> list[nn.LayerNorm]:
        """The 2 * depth + 1 norms in the order of their numbers."""
        return [norm for block in self.body.blocks for norm in (block.norm1, block.norm2)] + [self.body.norm]

    def freeze(self) -> None:
        """Let no parameter but the head's require a gradient."""
        self.see.requires_grad_(False)
        self.body.requires_grad_(False)


class Parts(nn.Module):
    """An input in its parts: robot [B, H, R], entities [B, H, E, F] (E = 0 if there are none), instruction [B, L].

    Where there are pictures, they come fourth: [B, H, V, 3, S, S].

    Args:
        trained: whether the vectors of words are learnt. embed: an instruction that is a vector goes through a layer.

    Attributes:
        cameras: the names of the V pictures. told: L.
    """

    def __init__(self, layout: Layout, trained: bool, embed: bool = True) -> None:
        super().__init__()
        self.layout = dict(layout)
        self.sizes = [math.prod(shape) for shape in layout.values()]
        said = [name for name in ("words", "task", "language") if name in layout]
        if "robot" not in layout or len(said) != 1:
            raise ValueError(f"it needs robot, and one of words, task, language; there are {', '.join(layout)}")
        self.said = said[0]
        size = self.sizes[list(layout).index(self.said)]
        self.told = LANGUAGE if embed or self.said == "words" else size
        if self.said == "words":
            self.embed = nn.Embedding(WORDS, LANGUAGE, padding_idx=0)
            nn.init.normal_(self.embed.weight[1:])
            self.embed.weight.requires_grad_(trained)
        else:
            self.embed = nn.Linear(size, LANGUAGE) if embed else nn.Identity()
        self.robot = layout["robot"][0]
        self.entities, self.token = layout.get("entities", (0, 0))
        self.flat = self.robot + self.entities * self.token + self.told
        self.cameras = [name for name, shape in layout.items() if len(shape) == 3]
        self.picture = layout[self.cameras[0]] if self.cameras else (3, 0, 0)
        if any(layout[name] != self.picture for name in self.cameras) or self.picture[1] != self.picture[2]:
            raise ValueError(f"{', '.join(self.cameras)} are not square pictures of one size")

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Of inputs [B, H, D]; the instruction is that of the newest step."""
        parts = dict(zip(self.layout, x.split(self.sizes, -1), strict=True))
        entities = parts.get("entities", x.new_zeros(*x.shape[:2], 0)).unflatten(-1, (self.entities, self.token))
        said = parts[self.said][:, -1]
        if self.said == "words":
            said = self.embed(said.long()).sum(1)
            said = math.sqrt(LANGUAGE) * F.normalize(said, dim=1)
        else:
            said = self.embed(said)
        seen = [parts[name].unflatten(-1, self.picture) for name in self.cameras]
        return parts["robot"], entities, said, *([torch.stack(seen, 2)] if seen else [])


WORDS = 512  # a vocabulary's length at most, so that another stream's words do not change the network


class Flat(nn.Module):
    """All steps side by side."""

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, robot: Tensor, entities: Tensor, said: Tensor) -> Tensor:
        """To [B, W]."""
        said = said[:, None].expand(-1, robot.shape[1], -1)
        return self.layers(torch.cat([robot, entities.flatten(2), said], 2).flatten(1))


class Recurrent(nn.Module):
    """Step after step; what is known after the newest."""

    def __init__(self, inputs: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.encode = nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU())
        self.recall = nn.LSTM(hidden, hidden, layers, batch_first=True)

    def forward(self, robot: Tensor, entities: Tensor, said: Tensor) -> Tensor:
        """To [B, W]."""
        said = said[:, None].expand(-1, robot.shape[1], -1)
        return self.recall(self.encode(torch.cat([robot, entities.flatten(2), said], 2)))[0][:, -1]


class Attention(nn.Module):
    """Tokens of all steps that attend to each other; the newest robot's token is read."""

    def __init__(self, see: Parts, steps: int, width: int, depth: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.robot = nn.Linear(see.robot + LANGUAGE, width)
        self.said = nn.Linear(LANGUAGE, width)
        self.thing = nn.Linear(see.token, width) if see.entities else None
        self.film = nn.Linear(LANGUAGE, 2 * width)
        self.when = nn.Parameter(0.02 * torch.randn(steps, 1, width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.read = nn.Sequential(nn.Linear(width, hidden), nn.ReLU())
        self.look = Patches(len(see.cameras), see.picture[1], width) if see.cameras else None

    def forward(
        self,
        robot: Tensor,
        entities: Tensor,
        said: Tensor,
        pictures: Tensor | None = None,
        plugs: Plugs | None = None,
    ) -> Tensor:
        """To [B, hidden]. Of `plugs`, `norm` is asked, with the tokens of the newest step, the robot's first."""
        B, H = robot.shape[:2]
        words = said[:, None].expand(-1, H, -1)
        tokens = [self.robot(torch.cat([robot, words], 2))[:, :, None], self.said(words)[:, :, None]]
        absent = [torch.zeros(B, H, 2, dtype=torch.bool, device=robot.device)]
        scale, shift = self.film(said).chunk(2, -1)
        if self.thing is not None:
            tokens.append((1 + scale[:, None, None]) * self.thing(entities) + shift[:, None, None])
            absent.append(~entities.any(-1))  # empty slots
        if self.look is not None:
            tokens.append(self.look(pictures, scale, shift))
            absent.append(absent[0].new_zeros(B, H, tokens[-1].shape[2]))
        x = (torch.cat(tokens, 2) + self.when).flatten(1, 2)  # [B, H n, W]
        there = ~torch.cat(absent, 2).flatten(1)
        n, last = x.shape[1] // H, len(self.blocks) - 1

        def norm(number: int, own: nn.LayerNorm, x: Tensor) -> Tensor:
            if plugs is None or plugs.norm is None:
                return own(x)
            return renormed(own, x, *plugs.norm(number, x[:, -n:]))

        for i, block in enumerate(self.blocks):
            some = slice(-n, 1 - n) if i == last else slice(None)  # in the last block, the newest robot's token
            x = block(x, there, some, partial(norm, 2 * i), partial(norm, 2 * i + 1))
        return self.read(norm(2 * last + 2, self.norm, x)[:, 0])


class Block(nn.Module):
    """Attention and two layers, each after a norm and beside what went in."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.ask, self.tell, self.join = nn.Linear(width, width), nn.Linear(width, 2 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor, there: Tensor, some: slice, first: Norm, second: Norm) -> Tensor:
        """Some of the tokens [B, N, W] ask all that are `there` [B, N]: [B, M, W].

        Args:
            first, second: the ways through the two norms.
        """
        heads, h = (self.heads, -1), first(self.norm1, x)
        q = self.ask(h[:, some]).unflatten(-1, heads).transpose(1, 2)
        k, v = (t.unflatten(-1, heads).transpose(1, 2) for t in self.tell(h).chunk(2, -1))
        seen = F.scaled_dot_product_attention(q, k, v, there[:, None, None]).transpose(1, 2).flatten(2)
        x = x[:, some] + self.join(seen)
        return x + self.mlp(second(self.norm2, x))
