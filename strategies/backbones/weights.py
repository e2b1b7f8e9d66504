"""Pre-trained weights: where they come from, how a file is read, what is known about them.

Whatever the source, the weights end up as one file, whose bytes are hashed for the record and whose every tensor must
find its place; nothing is filled in silently, and nothing that could run code is opened.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ...base.errors import CarryoverError, InvalidError, MismatchError, StorageError, UsageError
from ...base.files import parse_json

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer

_BOTH = ("ImageNet-21k, supervised", "contains ImageNet-R's 200 classes and most of CIFAR-100's")
_TUNED = (
    "ImageNet-21k, then ImageNet-1k, supervised",
    "ImageNet-21k contains most of CIFAR-100's classes; ImageNet-1k, whose classes contain ImageNet-R's, came last",
)
_LABEL_FREE = ("ImageNet-1k, self-supervised", "images of ImageNet-R's 200 classes, without their labels")
FACTS = {
    "augreg_in21k": _BOTH,
    "orig_in21k": _BOTH,
    "augreg_in21k_ft_in1k": _TUNED,
    "augreg2_in21k_ft_in1k": _TUNED,
    "orig_in21k_ft_in1k": _TUNED,
    "augreg_in1k": ("ImageNet-1k, supervised", "contains ImageNet-R's 200 classes"),
    "dino": _LABEL_FREE,
    "mae": _LABEL_FREE,
}
UNKNOWN = ("unknown", "unknown")
_LEFT_BEHIND = ("head.", "head_dist.", "pre_logits.", "attn_pool.")  # what files hold beside the body
_PICKLED = (".pt", ".pth", ".bin", ".tar")


@dataclass(frozen=True)
class Pretrained:
    """Facts about pre-trained weights, for the record.

    Attributes:
        name: timm's or open_clip's tag, or the file's name.
        sha256: of the bytes of the weights' file; of a download, of the file in the hub's cache.
        normalise: what inputs are normalised by before the first layer.
        data: what the weights were trained on.
        overlap: which classes of benchmarks that contains.
    """

    name: str
    sha256: str
    normalise: str
    data: str
    overlap: str


def download(name: str, config: Mapping[str, Any], file: str = "model.safetensors") -> Path:
    """The file of the weights `name` in the hub's cache, downloaded if it is not there yet.

    Args:
        config: timm's description of the weights (`pretrained_cfg`): of it, "hf_hub_id" and "url".
        file: its name on the hub.

    Raises:
        StorageError: no network, no space, no such file; it says what to get where, and how to give it.
    """
    mend = "and give it by model.weights=FILE, or start from model.weights=random."
    repository, _, revision = (config.get("hf_hub_id") or "").partition("@")
    if not repository:
        raise StorageError(f"the weights {name} are not on the hub. Download {config.get('url')} {mend}")
    try:
        from huggingface_hub import hf_hub_download

        return Path(hf_hub_download(repository, file, revision=revision or None))
    except Exception as error:  # network, TLS, disk, a hub that is switched off: each raises its own
        raise StorageError(
            f"the weights {name} cannot be downloaded: {_reason(error)}. "
            f"Download {file} from https://huggingface.co/{repository} {mend}"
        ) from error


@torch.no_grad()
def load(body: VisionTransformer, path: Path) -> str:
    """Fill every parameter of a transformer without head from a file; gives the SHA-256 of the file's bytes.

    Read are `.safetensors`, the `.npz` files of the original ViT code (Dosovitskiy et al., 2021), and PyTorch files
    that hold nothing but tensors. A position embedding of another grid is resampled, both by timm.

    Raises:
        StorageError: no such file. InvalidError: not the format that its name says. MismatchError: tensors that are
            missing, left over, of other shapes or not finite.
    """
    if path.suffix != ".npz":
        return fill(body, path, lambda held: _of_timm(held, body), kinds="a .safetensors, an .npz or a .pth file")
    _exists(path)
    for parameter in body.parameters():
        parameter.fill_(torch.nan)  # what the file leaves out is then seen
    _fill_from_arrays(body, path)
    return _finished(body, path)


@torch.no_grad()
def fill(
    net: nn.Module,
    path: Path,
    adapt: Callable[[Any], Mapping[str, Any]] = dict,
    kinds: str = "a .safetensors or a .pth file",
) -> str:
    """Fill every parameter and buffer of a network from a file of tensors; gives the SHA-256 of the file's bytes.

    Args:
        adapt: from what the file holds to the network's own names and shapes; any error of its is reported as one of
            the file's.
        kinds: the files that are read, for the error.

    Raises:
        As `load`.
    """
    _exists(path)
    if path.suffix not in (".safetensors", *_PICKLED):
        raise UsageError(f"{path} is not known as a file of weights: give {kinds}.")
    held, wanted = _tensors(path), net.state_dict()
    try:
        found = adapt(held)
    except Exception as error:  # tensors of shapes that cannot be reshaped, or no dict of tensors at all
        raise MismatchError(f"the weights {path} do not fit this network: {_reason(error)}.") from None
    wrong = [f"{name} is missing" for name in wanted if name not in found]
    wrong += [f"{name} is left over" for name in found if name not in wanted]
    wrong += [
        f"{name} has the shape {list(getattr(found[name], 'shape', ()))}, not {list(value.shape)}"
        for name, value in wanted.items()
        if name in found and not (isinstance(found[name], Tensor) and found[name].shape == value.shape)
    ]
    if wrong:
        more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise MismatchError(f"the weights {path} do not fit this network: {wrong[0]}{more}.")
    net.load_state_dict(found)  # half precision is widened here
    return _finished(net, path)


def recipe(path: Path) -> dict[str, Any]:
    """How the weights were made, as the header of a safetensors file tells; empty where it does not."""
    if path.suffix != ".safetensors":
        return {}
    _exists(path)
    from safetensors import safe_open

    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get("recipe", "{}")
    except Exception as error:  # truncated, or another format
        raise InvalidError(
            f"the weights {path} cannot be read, they are not the format that its name says: {_reason(error)}."
        ) from None
    told = parse_json(text.encode(), f"the recipe in {path}")
    if not isinstance(told, dict):
        raise InvalidError(f"the recipe in {path} is not a JSON object.")
    return told


def facts(path: Path) -> tuple[str, str]:
    """(data, overlap) as a file's recipe tells; "unknown" where it does not."""
    told = recipe(path)
    return str(told.get("data", "unknown")), str(told.get("overlap", "unknown"))


def _exists(path: Path) -> None:
    if not path.is_file():
        raise StorageError(f"the weights {path} do not exist; give model.weights=FILE, or model.weights=random.")


def _finished(net: nn.Module, path: Path) -> str:
    for name, parameter in net.named_parameters():
        if not torch.isfinite(parameter).all():
            raise MismatchError(f"the weights {path} hold no values, or none that are finite, for {name}.")
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _tensors(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # truncated, another format, code instead of tensors
        kind = "tensors alone" if path.suffix in _PICKLED else "the format that its name says"
        raise InvalidError(f"the weights {path} cannot be read, they are not {kind}: {_reason(error)}.") from None


def _of_timm(held: Any, body: VisionTransformer) -> dict[str, Any]:
    """What belongs to the body, as this timm names and shapes it."""
    from timm.models.vision_transformer import checkpoint_filter_fn

    found, wanted = checkpoint_filter_fn(held, body, adapt_layer_scale=True), body.state_dict()
    return {name: value for name, value in found.items() if name in wanted or not name.startswith(_LEFT_BEHIND)}


def _fill_from_arrays(body: VisionTransformer, path: Path) -> None:
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as arrays:
            names = arrays.files
    except Exception as error:  # not a zip, truncated, a lone array, pickled objects
        raise InvalidError(f"the weights {path} are not an .npz file of arrays: {_reason(error)}.") from None
    if any(f"encoderblock_{len(body.blocks)}/" in name for name in names):
        raise MismatchError(f"the weights {path} have more blocks than the {len(body.blocks)} of this transformer.")
    try:
        body.load_pretrained(str(path))
    except CarryoverError:
        raise
    except Exception as error:  # a missing array, a shape that does not fit, another layout
        raise MismatchError(f"the weights {path} do not fit this transformer: {_reason(error)}.") from None


def _reason(error: Exception) -> str:
    """The first sentence of somebody else's message, on one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text.split(". ")[0].rstrip(".")[:200]
