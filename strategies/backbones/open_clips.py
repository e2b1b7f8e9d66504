"""CLIP by name: ViT-B/16 with OpenAI's weights, and any of open_clip's models that reads sentences as CLIP does.

The networks are open_clip's (Ilharco et al., 2021). Their text tower looks back only, and answers at the end mark of a
sentence, so what follows the longest sentence is cut off: the same embeddings for a fraction of the time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...base.errors import StorageError, UsageError, unknown
from . import backbone
from .clip import Pixels
from .weights import UNKNOWN, Pretrained, download, facts, fill

if TYPE_CHECKING:
    from open_clip.model import CLIP

_WEB = "from the web, where classes of any benchmark may be among them"
FACTS = {
    "openai": ("400 million images with texts (WIT)", _WEB),
    "laion400m": ("LAION-400M, images with texts", _WEB),
    "laion2b": ("LAION-2B, English, images with texts", _WEB),
    "datacomp": ("a pool of DataComp, images with texts", _WEB),
    "commonpool": ("a part of CommonPool, images with texts", _WEB),
    "metaclip": ("MetaCLIP, images with texts", _WEB),
    "dfn": ("Data Filtering Networks, images with texts", _WEB),
}  # by how a tag begins
_SIZES = ("input_resolution", "context_length", "vocab_size")  # what OpenAI's weights hold beside the network


@backbone("clip-b16")
def clip_b16(
    shape: tuple[int, ...],
    classes: int,
    *,
    tag: str = "openai",
    weights: str = "hub",
    normalise: str = "weights",
    image_size: int | Sequence[int] | None = None,
    precision: str = "float32",
    recompute: bool = False,
) -> OpenCLIP:
    """CLIP ViT-B/16 (Radford et al., 2021), by default with OpenAI's weights: 149,620,737 parameters.

    The options are those of `open-clip`.
    """
    options = {"normalise": normalise, "image_size": image_size, "precision": precision, "recompute": recompute}
    return any_clip(shape, classes, model="ViT-B-16", tag=tag, weights=weights, **options)


@backbone("open-clip")
def any_clip(
    shape: tuple[int, ...],
    classes: int,
    *,
    model: str = "ViT-B-16",
    tag: str = "",
    weights: str = "hub",
    normalise: str = "weights",
    image_size: int | Sequence[int] | None = None,
    precision: str = "float32",
    recompute: bool = False,
) -> OpenCLIP:
    """A CLIP of open_clip, by model and tag.

    Args:
        model: open_clip's name of an architecture, such as "ViT-B-16".
        tag: open_clip's name of weights, such as "laion2b_s34b_b88k". It also tells the activation (QuickGELU or not)
            and the normalisation that they were trained with, and may be left out where `weights` is no hub.
        weights: "hub" (the tag's, downloaded once), "random", or a file: .safetensors, or a .pt that holds nothing but
            tensors. OpenAI's own .pt files hold code, and are not read.
        normalise: "weights", by the mean and standard deviation of their training, or "none".
        image_size: height and width of the network's input, where it is not the model's own; the position embedding of
            the weights is resampled.
        precision: "float32", or "bfloat16" for the towers' matrix products (autocast): faster, with other last digits.
        recompute: whether training forgets what a block computes inside and computes it again for the gradient: the
            same numbers, a third more operations, a fraction of the memory.
    """
    open_clip = _open_clip()
    if normalise not in ("weights", "none"):
        raise ValueError(f'normalise={normalise!r} must be "weights" or "none"')
    if precision not in ("float32", "bfloat16"):
        raise ValueError(f'precision={precision!r} must be "float32" or "bfloat16"')
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise ValueError("it reads images of 3 channels, or of 1, which is repeated")
    known = _known(model, tag, weights)
    body = _body(model, bool(known.get("quick_gelu")), image_size)
    body.set_grad_checkpointing(recompute)
    size = body.visual.image_size
    scale = (known.get("mean", open_clip.OPENAI_DATASET_MEAN), known.get("std", open_clip.OPENAI_DATASET_STD))
    pixels = Pixels(size if isinstance(size, tuple) else (size, size), scale if normalise == "weights" else None)
    net = OpenCLIP(body, open_clip.get_tokenizer(model), pixels, half=precision == "bfloat16")
    if weights == "random":
        return net
    name = f"{model}.{tag}" if weights == "hub" else Path(weights).name
    path = _downloaded(name, known) if weights == "hub" else Path(weights).expanduser()
    digest = fill(body, path, lambda held: _of_open_clip(held, body))
    told = next((about for start, about in FACTS.items() if tag.startswith(start)), UNKNOWN)
    net.pretrained = Pretrained(name, digest, pixels.told(), *(told if weights == "hub" else facts(path)))
    return net


class OpenCLIP(nn.Module):
    """A CLIP of open_clip, as strategies know image-text networks.

    Args:
        tokeniser: sentences to tokens [N, context], each with one end mark, padded by 0.
        half: whether matrix products are taken in bfloat16; what leaves the towers is float32.

    Attributes:
        pretrained: facts about the weights; None if they are random.
    """

    def __init__(self, body: CLIP, tokeniser: Any, pixels: Pixels, half: bool = False) -> None:
        super().__init__()
        self.body, self.tokeniser, self.pixels, self.half = body, tokeniser, pixels, half
        self.pretrained: Pretrained | None = None
        body.logit_scale.requires_grad_(False)

    @property
    def logit_scale(self) -> nn.Parameter:
        """Logarithm of the factor on cosines; frozen."""
        return self.body.logit_scale

    def forward(self, x: Tensor) -> Tensor:
        """As `encode_image`."""
        return self.encode_image(x)

    def encode_image(self, x: Tensor) -> Tensor:
        """Images [B, C, H, W] in [0, 1] to embeddings [B, D], not normalised."""
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.half):
            return self.body.visual(self.pixels(x)).float()

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Tokens [N, L] to embeddings [N, D], not normalised, for any L that holds every end mark."""
        body, L = self.body, tokens.shape[1]
        with torch.autocast(tokens.device.type, torch.bfloat16, enabled=self.half):
            x = body.token_embedding(tokens) + body.positional_embedding[:L]
            x = body.transformer(x, attn_mask=body.attn_mask[:L, :L])
            ends = tokens.argmax(1)  # the end mark is the last entry of the vocabulary
            x = body.ln_final(x[torch.arange(len(x), device=x.device), ends])
            project = body.text_projection
            return (project(x) if isinstance(project, nn.Linear) else x @ project).float()

    def tokenise(self, sentences: Sequence[str]) -> Tensor:
        """Sentences to tokens [N, L], cut behind the longest; one that is longer than the context loses its end."""
        tokens = self.tokeniser(list(sentences))
        return tokens[:, : int(tokens.argmax(1).max()) + 1].clone() if len(tokens) else tokens

    def random_tokens(self, count: int, length: int, generator: torch.Generator) -> Tensor:
        """Tokens [count, length + 2] of random pieces of words between the marks, drawn on the CPU."""
        start, end = self.tokeniser.sot_token_id, self.tokeniser.eot_token_id  # the last two of the vocabulary
        pieces = torch.randint(1, start, (count, length), generator=generator)
        return F.pad(F.pad(pieces, (1, 0), value=start), (0, 1), value=end)


def _open_clip() -> Any:
    try:
        import open_clip
    except ImportError:
        raise StorageError(
            "CLIP comes with open_clip, which is not installed. Run: pip install open_clip_torch."
        ) from None
    return open_clip


def _known(model: str, tag: str, weights: str) -> Mapping[str, Any]:
    """What open_clip tells about a tag; nothing about none, which a hub cannot do with."""
    open_clip = _open_clip()
    if model not in open_clip.list_models():
        near = get_close_matches(model, open_clip.list_models(), n=1, cutoff=0.5)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise UsageError(f"model={model!r} is not one of open_clip's, such as ViT-B-16.{hint}")
    tags = open_clip.list_pretrained_tags_by_model(model)
    if (tag or weights == "hub") and tag not in tags:
        raise unknown(f"tag of open_clip's {model}", tag, tags)
    return open_clip.get_pretrained_cfg(model, tag) or {}


def _body(model: str, quick_gelu: bool, image_size: int | Sequence[int] | None) -> CLIP:
    """The network with random weights, in float32."""
    from open_clip.model import CLIP

    config = _open_clip().get_model_config(model)
    texts = config["text_cfg"]
    strange = config.get("custom_text") or "multimodal_cfg" in config or "hf_model_name" in texts
    if strange or any(name.startswith(("hf_", "tokenizer")) for name in texts):
        raise UsageError(f"model={model!r} reads sentences in a way of its own, which is not supported.")
    config.pop("custom_text", None)
    if image_size is not None:
        config["vision_cfg"]["image_size"] = image_size if isinstance(image_size, int) else tuple(image_size)
    body = CLIP(**config | {"quick_gelu": quick_gelu or config.get("quick_gelu", False)})
    if body.attn_mask is None or body.text_pool_type != "argmax":
        raise UsageError(f"model={model!r} does not read sentences from left to right, which is not supported.")
    return body


def _downloaded(name: str, known: Mapping[str, Any]) -> Path:
    repository, _, file = known["hf_hub"].rpartition("/")
    file = file or "open_clip_model.safetensors"
    return download(name, {"hf_hub_id": repository, "url": known["url"]}, file)


def _of_open_clip(held: Any, body: CLIP) -> dict[str, Any]:
    """Tensors as open_clip names them, of what its training saves, with positions for this size of image."""
    from open_clip.model import resize_pos_embed

    held = held.get("state_dict", held)
    found = {name.removeprefix("module."): value.float() for name, value in held.items() if name not in _SIZES}
    resize_pos_embed(found, body)
    return found
