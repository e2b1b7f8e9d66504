"""Policies for behaviour cloning on the table-top and its like: an input [H, D] of H observations, an action out of it.

What an observation holds is told by the stream's layout: `robot`, a vector; `entities`, a token for each thing; and
the instruction, as `words` (numbers in a vocabulary, 0 fills up), as `task` (one-hot), or as `language`, a vector.
Words are the normalised sum of their vectors, which are drawn at random and, unless `words="trained"`, stay so.

Built after the policies of LIBERO (Liu et al., 2023, arXiv 2306.03310), smaller, for states in place of images.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import backbone
from .actions import Head, head_of

Layout = Mapping[str, tuple[int, ...]]
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
    H, _ = _steps(shape)
    see = Parts(layout, words == "trained")
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
    _steps(shape)
    see = Parts(layout, words == "trained")
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
) -> Policy:
    """Attention over a token for the robot, one for the instruction and one for each thing, of each step.

    Things are scaled and shifted by the instruction (FiLM; Perez et al., 2018), so that it can point at one. In the
    last block only the newest robot's token asks. Pre-norm; a layer of `hidden` units follows.

    Args:
        width, depth, heads: of the blocks.
    """
    H, _ = _steps(shape)
    if width % heads:
        raise ValueError(f"heads={heads} must divide width={width}")
    see = Parts(layout, words == "trained")
    body = Attention(see, H, width, depth, heads, hidden)
    return Policy(see, body, head_of(head, hidden, classes))


def _steps(shape: tuple[int, ...]) -> tuple[int, int]:
    if len(shape) != 2:
        raise ValueError("it reads [steps, what is observed]")
    return shape


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


class Parts(nn.Module):
    """An input in its parts: robot [B, H, R], entities [B, H, E, F] (E = 0 if there are none), instruction [B, L]."""

    def __init__(self, layout: Layout, trained: bool) -> None:
        super().__init__()
        self.layout = dict(layout)
        self.sizes = [math.prod(shape) for shape in layout.values()]
        said = [name for name in ("words", "task", "language") if name in layout]
        if "robot" not in layout or len(said) != 1:
            raise ValueError(f"it needs robot, and one of words, task, language; there are {', '.join(layout)}")
        self.said = said[0]
        size = self.sizes[list(layout).index(self.said)]
        if self.said == "words":
            self.embed = nn.Embedding(WORDS, LANGUAGE, padding_idx=0)
            nn.init.normal_(self.embed.weight[1:])
            self.embed.weight.requires_grad_(trained)
        else:
            self.embed = nn.Linear(size, LANGUAGE)
        self.robot = layout["robot"][0]
        self.entities, self.token = layout.get("entities", (0, 0))
        self.flat = self.robot + self.entities * self.token + LANGUAGE

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of inputs [B, H, D]; the instruction is that of the newest step."""
        parts = dict(zip(self.layout, x.split(self.sizes, -1), strict=True))
        entities = parts.get("entities", x.new_zeros(*x.shape[:2], 0)).unflatten(-1, (self.entities, self.token))
        said = parts[self.said][:, -1]
        if self.said == "words":
            said = self.embed(said.long()).sum(1)
            said = math.sqrt(LANGUAGE) * F.normalize(said, dim=1)
        else:
            said = self.embed(said)
        return parts["robot"], entities, said


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

    def forward(self, robot: Tensor, entities: Tensor, said: Tensor) -> Tensor:
        """To [B, hidden]."""
        B, H = robot.shape[:2]
        words = said[:, None].expand(-1, H, -1)
        tokens = [self.robot(torch.cat([robot, words], 2))[:, :, None], self.said(words)[:, :, None]]
        absent = [torch.zeros(B, H, 2, dtype=torch.bool, device=robot.device)]
        if self.thing is not None:
            scale, shift = self.film(said)[:, None, None].chunk(2, -1)
            tokens.append((1 + scale) * self.thing(entities) + shift)
            absent.append(~entities.any(-1))  # empty slots
        x = (torch.cat(tokens, 2) + self.when).flatten(1, 2)  # [B, H n, W]
        there = ~torch.cat(absent, 2).flatten(1)
        newest = x.shape[1] - x.shape[1] // H  # the robot's token of the last step
        for block in self.blocks[:-1]:
            x = block(x, there)
        return self.read(self.norm(self.blocks[-1](x, there, slice(newest, newest + 1))[:, 0]))


class Block(nn.Module):
    """Attention and two layers, each after a norm and beside what went in."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.ask, self.tell, self.join = nn.Linear(width, width), nn.Linear(width, 2 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor, there: Tensor, some: slice = slice(None)) -> Tensor:
        """Some of the tokens [B, N, W] ask all that are `there` [B, N]: [B, M, W]."""
        heads, h = (self.heads, -1), self.norm1(x)
        q = self.ask(h[:, some]).unflatten(-1, heads).transpose(1, 2)
        k, v = (t.unflatten(-1, heads).transpose(1, 2) for t in self.tell(h).chunk(2, -1))
        seen = F.scaled_dot_product_attention(q, k, v, there[:, None, None]).transpose(1, 2).flatten(2)
        x = x[:, some] + self.join(seen)
        return x + self.mlp(self.norm2(x))
