"""The vision transformer, one for all methods, with places to plug prompts, prefixes, norms and adapters in.

Its modules and weights are timm's (Dosovitskiy et al., 2021, and successors); only the way through its blocks is
written out here, where something is plugged in. Nothing is plugged in by default, and then it is timm's network bit
for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .weights import Pretrained

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer

    Scale = tuple[Sequence[float], Sequence[float]]


@dataclass(frozen=True)
class Plugs:
    """Places to change the transformer, each a function or None; all None leaves it as it is, bit for bit.

    Attributes:
        embed: tokens [B, N, D] after the position embedding -> tokens [B, N', D]. Prompt tokens go to the END, so
            that the class token stays number 0; they take no part where features are an average over patches.
        norm: (number of the norm, its input [B, N, D]) -> (weight, bias), each [D], or [B, D] for one pair per
            sample. Block 0 has the norms 0 and 1, block 1 has 2 and 3, ..., the final norm is number 2 * depth; where
            that one follows the average over patches, its input is [B, 1, D].
        attend: (block, k, v), each [B, H, N, d] -> k, v with prefixes prepended [B, H, L + N, d]. Queries and the
            number of tokens stay.
        beside: (block, the input [B, N, D] of the block's MLP half, before its norm) -> what is added to the block's
            output: a parallel adapter.
    """

    embed: Callable[[Tensor], Tensor] | None = None
    norm: Callable[[int, Tensor], tuple[Tensor, Tensor]] | None = None
    attend: Callable[[int, Tensor, Tensor], tuple[Tensor, Tensor]] | None = None
    beside: Callable[[int, Tensor], Tensor] | None = None


_NOTHING = Plugs()


class ViT(nn.Module):
    """A pre-norm vision transformer and one linear head over all classes.

    Args:
        body: timm's transformer, made with `num_classes=0`.
        scale: (mean, standard deviation) per channel by which inputs are normalised; None leaves them as they come.
        resize: (height, width) to which inputs are resized (bilinear, antialiased); None where they come in that size.
        pretrained: facts about the weights of the body; None if they are random.
        half: whether the body's matrix products are taken in bfloat16; what leaves it is float32.

    Attributes:
        width, depth, heads: D, number of blocks, attention heads per block.
    """

    def __init__(
        self,
        body: VisionTransformer,
        classes: int,
        *,
        scale: Scale | None = None,
        resize: tuple[int, int] | None = None,
        pretrained: Pretrained | None = None,
        half: bool = False,
    ) -> None:
        super().__init__()
        _check(body)
        self.body = body
        self.width, self.depth, self.heads = body.num_features, len(body.blocks), body.blocks[0].attn.num_heads
        self.head = nn.Linear(self.width, classes)
        nn.init.trunc_normal_(self.head.weight, std=0.02)  # as the body's linear layers
        nn.init.zeros_(self.head.bias)
        mean, std = (None, None) if scale is None else (torch.tensor(values).reshape(-1, 1, 1) for values in scale)
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.resize, self.pretrained, self.half = resize, pretrained, half
        self._own_tokens = body.patch_embed.num_patches + body.num_prefix_tokens

    def tokens(self, x: Tensor, plugs: Plugs | None = None) -> Tensor:
        """Images [B, C, H, W] to tokens [B, N, D] after the final norm, those that `embed` added included."""
        if self.half:
            with torch.autocast(x.device.type, torch.bfloat16):
                return self._tokens(x, plugs or _NOTHING).float()
        return self._tokens(x, plugs or _NOTHING)

    def _tokens(self, x: Tensor, plugs: Plugs) -> Tensor:
        body = self.body
        x = body._pos_embed(body.patch_embed(self._prepared(x)))
        if plugs.embed is not None:
            x = plugs.embed(x)
        x = body.norm_pre(x)
        for i in range(self.depth):
            x = self._block(i, x, plugs)
        return _normed(2 * self.depth, body.norm, x, plugs)

    def features(self, x: Tensor, plugs: Plugs | None = None) -> Tensor:
        """Images [B, C, H, W] to [B, D]: the class token, or the average over patches where timm's model pools so."""
        plugs, body = plugs or _NOTHING, self.body
        pooled = body.pool(self.tokens(x, plugs)[:, : self._own_tokens])
        return _normed(2 * self.depth, body.fc_norm, pooled[:, None], plugs)[:, 0]

    def query(self, x: Tensor) -> Tensor:
        """Images [B, C, H, W] to [B, D], by which tasks are told apart: the features with nothing plugged in."""
        return self.features(x)

    def forward(self, x: Tensor, plugs: Plugs | None = None) -> Tensor:
        """Images [B, C, H, W] to logits [B, classes]."""
        return self.head(self.features(x, plugs))

    def norms(self) -> list[nn.LayerNorm]:
        """The 2 * depth + 1 norms in the order of their numbers."""
        last = self.body.fc_norm if isinstance(self.body.norm, nn.Identity) else self.body.norm
        return [norm for block in self.body.blocks for norm in (block.norm1, block.norm2)] + [last]

    def freeze(self) -> None:
        """Let no parameter of the body require a gradient; the head stays as it is."""
        self.body.requires_grad_(False)

    def _prepared(self, x: Tensor) -> Tensor:
        if self.resize is not None:
            x = F.interpolate(x, self.resize, mode="bilinear", antialias=True)
        if x.shape[1] == 1:
            x = x.expand(-1, 3, -1, -1)
        return x if self.mean is None else (x - self.mean) / self.std

    def _block(self, i: int, x: Tensor, plugs: Plugs) -> Tensor:
        block = self.body.blocks[i]
        y = _normed(2 * i, block.norm1, x, plugs)
        x = x + block.drop_path1(block.ls1(_attention(i, block.attn, y, plugs)))
        y = _normed(2 * i + 1, block.norm2, x, plugs)
        out = x + block.drop_path2(block.ls2(block.mlp(y)))
        return out if plugs.beside is None else out + plugs.beside(i, x)


def _attention(i: int, attn: nn.Module, x: Tensor, plugs: Plugs) -> Tensor:
    if plugs.attend is None:
        return attn(x)
    B, N, _ = x.shape
    q, k, v = attn.qkv(x).reshape(B, N, 3, attn.num_heads, -1).permute(2, 0, 3, 1, 4).unbind(0)  # each [B, H, N, d]
    k, v = plugs.attend(i, attn.k_norm(k), v)
    y = F.scaled_dot_product_attention(attn.q_norm(q), k, v, dropout_p=attn.attn_drop.p if attn.training else 0.0)
    return attn.proj_drop(attn.proj(y.transpose(1, 2).reshape(B, N, -1)))


def _normed(number: int, norm: nn.Module, x: Tensor, plugs: Plugs) -> Tensor:
    if plugs.norm is None or isinstance(norm, nn.Identity):
        return norm(x)
    return renormed(norm, x, *plugs.norm(number, x))


def renormed(norm: nn.LayerNorm, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A norm of x [B, N, D] with another weight and bias, each [D], or [B, D] for one pair per sample."""
    if weight.dim() == 1:
        return F.layer_norm(x, norm.normalized_shape, weight, bias, norm.eps)
    return torch.addcmul(bias[:, None], F.layer_norm(x, norm.normalized_shape, None, None, norm.eps), weight[:, None])


def _check(body: nn.Module) -> None:
    """timm has relatives whose blocks go another way; the way written out here would be wrong for them."""
    from timm.models.vision_transformer import VisionTransformer

    if type(body) is not VisionTransformer or not all(_plain(block) for block in body.blocks):
        raise ValueError("it is not a plain vision transformer of pre-norm blocks with layer normalisation")
    if not body.global_pool or not (isinstance(body.norm, nn.LayerNorm) or isinstance(body.fc_norm, nn.LayerNorm)):
        raise ValueError("it has no pooling, or no layer normalisation at its end")


def _plain(block: nn.Module) -> bool:
    from timm.models.vision_transformer import Attention, Block

    if type(block) is not Block or type(block.attn) is not Attention:
        return False
    trained = {name for name, part in block.attn.named_children() if list(part.parameters())}
    normed = isinstance(block.norm1, nn.LayerNorm) and isinstance(block.norm2, nn.LayerNorm)
    return normed and trained <= {"qkv", "q_norm", "k_norm", "proj"}  # later ones add gates and more norms
