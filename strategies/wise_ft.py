"""WiSE-FT task after task: fine-tune, then go back a part of the way to where the task began.

Wortsman et al., "Robust fine-tuning of zero-shot models" (CVPR 2022): theta <- share theta_end + (1 - share)
theta_start, here after every task, as the ZSCL paper compares itself with it (share 0.8). Expected on `mtil-mini`:
between fine-tuning and `zscl`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .core import strategy
from .weight_average import WeightAverage, WeightAverageConfig


@dataclass(frozen=True)
class WiSEFTConfig(WeightAverageConfig):
    """share: of the fine-tuned weights. The rest as in `weight-average`."""

    rule: Literal["wise"] = "wise"


@strategy("wise-ft", needs=("boundaries",))
class WiSEFT(WeightAverage):
    """After each task, interpolate between its start and its end."""

    Config = WiSEFTConfig
