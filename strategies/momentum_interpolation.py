"""Momentum interpolation: a task ends at the exponential moving average of the weights that it passed through.

theta_mean <- decay theta_mean + (1 - decay) theta every so many steps, from the weights at the start of the task; the
average is kept. A mean teacher's average (Tarvainen and Valpola, NeurIPS 2017) in the place of the model itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .config import Count, Share
from .core import strategy
from .weight_average import WeightAverage, WeightAverageConfig


@dataclass(frozen=True)
class MomentumInterpolationConfig(WeightAverageConfig):
    """every, decay: of the average. The rest as in `weight-average`."""

    rule: Literal["ema"] = "ema"
    every: Count = 1
    decay: Share = 0.95


@strategy("momentum-interpolation", needs=("boundaries",))
class MomentumInterpolation(WeightAverage):
    """Keep an exponential moving average of the weights of a task."""

    Config = MomentumInterpolationConfig
