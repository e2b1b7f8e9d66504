"""Small strategies at work, for tests that look inside."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from carryover.strategies import Context, registry
from carryover.strategies.core import Strategy, load_strategy
from carryover.streams.core import CIL, DIL, TIL, Control, Data, LabelledTest, Setting, Stream, StreamInfo, Task
from torch import Tensor

# those that train a network of their own from scratch, on inputs of any shape; the others stand on a pre-trained one
FROM_SCRATCH = [name for name in registry.entries if load_strategy(name).Config().model == "mlp"]


def granted(name: str, setting: Setting) -> Setting:
    """The setting, or one that tells the task id to a strategy that needs it."""
    return TIL if "task_id_at_test" in load_strategy(name).needs else setting


def info(setting: Setting = CIL, classes: int = 6, shape: tuple[int, ...] = (1, 4, 4)) -> StreamInfo:
    """Facts of a stream that need not exist."""
    return StreamInfo("toy", shape, classes, setting)


def started(strategy: str | type[Strategy], stream: Stream | StreamInfo, seed: int = 0, **settings: Any) -> Any:
    """A strategy after `setup`."""
    cls = load_strategy(strategy) if isinstance(strategy, str) else strategy
    made = cls(**settings)
    made.setup(stream if isinstance(stream, StreamInfo) else stream.info, Context(seed))
    return made


def learn(strategy: Strategy, stream: Stream, tasks: int | None = None, first: int = 0) -> Any:
    """The strategy after tasks `first` to `tasks`, as the evaluation loop would have it learn."""
    for index in range(first, len(stream) if tasks is None else tasks):
        strategy.context.begin(index)
        strategy.learn(stream.shown(index))
    return strategy


def parameters(strategy: Strategy) -> Tensor:
    """[P], a copy."""
    return torch.cat([p.detach().reshape(-1) for net in strategy.networks() for p in net.parameters()])


def pictures(
    setting: Setting = CIL, tasks: int = 3, train: int = 10, test: int = 6, noise: float = 0.4, augment: Any = None
) -> Stream:
    """Two classes [3, 24, 24] a task, noise around a picture each; the same two elsewhere where all classes compete."""
    draw = torch.Generator().manual_seed(0)
    shared = setting.label_space == "all"
    parts, tests = [], []
    for t in range(tasks):
        classes = (0, 1) if shared else (2 * t, 2 * t + 1)
        centres = torch.rand(2, 3, 24, 24, generator=draw)
        data = []
        for count in (train, test):
            y = torch.arange(count) % 2
            x = 0.6 * centres[y] + noise * torch.rand(count, 3, 24, 24, generator=draw)
            data.append(Data((255 * x).byte(), y + classes[0]))
        parts.append(Task(t, f"pictures {t}", classes, Data(data[0].samples, data[0].targets, augment=augment)))
        tests.append(LabelledTest(data[1]))
    return Stream("pictures", 1, setting, parts, tests, 2 if shared else 2 * tasks)


WORDS = ("red", "green", "blue", "yellow", "letter", "digit", "flower", "surface")


def captioned(tasks: int = 3, train: int = 16, test: int = 12, controls: bool = False) -> Stream:
    """The same pictures, their classes told in words of `clip-micro`, with two prompts each."""
    stream = pictures(TIL, tasks, train, test)
    texts = tuple((f"a picture of a {word} thing", f"the {word}") for word in WORDS[: 2 * tasks])
    beside = Control("control", LabelledTest(pictures(TIL, 1, train, test, noise=0.8).tests[0].data), texts[:2])
    return dataclasses.replace(stream, kind="image-text", texts=texts, controls=(beside,) if controls else ())


@dataclasses.dataclass(frozen=True)
class Reach:
    """Attempts to come near a target [2] from points [N, 2] of the plane, in six steps."""

    starts: Tensor
    target: Tensor
    said: Tensor
    history: int = 1

    def __len__(self) -> int:
        return len(self.starts)

    def score(self, predict: Any, batch_size: int = 1024) -> Tensor:
        return torch.cat([self._attempt(predict, at) for at in self.starts.split(batch_size)])

    def _attempt(self, predict: Any, at: Tensor) -> Tensor:
        near = torch.zeros(len(at), dtype=torch.bool)
        for _ in range(6):
            near |= (at - self.target).norm(dim=1) < 0.3
            at = at + 0.4 * predict(seen(at, self.said, self.history))[:, :2]
        return near

    def digest(self) -> str:
        return repr([self.starts.tolist(), self.target.tolist()])


def seen(at: Tensor, said: Tensor, history: int = 1) -> Tensor:
    """Inputs [N, H, 2 + T] at points [N, 2], which have always been there."""
    return torch.cat([at, said.expand(len(at), -1)], 1)[:, None].expand(-1, history, -1)


def reaching(setting: Setting = DIL, tasks: int = 3, train: int = 24, test: int = 5, points: int = 4) -> Stream:
    """A policy stream: a corner a task, told one-hot; what is shown is the way there, one in six counting double."""
    draw = torch.Generator().manual_seed(0)
    corners = torch.tensor([[0.7, 0.7], [-0.7, -0.7], [0.7, -0.7], [-0.7, 0.7]])
    parts, tests = [], []
    for t, said in enumerate(torch.eye(tasks)):
        data = []
        for count in (train, max(train // 4, 2)):
            at = 2 * torch.rand(count, 2, generator=draw) - 1
            way = torch.cat([(3 * (corners[t] - at)).clamp(-1, 1), torch.ones(count, 1)], 1)
            weight = 1.0 + (torch.arange(count) % 6 == 0)
            data.append(Data(seen(at, said).clone(), torch.cat([way, weight[:, None]], 1)))
        parts.append(Task(t, f"corner {t}", (0, 1, 2), *data))
        tests.append(Reach(2 * torch.rand(test, 2, generator=draw) - 1, corners[t], said))
    layout = {"robot": (2,), "task": (tasks,)}
    return Stream("reaching", 1, setting, parts, tests, 3, kind="policy", layout=layout, points=points)
