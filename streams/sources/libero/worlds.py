"""One simulated table of LIBERO's, from a fixed initial state, seen as its demonstrations are.

A state holds the joints and their speeds. Where furniture stands, within a centimetre or two, is not in it, but drawn
when a world is reset, from NumPy's global generator. LIBERO seeds that once for all attempts; here each attempt has a
seed of its own, so that it comes out the same whoever else is simulated, and the global generator is left where it was.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from typing import Any, Literal

import numpy as np

from ....base.errors import CarryoverError, StorageError
from .simulator import goal_file, import_libero

Source = Literal["hdf5", "lerobot"]
CAMERA = {"agentview_rgb": "agentview", "eye_in_hand_rgb": "robot0_eye_in_hand"}
# What is done before the policy is asked, so that things come to rest: LIBERO's way, and LeRobot's, the gripper open.
SETTLING: dict[str, tuple[int, tuple[float, ...]]] = {"libero": (5, 7 * (0.0,)), "lerobot": (10, (*6 * (0.0,), -1.0))}


class World:
    """A robot and the things of one task.

    Attributes:
        pixels: [V, 3, side, side] uint8 as the cameras see it, upright. robot: what it knows of itself, float32: as in
            the HDF5 files two fingers and seven joints, or as in the LeRobot copies place, turn and fingers.
        steps: since the start. success: whether the goal held after one of them.
    """

    def __init__(self, suite: str, task: str, cameras: Sequence[str], side: int, source: Source) -> None:
        self.cameras, self.source = tuple(cameras), source
        try:
            with seeded(0):
                self.env = environment(suite, task, self.cameras, side)
        except CarryoverError:
            raise
        except Exception as error:  # what mujoco, EGL and robosuite raise
            raise StorageError(f"LIBERO cannot simulate {task}: {_reason(error)}.") from error
        self.upright = image_convention() == "opencv"

    def start(self, state: np.ndarray, seed: int, settling: str) -> None:
        """Furniture as the seed has it, all else from the state [S], brought to rest."""
        self._draw_here()
        with seeded(seed):
            self.env.reset()
        seen = self.env.set_init_state(state)
        count, still = SETTLING[settling]
        for _ in range(count):
            seen = self._stepped(np.array(still))[0]
        self._see(seen)
        self.steps, self.success = 0, False

    def step(self, action: np.ndarray) -> None:
        """Action [7]; a success lasts."""
        self._draw_here()
        seen, success = self._stepped(action)
        self._see(seen)
        self.steps, self.success = self.steps + 1, self.success or success

    def close(self) -> None:
        """Give memory and the renderer back."""
        self._draw_here()
        self.env.close()

    def _stepped(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], bool]:
        seen, _, success, _ = self.env.step(action)
        return seen, bool(success)

    def _see(self, seen: dict[str, np.ndarray]) -> None:
        images = [seen[f"{CAMERA[camera]}_image"] for camera in self.cameras]  # [S, S, 3]
        turned = [(image if self.upright else image[::-1]).transpose(2, 0, 1) for image in images]
        self.pixels = np.stack(turned) if turned else np.empty((0,), np.uint8)
        fingers = seen["robot0_gripper_qpos"]
        if self.source == "hdf5":
            parts = [fingers, seen["robot0_joint_pos"]]
        else:
            parts = [seen["robot0_eef_pos"], axis_angle(seen["robot0_eef_quat"]), fingers]
        self.robot = np.concatenate(parts).astype(np.float32)

    def _draw_here(self) -> None:
        """Make this world's renderer the current one: robosuite draws, and deletes, in whichever that happens to be."""
        context = getattr(getattr(self.env, "sim", None), "_render_context_offscreen", None)
        if context is not None:
            context.gl_ctx.make_current()


def environment(suite: str, task: str, cameras: Sequence[str], side: int) -> Any:
    """LIBERO's own environment. Without cameras nothing is rendered."""
    import_libero()
    return import_module("libero.libero.envs.env_wrapper").ControlEnv(
        str(goal_file(suite, task)),
        use_camera_obs=bool(cameras),
        has_offscreen_renderer=bool(cameras),
        camera_names=[CAMERA[camera] for camera in cameras],
        camera_heights=side,
        camera_widths=side,
        ignore_done=True,  # an attempt's end is ours to say
    )


def image_convention() -> str:
    """Which way up robosuite gives images: "opengl", from the bottom up, or "opencv"."""
    return import_module("robosuite.macros").IMAGE_CONVENTION


@cache
def needs_renderer() -> None:
    """One line if the cameras cannot be drawn on this machine.

    Raises:
        StorageError: as said.
    """
    import_libero()
    try:
        import_module("libero.libero.envs")  # chooses EGL, unless MUJOCO_GL says otherwise
        import_module("robosuite.utils.binding_utils").GLContext(max_width=8, max_height=8, device_id=-1).free()
    except Exception as error:  # the loader's, of a library that is not there; EGL's; PyOpenGL's
        raise StorageError(
            f"LIBERO's cameras cannot be drawn: {_reason(error)}. Install a driver with EGL, or OSMesa and set "
            "MUJOCO_GL=osmesa."
        ) from error


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside, NumPy's global generator, from which a reset draws; outside, it has not moved."""
    before = np.random.get_state()
    np.random.seed(seed % 2**32)
    try:
        yield
    finally:
        np.random.set_state(before)


def axis_angle(quaternion: np.ndarray) -> np.ndarray:
    """A turn (x, y, z, w) as its axis times its angle in radians, [3]."""
    w = min(max(float(quaternion[3]), -1.0), 1.0)
    length = math.sqrt(1 - w * w)
    return quaternion[:3] * (2 * math.acos(w) / length) if length else np.zeros(3)


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
