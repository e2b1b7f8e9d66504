"""The cost ledger: what a run took, counted where it can be counted and measured where it must be."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor

from ..strategies.context import Context
from ..strategies.core import Strategy
from ..strategies.parts.memory import Memory
from .record import Cost, Pretrained

# part of the network or of the optimizer, not something kept beside it
_NOT_STATE = ("model", "optimizer", "objective", "inner")


def ledger(strategy: Strategy, context: Context) -> Cost:
    """Exact integers: operations, samples, parameters, and the bytes that the strategy keeps beside its network."""
    layers = [strategy] if strategy.inner is None else [strategy, strategy.inner]
    memories = [value for layer in layers for value in vars(layer).values() if isinstance(value, Memory)]
    kept = [
        tensor_bytes(value)
        for layer in layers
        for name, value in layer.state_dict().items()
        if name not in _NOT_STATE and not isinstance(getattr(layer, name, None), Memory)
    ]
    kept += [tensor_bytes(getattr(layer, name, None)) for layer in layers for name in layer.remade]
    networks = strategy.networks()
    return Cost(
        train_flops=context.meter.flops["train"],
        eval_flops=context.meter.flops["eval"],
        samples_seen=context.meter.samples,
        steps=context.meter.steps,
        params_total=sum(p.numel() for net in networks for p in net.parameters()),
        params_trained=sum(p.numel() for net in networks for p in net.parameters() if p.requires_grad),
        replay_samples=sum(len(memory) for memory in memories),
        replay_bytes=sum(memory.nbytes for memory in memories),
        state_bytes=sum(kept),
    )


def pretrained(strategy: Strategy) -> Pretrained | None:
    """The weights that its networks started from, as they tell; the first that do."""
    told = [facts for net in strategy.networks() if (facts := getattr(net, "pretrained", None)) is not None]
    return Pretrained(**vars(told[0])) if told else None


def tensor_bytes(value: Any) -> int:
    """Bytes of every tensor in nested dicts and lists."""
    if isinstance(value, Tensor):
        return value.nbytes
    if isinstance(value, dict):
        return sum(tensor_bytes(item) for item in value.values())
    if isinstance(value, (list, tuple)):
        return sum(tensor_bytes(item) for item in value)
    return 0


def peak_host_bytes() -> int:
    """The most memory this process has held resident so far."""
    if sys.platform == "win32":
        return 0  # not measured there
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts in KiB


def peak_device_bytes(device: torch.device) -> int:
    """The most memory allocated on an accelerator since the last reset; 0 on the CPU."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
