"""LIBERO's three policies at their published sizes: pictures, the robot and an instruction, to an action.

Liu et al., "LIBERO: Benchmarking Knowledge Transfer for Lifelong Robot Learning" (NeurIPS 2023, arXiv 2306.03310): what
they see is a window of 10 steps of two cameras of 128 x 128 pixels, the gripper (2 numbers), the joints (7) and a
sentence as a vector of 768. Here they take any window and robot, any number of cameras, and any instruction of
`policies.Parts`. Numbers to expect are those of the paper's tables; none was reproduced here.

Deviations from the published code:

- Pictures are normalised by groups of 16 channels, as in the policies of Chi et al. (2023, arXiv 2303.04137), not by
  the batch, whose statistics drift from task to task and move while weights are held.
- The loss is that of a window's newest step, not of each of its steps; the LSTM begins anew with each window.
- The action is the mean of the likeliest Gaussian, not drawn; see `actions`. Pictures are augmented by the stream.
- The gripper is the robot's first two numbers, as in LIBERO's own files. In the LeRobot copies these are two of its
  place, and the fingers come last: there the two tokens of the robot share out its numbers in another way.
- Not compared with the code line by line: instructions enter through one linear layer, patches overlap in a first
  convolution, and ViT-T, too, is read at the token of the instruction. Numbers of parameters are counted here.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import backbone
from .actions import head_of
from .policies import Layout, Parts, Policy, steps

GROUP = 16  # channels that are normalised together
GRIPPER = 2  # numbers of the robot that make a token of their own
WORDS = 32  # width of an instruction before the LSTM
Kind = Literal["mixture", "plain"]


@backbone("bc-resnet-rnn")
def bc_resnet_rnn(
    shape: tuple[int, ...],
    classes: int,
    *,
    layout: Layout,
    embed: int = 64,
    hidden: int = 1024,
    layers: int = 2,
    read: int = 1024,
    head: Kind = "mixture",
) -> Policy:
    """LIBERO's ResNet-RNN: pictures through ResNets that hear the instruction, steps through an LSTM.

    18,056,107 parameters for LIBERO's inputs and actions, 13,291,520 of them in the LSTM.

    Args:
        embed: numbers that a picture becomes. hidden, layers: of the LSTM. read: width of two layers before the head.
        head: "mixture", a distribution of five Gaussians, or "plain", one action; see `actions`.
    """
    see = _looking(shape, layout)
    body = Recalling(see, Eyes(see, embed), embed, hidden, layers, read)
    return Policy(see, body, head_of(head, read, classes))


@backbone("bc-resnet-t")
def bc_resnet_t(
    shape: tuple[int, ...],
    classes: int,
    *,
    layout: Layout,
    embed: int = 64,
    depth: int = 4,
    heads: int = 6,
    size: int = 64,
    mlp: int = 256,
    dropout: float = 0.1,
    read: int = 1024,
    head: Kind = "mixture",
) -> Policy:
    """LIBERO's ResNet-T: pictures through ResNets that hear the instruction, steps through a transformer.

    4,333,707 parameters for LIBERO's inputs and actions, 2,563,904 of them in two ResNets.

    Args:
        embed: width of a token. depth, heads, size, mlp, dropout: of the transformer over steps; size is a head's.
        read, head: as for bc-resnet-rnn.
    """
    see = _looking(shape, layout)
    layers = [Layer(embed, heads, size, mlp, dropout) for _ in range(depth)]
    return Policy(see, Temporal(see, Eyes(see, embed), embed, layers, read), head_of(head, read, classes))


@backbone("bc-vit-t")
def bc_vit_t(
    shape: tuple[int, ...],
    classes: int,
    *,
    layout: Layout,
    patch: int = 8,
    look: int = 128,
    look_depth: int = 7,
    look_heads: int = 8,
    look_size: int = 120,
    embed: int = 64,
    depth: int = 4,
    heads: int = 6,
    size: int = 64,
    mlp: int = 256,
    dropout: float = 0.1,
    read: int = 1024,
    head: Kind = "mixture",
) -> Policy:
    """LIBERO's ViT-T: patches of all pictures through one transformer, steps through another.

    6,333,771 parameters for LIBERO's inputs and actions, 4,563,968 of them before the transformer over steps.

    Args:
        patch: side of a patch, of a picture that a first convolution has halved. look, look_depth, look_heads,
            look_size: width, depth, heads and a head's size of the transformer over patches.
        embed, depth, heads, size, mlp, dropout: of that over steps; mlp and dropout of both.
        read, head: as for bc-resnet-rnn.
    """
    see = _looking(shape, layout)
    patches = [Layer(look, look_heads, look_size, mlp, dropout) for _ in range(look_depth)]
    layers = [Layer(embed, heads, size, mlp, dropout) for _ in range(depth)]
    body = Temporal(see, Glance(see, patch, look, patches, embed), embed, layers, read)
    return Policy(see, body, head_of(head, read, classes))


def _looking(shape: tuple[int, ...], layout: Layout) -> Parts:
    steps(shape)
    see = Parts(layout, trained=False, embed=False)
    if not see.cameras or see.entities:
        raise ValueError("it looks at pictures alone; set stream.observe=camera, or model=bc-transformer")
    return see


def _normalise(channels: int) -> nn.Module:
    return nn.GroupNorm(max(1, channels // GROUP), channels)


def _layers(width: int, read: int) -> nn.Module:
    """Before the head."""
    return nn.Sequential(nn.Linear(width, read), nn.ReLU(), nn.Linear(read, read), nn.ReLU())


class Eye(nn.Module):
    """The first half of a ResNet-18, each block scaled and shifted by the instruction, and where its features are."""

    def __init__(self, told: int, embed: int) -> None:
        super().__init__()
        from torchvision.models import resnet18

        net = resnet18(norm_layer=_normalise)
        self.stem = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool)
        self.blocks = nn.ModuleList([*net.layer1, *net.layer2])
        channels = [block.conv2.out_channels for block in self.blocks]
        self.film = nn.ModuleList(nn.Linear(told, 2 * width) for width in channels)
        self.points = nn.Conv2d(channels[-1], embed // 2, 1)
        self.project = nn.Linear(2 * (embed // 2), embed)

    def forward(self, x: Tensor, said: Tensor) -> Tensor:
        """Pictures [N, 3, S, S] and instructions [N, L] to [N, E]."""
        x = self.stem(x)
        for block, film in zip(self.blocks, self.film, strict=True):
            scale, shift = film(said)[..., None, None].chunk(2, 1)
            x = (1 + scale) * block(x) + shift
        maps = self.points(x)
        maps = maps.flatten(2).softmax(2).view_as(maps)  # [N, E / 2, h, w], each a distribution over places
        line = torch.linspace(-1, 1, maps.shape[-1], dtype=x.dtype, device=x.device)
        return self.project(torch.cat([maps.sum(2) @ line, maps.sum(3) @ line], 1))


class Eyes(nn.Module):
    """One for each camera."""

    def __init__(self, see: Parts, embed: int) -> None:
        super().__init__()
        self.each = nn.ModuleList(Eye(see.told, embed) for _ in see.cameras)

    def forward(self, pictures: Tensor, said: Tensor) -> Tensor:
        """Pictures [B, H, V, 3, S, S] and instructions [B, L] to [B, H, V, E]."""
        B, H = pictures.shape[:2]
        told = said[:, None].expand(-1, H, -1).flatten(0, 1)
        seen = [eye(view.flatten(0, 1), told) for eye, view in zip(self.each, pictures.unbind(2), strict=True)]
        return torch.stack(seen, 1).unflatten(0, (B, H))


class Glance(nn.Module):
    """Patches of all pictures of a step, and the instruction, through a transformer; one token says what was seen."""

    def __init__(self, see: Parts, patch: int, width: int, layers: list[Layer], embed: int) -> None:
        super().__init__()
        side = -(-see.picture[1] // 2) // patch
        if not side:
            raise ValueError(f"patch={patch} leaves no patch of a picture of {see.picture[1]} pixels")
        views = len(see.cameras)
        self.stem = nn.Sequential(
            nn.Conv2d(3, 64, 7, 2, 3, bias=False), _normalise(64), nn.ReLU(),
            nn.Conv2d(64, width, patch, patch), _normalise(width),
        )  # fmt: skip
        self.said = nn.Linear(see.told, width)
        self.summary = nn.Parameter(0.02 * torch.randn(width))
        self.where = nn.Parameter(0.02 * torch.randn(views, side * side, width))
        self.layers = nn.ModuleList(layers)
        self.project = nn.Linear(width, embed)

    def forward(self, pictures: Tensor, said: Tensor) -> Tensor:
        """Pictures [B, H, V, 3, S, S] and instructions [B, L] to [B, H, 1, E]."""
        B, H, V = pictures.shape[:3]
        patches = self.stem(pictures.flatten(0, 2)).flatten(2).transpose(1, 2).unflatten(0, (B * H, V)) + self.where
        words = self.said(said)[:, None].expand(-1, H, -1).reshape(B * H, 1, -1)
        x = torch.cat([self.summary.expand_as(words), words, patches.flatten(1, 2)], 1)
        for layer in self.layers[:-1]:
            x = layer(x)
        x = self.layers[-1](x, some=slice(0, 1))
        return self.project(x).unflatten(0, (B, H))


class Recalling(nn.Module):
    """Step after step through an LSTM; what is known after the newest."""

    def __init__(self, see: Parts, look: nn.Module, embed: int, hidden: int, layers: int, read: int) -> None:
        super().__init__()
        self.look, self.said = look, nn.Linear(see.told, WORDS)
        self.recall = nn.LSTM(len(see.cameras) * embed + WORDS + see.robot, hidden, layers, batch_first=True)
        self.read = _layers(hidden, read)

    def forward(self, robot: Tensor, entities: Tensor, said: Tensor, pictures: Tensor) -> Tensor:
        """To [B, read]."""
        words = self.said(said)[:, None].expand(-1, robot.shape[1], -1)
        x = torch.cat([self.look(pictures, said).flatten(2), words, robot], 2)
        return self.read(self.recall(x)[0][:, -1])


class Temporal(nn.Module):
    """Tokens of each step, which see those of the same step and of those before; the newest instruction's is read."""

    def __init__(self, see: Parts, look: nn.Module, embed: int, layers: list[Layer], read: int) -> None:
        super().__init__()
        self.look, self.said = look, nn.Linear(see.told, embed)
        self.sizes = [GRIPPER, see.robot - GRIPPER] if see.robot > GRIPPER else [see.robot]
        self.robot = nn.ModuleList(nn.Linear(size, embed) for size in self.sizes)
        self.layers = nn.ModuleList(layers)
        self.read = _layers(embed, read)

    def forward(self, robot: Tensor, entities: Tensor, said: Tensor, pictures: Tensor) -> Tensor:
        """To [B, read]."""
        H = robot.shape[1]
        parts = zip(self.robot, robot.split(self.sizes, 2), strict=True)
        own = torch.stack([layer(part) for layer, part in parts], 2)
        words = self.said(said)[:, None, None].expand(-1, H, -1, -1)
        x = torch.cat([words, own, self.look(pictures, said)], 2)  # [B, H, n, E]
        n = x.shape[2]
        x = (x + _when(H, x.shape[3]).to(x)[:, None]).flatten(1, 2)
        step = torch.arange(H, device=x.device).repeat_interleave(n)
        before = step[:, None] >= step
        for layer in self.layers[:-1]:
            x = layer(x, before)
        return self.read(self.layers[-1](x, before, slice(-n, 1 - n))[:, 0])


def _when(count: int, width: int) -> Tensor:
    """[count, width] sines and cosines of steps; wavelengths grow to ten times the shortest, as windows are short."""
    pace = 10.0 ** (-torch.arange(0, width, 2) / width)
    turn = torch.arange(count)[:, None] * pace
    return torch.cat([turn.sin(), turn.cos()], 1)[:, :width]


class Layer(nn.Module):
    """Attention and two layers, each after a norm and beside what went in; heads may be wider than their share."""

    def __init__(self, width: int, heads: int, size: int, mlp: int, dropout: float) -> None:
        super().__init__()
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout={dropout!r} must be a share in [0, 1)")
        self.heads, self.dropout = heads, dropout
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attend = nn.Linear(width, 3 * heads * size, bias=False)
        self.join = nn.Sequential(nn.Linear(heads * size, width), nn.Dropout(dropout))
        self.mlp = nn.Sequential(
            nn.Linear(width, mlp), nn.GELU(), nn.Dropout(dropout), nn.Linear(mlp, width), nn.Dropout(dropout)
        )

    def forward(self, x: Tensor, sees: Tensor | None = None, some: slice = slice(None)) -> Tensor:
        """Some of the tokens [B, N, W] ask those that they see, of `sees` [N, N]: [B, M, W]."""
        asked = self.attend(self.norm1(x)).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # [B, heads, N, 3 size]
        q, k, v = asked.chunk(3, -1)
        mask = sees[some] if sees is not None else None
        seen = F.scaled_dot_product_attention(q[:, :, some], k, v, mask, self.dropout if self.training else 0.0)
        x = x[:, some] + self.join(seen.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))
