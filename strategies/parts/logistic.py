"""Multinomial logistic regression, solved."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def logistic(
    x: Tensor, y: Tensor, classes: int, l2: float, tolerance: float, iterations: int
) -> tuple[Tensor, Tensor, float]:
    """(weights [classes, D], biases [classes], largest entry of the gradient there), float64.

    minimise  mean cross-entropy + l2/2 |weights|^2  in standardised features, by L-BFGS over all samples from zero (Liu
    and Nocedal, 1989). The weights given back are for features as they come. A class without samples gets the bias
    minus infinity.

    Args:
        x: features [N, D]. y: classes [N]. l2: positive, so that there is one solution up to a shift of the biases.
        tolerance: on the largest entry of the gradient. iterations: at most.
    """
    x = x.double()
    mean, deviation = x.mean(0), x.std(0, correction=0)
    deviation = torch.where(deviation > 1e-12 * mean.abs(), deviation, 1.0)  # what is constant stays at zero
    x = (x - mean) / deviation
    seen, y = y.unique(return_inverse=True)
    W, b = x.new_zeros(len(seen), x.shape[1]).requires_grad_(), x.new_zeros(len(seen)).requires_grad_()
    solver = torch.optim.LBFGS(
        [W, b],
        max_iter=iterations,
        max_eval=2 * iterations,
        tolerance_grad=tolerance,
        tolerance_change=0.0,
        history_size=20,
        line_search_fn="strong_wolfe",
    )

    def objective() -> Tensor:
        solver.zero_grad()
        loss = F.cross_entropy(F.linear(x, W, b), y) + l2 / 2 * W.square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        solver.step(objective)
        objective()
    reached = max(float(p.grad.abs().max()) for p in (W, b))
    weights, biases = x.new_zeros(classes, x.shape[1]), x.new_full((classes,), -torch.inf)
    weights[seen] = W.detach() / deviation
    biases[seen] = b.detach() - weights[seen] @ mean
    return weights, biases, reached
