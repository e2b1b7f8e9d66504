"""Batch normalisation, whose statistics mix samples and move while other weights are held."""

from __future__ import annotations

from torch import nn

from ...base.errors import UsageError


def refuse_batch_norm(network: nn.Module, why: str) -> None:
    """Raises UsageError, with the reason as a sentence, for a network that has any."""
    if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules()):
        mend = "Use a network without it, such as --set model=slim-resnet18 --set model.norm=group."
        raise UsageError(f"{why} {mend}")
