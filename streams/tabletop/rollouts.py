"""Attempts: a policy acts until the goal holds or the steps are used up; whoever is done leaves the batch."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from .world import World

Policy = Callable[[World], Tensor]  # actions [N, 3] for the environments that are left


def roll_out(world: World, policy: Policy, watch: Callable[[World], None] | None = None) -> tuple[Tensor, Tensor]:
    """Let a policy act from the present states on. The world given is not changed.

    Args:
        watch: is shown the world before the first step, and after every step what is left of it.

    Returns:
        success [N] bool, whether the goal held at any step within the horizon; steps [N] until then.
    """
    success, steps = world.success.clone(), world.steps.clone()
    left = (~world.over).nonzero()[:, 0]
    active = world.select(left)
    if watch is not None:
        watch(world)
    while len(left):
        active.step(policy(active))
        if watch is not None:
            watch(active)
        done = active.over
        if done.any():
            success[left[done]], steps[left[done]] = active.success[done], active.steps[done]
            left, active = left[~done], active.select(~done)
    return success, steps
