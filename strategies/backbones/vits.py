"""Vision transformers by name: the small one that is shipped, ViT-B/16, and any of timm's."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...base.errors import StorageError, UsageError
from . import backbone
from .vit import ViT
from .weights import FACTS, UNKNOWN, Pretrained, download, facts, load

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer

    from .vit import Scale

# vit-micro, and the weights that are shipped for it
MICRO = {"patch_size": 6, "embed_dim": 192, "depth": 6, "num_heads": 6}
MICRO_WEIGHTS = Path(__file__).parent / "vit-micro.safetensors"
MICRO_SCALE = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

B16 = "vit_base_patch16_224"


@backbone("vit-micro")
def vit_micro(
    shape: tuple[int, ...],
    classes: int,
    *,
    weights: str = "shipped",
    normalise: str = "weights",
    image_size: int | Sequence[int] | None = None,
    drop_path: float = 0.0,
    precision: str = "float32",
) -> ViT:
    """A vision transformer of a few megabytes, trained on generated images and shipped.

    Args:
        weights: "shipped", "random", or a file (see `weights.load`).
        normalise: "weights", as in their training, or "none".
        image_size: height and width of the network's input, if inputs are to be resized; a multiple of the patch.
        drop_path: share of residual branches dropped in training, rising linearly over the blocks.
        precision: "float32", or "bfloat16" for the body's matrix products (autocast): faster, with other last digits.
    """
    _timm()
    from timm.models.vision_transformer import VisionTransformer

    body = VisionTransformer(
        img_size=_size(shape, image_size), num_classes=0, drop_path_rate=_share(drop_path), **MICRO
    )
    net = _network(body, shape, classes, _scale(normalise, MICRO_SCALE), precision)
    if weights == "shipped":
        return _filled(net, MICRO_WEIGHTS, "vit-micro")
    return net if weights == "random" else _filled(net, Path(weights).expanduser())


@backbone("vit-b16")
def vit_b16(
    shape: tuple[int, ...],
    classes: int,
    *,
    tag: str = f"{B16}.augreg_in21k",
    weights: str = "hub",
    normalise: str = "weights",
    image_size: int | Sequence[int] | None = None,
    drop_path: float = 0.0,
    precision: str = "float32",
) -> ViT:
    """ViT-B/16, by default pre-trained on ImageNet-21k (Steiner et al., 2022).

    The options are those of `timm`. The body has 85,798,656 parameters for images of 224 x 224. The published codes of
    DualPrompt, L2P and C-LN feed [0, 1] images without normalisation: normalise="none".
    """
    if tag.partition(".")[0] != B16:
        raise ValueError(f"tag={tag!r} must begin with {B16!r}; the model timm takes any tag")
    options = {"normalise": normalise, "image_size": image_size, "drop_path": drop_path, "precision": precision}
    return any_tag(shape, classes, tag=tag, weights=weights, **options)


@backbone("timm")
def any_tag(
    shape: tuple[int, ...],
    classes: int,
    *,
    tag: str = "",
    weights: str = "hub",
    normalise: str = "weights",
    image_size: int | Sequence[int] | None = None,
    drop_path: float = 0.0,
    precision: str = "float32",
) -> ViT:
    """Any vision transformer of timm, by tag.

    Args:
        tag: timm's name of architecture and weights, such as "vit_small_patch16_224.augreg_in21k".
        weights: "hub" (timm's, downloaded once), "random", or a file (see `weights.load`).
        normalise: "weights", by the mean and standard deviation that the weights were trained with, or "none".
        image_size: height and width of the network's input, if inputs are to be resized; by default as they come. The
            position embedding is resampled where the weights were trained on another size.
        drop_path: share of residual branches dropped in training, rising linearly over the blocks.
        precision: "float32", or "bfloat16" for the body's matrix products (autocast): faster, with other last digits.
    """
    timm, tag = _timm(), str(tag)
    architecture = tag.partition(".")[0]
    if not timm.models.is_model_in_modules(architecture, ("vision_transformer", "deit")):
        names = [name for module in ("vision_transformer", "deit") for name in timm.list_models(module=module)]
        near = get_close_matches(architecture, names, n=1, cutoff=0.5)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise UsageError(f"tag={tag!r} is not a vision transformer of timm, such as {B16}.augreg_in21k.{hint}")
    if "radio" in architecture or "flexi" in architecture:
        raise UsageError(f"tag={tag!r} has positions that are resampled in a way of its own, which is not supported.")
    body = timm.create_model(tag, num_classes=0, img_size=_size(shape, image_size), drop_path_rate=_share(drop_path))
    config = body.pretrained_cfg
    net = _network(body, shape, classes, _scale(normalise, (config["mean"], config["std"])), precision)
    if weights == "hub":
        full = f"{architecture}.{config.get('tag')}"
        return _filled(net, download(full, config), full, FACTS.get(config.get("tag"), UNKNOWN))
    return net if weights == "random" else _filled(net, Path(weights).expanduser())


def _timm() -> Any:
    try:
        import timm
    except ImportError:
        raise StorageError(
            "vision transformers come with timm, which is not installed. Run: pip install timm."
        ) from None
    return timm


def _size(shape: tuple[int, ...], image_size: int | Sequence[int] | None) -> tuple[int, int]:
    """Height and width of the network's input."""
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise ValueError("a vision transformer reads images of 3 channels, or of 1, which is repeated")
    size = shape[1:] if image_size is None else image_size
    size = (size, size) if isinstance(size, int) else tuple(size)
    if len(size) != 2 or not all(isinstance(side, int) and side > 0 for side in size):
        raise ValueError(f"image_size={image_size!r} must be a number of pixels, or height and width")
    return size


def _share(drop_path: float) -> float:
    if not 0 <= drop_path < 1:
        raise ValueError(f"drop_path={drop_path!r} must be a share in [0, 1)")
    return float(drop_path)


def _scale(normalise: str, trained: Scale) -> Scale | None:
    if normalise not in ("weights", "none"):
        raise ValueError(f'normalise={normalise!r} must be "weights" or "none"')
    return trained if normalise == "weights" else None


def _network(body: VisionTransformer, shape: tuple[int, ...], classes: int, scale: Scale | None, precision: str) -> ViT:
    """With its random weights."""
    if precision not in ("float32", "bfloat16"):
        raise ValueError(f'precision={precision!r} must be "float32" or "bfloat16"')
    size, patch = body.patch_embed.img_size, body.patch_embed.patch_size
    if any(side % step for side, step in zip(size, patch, strict=True)):
        fits = [-(-side // step) * step for side, step in zip(size, patch, strict=True)]
        fits = fits[0] if fits[0] == fits[1] else fits
        raise ValueError(f"{list(size)} pixels are no multiple of the patch {list(patch)}; set model.image_size={fits}")
    resize = None if size == tuple(shape[1:]) else size
    return ViT(body, classes, scale=scale, resize=resize, half=precision == "bfloat16")


def _filled(net: ViT, file: Path, name: str = "", known: tuple[str, str] | None = None) -> ViT:
    """With the weights of a file instead."""
    digest = load(net.body, file)
    by = "none"
    if net.mean is not None:
        mean, std = (" ".join(f"{value:g}" for value in part.flatten()) for part in (net.mean, net.std))
        by = f"mean {mean}, std {std}"
    net.pretrained = Pretrained(name or file.name, digest, by, *(known or facts(file)))
    return net
