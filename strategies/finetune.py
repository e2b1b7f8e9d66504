"""Fine-tuning: the lower bound that every other strategy should beat.

Called "single" in Lopez-Paz and Ranzato (2017), "naive" or "SGD" elsewhere.
Expected on `gem-mnist-rotations`: ACC around 0.5 to 0.6, BWT around -0.3 (their Table 3 has 0.53 and -0.08 at a
learning rate ten times smaller).
"""

from __future__ import annotations

from .core import GradientStrategy, strategy


@strategy("finetune")
class Finetune(GradientStrategy):
    """Train on each task in turn and do nothing about the earlier ones."""
