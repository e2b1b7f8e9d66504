"""A table-top seen from above: a gripper, things to carry, drawers to open, knobs to turn, and goals in words.

The world of the `libero-*-mini` suites, which stand in for those of LIBERO (Liu et al., 2023, arXiv 2306.03310): two
dimensions in place of a simulated arm, so that thousands of environments advance in one batch of tensors.
"""
