"""A test in LIBERO's simulator: attempts from its fixed initial states, each a success or not."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor

from .packed import Unpacked, packed
from .sources.libero.worlds import SETTLING, Source, World

WORLDS = 5  # that are simulated together: each takes a renderer, and some hundred megabytes


@dataclass(frozen=True)
class Attempts:
    """Attempts at one task. A policy sees the last `history` observations; at first, the first one several times.

    Attributes:
        states: [N, S] float64, where each begins. seeds: what is not in the states; see `sources.libero.worlds`.
        said: [L] what a policy is told of the task.
        cameras, side: what is seen, in pixels. source: whose demonstrations it is to look like.
        settling: what is done before the first action, of `worlds.SETTLING`.
        versions: of the simulator and its models, and SHA-256 of the goal.
    """

    suite: str
    task: str
    states: Tensor
    seeds: tuple[int, ...]
    said: Tensor
    cameras: tuple[str, ...]
    side: int
    source: Source
    history: int
    horizon: int
    settling: str
    versions: str

    def __len__(self) -> int:
        return len(self.states)

    def score(self, predict: Callable[[Tensor], Tensor], batch_size: int = 1024) -> Tensor:
        """[N] bool: the goal held after some step within the horizon. `predict` maps [B, H, D] to actions [B, 7].

        As an attempt ends, the next begins in its world, so that a policy is asked about several at once.

        Raises:
            StorageError: the simulator cannot be run on this machine.
        """
        success = torch.zeros(len(self), dtype=torch.bool)
        waiting = list(range(len(self)))[::-1]
        with ExitStack() as closing:
            free = []
            for _ in range(min(WORLDS, batch_size, len(self))):
                free.append(World(self.suite, self.task, self.cameras, self.side, self.source))
                closing.callback(free[-1].close)
            busy: list[tuple[int, World]] = []
            past: dict[int, Tensor] = {}  # [H, D] by attempt
            while waiting or busy:
                while free and waiting:
                    i, world = waiting.pop(), free.pop()
                    world.start(self.states[i].numpy(), self.seeds[i], self.settling)
                    past[i] = self._input(world).expand(self.history, -1)
                    busy.append((i, world))
                actions = predict(torch.stack([past[i] for i, _ in busy])).cpu().numpy()
                for (i, world), action in zip(busy, actions, strict=True):
                    world.step(action)
                    past[i] = torch.cat([past[i][1:], self._input(world)])
                over = [(i, world) for i, world in busy if world.success or world.steps == self.horizon]
                busy = [pair for pair in busy if pair not in over]
                for i, world in over:
                    success[i] = world.success
                    free.append(world)
                    del past[i]
        return success

    def _input(self, world: World) -> Tensor:
        """[1, D] what a policy is given, made from bytes as the demonstrations are."""
        pixels = torch.from_numpy(world.pixels.reshape(1, -1)).to(self.said.device)
        robot = torch.from_numpy(world.robot)[None].to(self.said.device)
        stored = packed(pixels, torch.cat([robot, self.said[None]], 1))
        return Unpacked(pixels.shape[1])(stored.to(torch.float32).div_(255)[None])[0]

    def to(self, device: torch.device | str) -> Attempts:
        """The same for a policy on a device; physics stays on the CPU."""
        return dataclasses.replace(self, said=self.said.to(device))

    def digest(self) -> str:
        """SHA-256 of the simulator's versions, the task, its starts, what is seen and told, and how long."""
        facts = [self.versions, self.suite, self.task, self.seeds, self.cameras, self.side, self.source, self.history]
        facts += [self.horizon, SETTLING[self.settling], self.said.tolist(), tuple(self.states.shape)]
        return hashlib.sha256(repr(facts).encode() + self.states.contiguous().numpy().tobytes()).hexdigest()
