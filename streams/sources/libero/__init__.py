"""LIBERO's files (Liu et al., 2023, arXiv 2306.03310): demonstrations, goals and initial states, read without LIBERO.

What its files hold, and what is made of it here:

- *When.* Row t of the observations was recorded after actions[t], and row t of the states before it. A policy that
  chose actions[t] had seen row t - 1, and for t = 0 something that is in no file. By default the rows given are such
  pairs, so that the first action of each demonstration is dropped; `pairing="stored"` gives the rows as they stand,
  each action with its own outcome, on which LIBERO's published policies were trained.
- *Which way up.* The simulator renders from the bottom up (OpenGL), and that is how the HDF5 files store images. The
  LeRobot copies turn them by 180 degrees, which puts them upright and mirrors them. Both are given upright and not
  mirrored; who feeds a model that was trained on the copies mirrors the columns.
- *Actions.* dx, dy, dz, droll, dpitch, dyaw in [-1, 1], and the gripper: -1 opens, +1 closes.
- *Words.* A task's language is made from its file's name. `:language` inside may say it in other words.
- *Settling.* The first five steps of a demonstration are not in its file; `init_state` is the state after them.
- *Initial states* are pickles, which are parsed and never run.
"""
