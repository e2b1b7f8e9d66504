"""The small quadratic program of gradient episodic memory, solved exactly in float64.

minimise  1/2 v'Kv + c'v   subject to  v >= lower          (K symmetric positive definite, at most tens of rows)
"""

from __future__ import annotations

import numpy as np


def solve_dual(K: np.ndarray, c: np.ndarray, lower: float = 0.0, tolerance: float = 1e-12) -> np.ndarray:
    """The minimiser [t], by block principal pivoting (Portugal, Judice and Vicente, 1994).

    With u = v - lower this is the linear complementarity problem u >= 0, w = Ku + q >= 0, u'w = 0. A guess of which
    u are positive gives u by one small linear solve; all wrong signs are exchanged at once while that lowers their
    number, and one at a time (the last; Murty, 1974), which cannot cycle, when it does not.
    """
    t = len(c)
    scale = K.trace() / t or 1.0  # gradients may be of any length; u is the same for K and q divided by one number
    K, q = K / scale, (c + lower * K.sum(1)) / scale
    slack = tolerance * np.abs(q).max()
    free = np.zeros(t, bool)  # u > 0 there, w = 0
    fewest, patience = t + 1, 3
    u, w = np.zeros(t), q.copy()
    for _ in range(100 + 2 ** min(t, 16)):
        wrong = (free & (u < -slack)) | (~free & (w < -slack))
        number = int(wrong.sum())
        if number == 0:
            break
        if number < fewest:
            fewest, patience = number, 3
        elif patience:
            patience -= 1
        else:
            wrong = np.arange(t) == np.flatnonzero(wrong)[-1]
        free ^= wrong
        u[:] = 0
        u[free] = np.linalg.solve(K[np.ix_(free, free)], -q[free])
        w = K @ u + q
        w[free] = 0
    return np.maximum(u, 0) + lower
