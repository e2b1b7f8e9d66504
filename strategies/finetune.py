"""Fine-tuning: what happens when nothing is done about forgetting.

Called "single" in Lopez-Paz and Ranzato (2017), "naive" or "SGD" elsewhere.
Expected on `gem-mnist-rotations`, at their learning rate of 0.003: ACC 0.53, BWT -0.08 (their Table 3); on 8,000
images 0.52 and -0.09.
"""

from __future__ import annotations

from .core import GradientStrategy, strategy


@strategy("finetune")
class Finetune(GradientStrategy):
    """Train on each task in turn and do nothing about the earlier ones."""
