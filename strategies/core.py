"""Who learns: the protocol of a strategy, and the training loop that all gradient strategies share.

A strategy is told the public facts of the stream (`setup`), then learns task after task (`learn`), and answers
queries in between (`predict`). It never sees test labels, later tasks, or a task id that the setting withholds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from itertools import islice
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..base.errors import UsageError
from ..base.seeds import drawing
from ..streams.batches import Batch, batches, steps_per_epoch
from ..streams.core import Data, Query, StreamInfo, Task
from . import registry
from .backbones import build
from .config import TrainConfig, configure
from .context import Context
from .parts.image_text import ImageText
from .parts.imitation import Imitation
from .parts.objective import Classification
from .parts.optimizers import clip, make_optimizer, set_rates
from .parts.plateau import Plateau, mean_loss
from .parts.selection import POINTS, Selection


def strategy(name: str, *, needs: tuple[str, ...] = ()) -> Callable[[type], type]:
    """Announce a strategy under a name. The registry finds it by reading the source; this only labels the class.

    Args:
        needs: what the setting must grant: "boundaries", "task_id_at_test".
    """

    def label(cls: type) -> type:
        cls.name, cls.needs = name, needs
        return cls

    return label


class Strategy:
    """The protocol. Constructors only store; `setup` builds.

    A subclass names its settings in a frozen dataclass `Config`, and in `stateful` the attributes that `state_dict`
    must carry for an exact resume: objects with a `state_dict` of their own, or tensors, numbers, strings, None, and
    lists and dicts of these.
    """

    name: ClassVar[str] = ""
    needs: ClassVar[tuple[str, ...]] = ()
    kinds: ClassVar[tuple[str, ...]] = ("classification",)  # of streams that it learns; see `StreamInfo.kind`
    stateful: ClassVar[tuple[str, ...]] = ()
    Config: ClassVar[type]
    # how many test samples are predicted together, where a prediction depends on it, as in some published codes; such a
    # run is marked in its record and not ranked
    test_batch: int | None = None
    # attributes that the ledger counts though no checkpoint holds them, because they can be made again
    remade: ClassVar[tuple[str, ...]] = ()
    # digests of data from outside the stream that it learns from, by setting; told by `setup`, kept in the record
    outside: Mapping[str, str] = {}
    inner: Strategy | None = None  # one that it is wrapped around, whose memories and state the ledger counts, too

    def __init__(self, config: Any = None, **settings: Any) -> None:
        self.config = config if config is not None else configure(self.Config, settings, self.name)

    def setup(self, info: StreamInfo, context: Context) -> None:
        """Build networks and memories. Called once, before the first task, and before a checkpoint is loaded."""
        if info.kind not in self.kinds:
            raise UsageError(
                f"{self.name} learns {' and '.join(self.kinds)} streams, and {info.name} is one of {info.kind}."
            )
        for need in self.needs:
            if not getattr(info.setting, need):
                raise UsageError(
                    f"{self.name} needs {need.replace('_', ' ')}, which the setting {info.setting.name!r} of "
                    f"{info.name} withholds. Choose another strategy, or another setting with --set stream.setting=til."
                )
        self.info, self.context = info, context

    def learn(self, task: Task) -> None:
        """Learn one task. After a checkpoint was loaded in the middle of it, go on from there."""
        raise NotImplementedError

    def predict(self, inputs: Tensor, query: Query) -> Tensor:
        """Class ids [B] for float inputs [B, ...], each one of `query.classes`, whatever the other rows are."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """Nested dicts and lists of tensors and plain values."""
        return {name: _state_of(getattr(self, name)) for name in self.stateful}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave, onto the context's device."""
        for name in self.stateful:
            self._restore(name, state[name])

    def _restore(self, name: str, value: Any) -> None:
        held = getattr(self, name)
        if isinstance(held, (nn.Module, torch.optim.Optimizer)):  # these know where their tensors belong
            held.load_state_dict(value)
        elif hasattr(held, "load_state_dict"):
            held.load_state_dict(_onto(value, self.context.device))
        else:
            setattr(self, name, _onto(value, self.context.device))

    def networks(self) -> list[nn.Module]:
        """The networks whose parameters the ledger counts."""
        return []


class GradientStrategy(Strategy):
    """The training loop, and five places to change it: begin_task, loss, adjust_gradients, after_step, end_task.

    As it stands it is plain fine-tuning. The model (`furnish`), what the loop draws from and how often
    (`training_data`, `passes`), its optimizer (`new_optimizer`), and what a step's cost depends on (`cost_key`) can be
    changed, too.
    """

    Config = TrainConfig
    kinds = ("classification", "image-text", "policy")
    stateful = ("model", "optimizer", "objective", "tasks_begun", "step")
    rehearses: ClassVar[bool] = False  # whether a step may hold samples of earlier tasks

    def setup(self, info: StreamInfo, context: Context) -> None:
        """Network, objective and optimizer; the initial weights are a function of the run's seed alone."""
        super().setup(info, context)
        passes, allowed = self.passes() + self.extra_passes(), info.setting.passes
        if allowed is not None and passes > allowed:
            mend = f"Set epochs={allowed}." if passes == self.config.epochs else "Choose another strategy, or setting."
            raise UsageError(
                f"{self.name} makes {passes} passes over each task's data, but {info.name} allows {allowed} pass. "
                + mend
            )
        if allowed is not None and self.config.steps:
            raise UsageError(f"{info.name} allows {allowed} pass, and steps does not go by passes. Leave it out.")
        if (self.config.schedule != "constant" or self.config.warmup) and not info.setting.boundaries:
            raise UsageError(
                f"schedule={self.config.schedule} and warmup run over a task, and {info.name} does not tell where one "
                "ends. Leave them out."
            )
        self.plateau = Plateau(self.config)
        self.selection = Selection(self.config.selection, info.points or POINTS)
        for name, used in (("plateau", self.config.schedule == "plateau"), ("selection", self.selection.choosing)):
            self.stateful = (*self.stateful, name) if used else self.stateful
        if self.config.selection == "simulator" and not info.points:
            raise UsageError(f"selection=simulator goes by learning curves, and {info.name} has none. Leave it out.")
        self.model = self.new_model().eval()
        self.objective = self.new_objective()
        self.optimizer = self.new_optimizer()
        self.tasks_begun = 0
        self.step = 0
        self._as_built = {name: p._version for name, p in self.model.named_parameters() if not p.requires_grad}

    def new_model(self, purpose: str = "initial weights") -> nn.Module:
        """A freshly initialised network on the device, drawn on the CPU so that every device starts the same."""
        with drawing(self.context.seed, purpose):  # a prediction may need one, and must not move the run's generator
            network = build(self.config.model, self.info, **self.config.model_options)
            return self.furnish(network).to(self.context.device)

    def learn(self, task: Task) -> None:
        """Train on one task. `step` is 0 between tasks; a resumed run comes in with the step it had reached."""
        if self.step == 0:
            self.tasks_begun += 1
            self.objective.reveal(task)
            self.begin_task(task)
            if self.info.setting.boundaries or self.tasks_begun == 1:
                self.optimizer = self.new_optimizer()
        data = self.training_data(task)
        held = self.validation_data(task) if self.config.schedule == "plateau" else None
        per_epoch = steps_per_epoch(data, self.config.batch_size)
        total = self.budget(per_epoch)
        self.model.train()
        number, meter = self.context.task, self.context.meter
        passes = math.ceil(total / per_epoch)
        order = batches(data, self.config.batch_size, passes, self.context.key("batches"), self.step)
        for batch in self.plateau.until_ended(islice(order, total - self.step)):
            set_rates(self.optimizer, self.config, self.step, total, self.plateau.reductions)
            with meter.step(number, len(batch.y), *self.cost_key(batch)):
                self.optimizer.zero_grad()
                self.loss(batch).backward()
                self.adjust_gradients(batch)
                clip(self.optimizer, self.config.clip)
                self.optimizer.step()
            self.after_step(batch)
            self.step += 1
            if held is not None and self.step % per_epoch == 0:
                self.plateau.judge(mean_loss(self.model, self.validation_loss, held, self.context), self.model)
            reached = total if self.plateau.ended else self.step
            self.context.point(reached, total)
            if self.selection.due(reached, total):
                self.selection.judge(self._merit(task), self.model)
            self.context.tick(reached, total)
        self.plateau.settle(self.model)
        self.selection.settle(self.model)
        self.model.eval()
        self.end_task(task)
        self.step = 0

    def _merit(self, task: Task) -> float:
        if self.config.selection == "simulator":
            return self.context.success
        return -mean_loss(self.model, self.validation_loss, self.validation_data(task), self.context)

    def predict(self, inputs: Tensor, query: Query) -> Tensor:
        """The best of the query's classes for each input."""
        return self.objective.decide(self.model(inputs), query)

    def networks(self) -> list[nn.Module]:
        """The one network."""
        return [self.model]

    def state_dict(self) -> dict[str, Any]:
        """What `stateful` names, and which parameters are being trained.

        Of the model without what `setup` will build again: a frozen body may be a hundred times the rest.
        """
        trained = [name for name, p in self.model.named_parameters() if p.requires_grad]
        state = {"trained": trained, **super().state_dict()}
        built = self._untouched()
        return state | {"model": {name: value for name, value in state["model"].items() if name not in built}}

    def _untouched(self) -> set[str]:
        """Parameters that were frozen from the start, and that nothing has written to since."""
        now = dict(self.model.named_parameters())
        return {
            name
            for name, version in self._as_built.items()
            if name in now and not now[name].requires_grad and now[name]._version == version
        }

    def _restore(self, name: str, value: Any) -> None:
        if name != "model":
            return super()._restore(name, value)
        missing, strange = self.model.load_state_dict(value, strict=False)
        if strange or set(missing) - set(self._as_built):
            raise RuntimeError(f"the model has no {strange}, or the state no {missing}")
        return None

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore; the optimizer is made anew for the parameters that were being trained."""
        for name, p in self.model.named_parameters():
            p.requires_grad_(name in state["trained"])
        self.optimizer = self.new_optimizer()
        super().load_state_dict(state)

    # -- the places to change ---------------------------------------------------------------------------------------

    def furnish(self, network: nn.Module) -> nn.Module:
        """The model around a fresh network: prompts, task-wise parameters, a frozen body. Drawn by the run's seed."""
        return network

    def new_objective(self) -> Classification:
        """The loss and the way to an answer, by what the stream asks for."""
        config = self.config
        if self.info.kind == "image-text":
            return ImageText(
                self.model, self.info, config.compete, self.context, config.label_smoothing, self.rehearses
            )
        if self.info.kind == "policy":
            return Imitation(self.model)
        return Classification(self.info, config.compete, self.context.device, config.label_smoothing)

    def new_optimizer(self) -> Any:
        """The optimizer of a task, over the parameters that require a gradient."""
        return make_optimizer(self.config, self.model)

    def passes(self) -> int:
        """How often the loop goes through a task's data; `Batch.epoch` counts them."""
        return self.config.epochs

    def budget(self, per_epoch: int) -> int:
        """Steps of the loop in a task whose data fill so many batches."""
        return self.config.steps or self.passes() * per_epoch

    def extra_passes(self) -> int:
        """Passes over a task's data beside those of the loop: for features, say, or Fisher information."""
        return 0

    def training_data(self, task: Task) -> Data:
        """What the loop draws its batches from: the task's training data."""
        return task.train

    def validation_data(self, task: Task) -> Data:
        """What schedule=plateau and selection=validation judge by: the task's validation data."""
        if not task.val:
            asks = "schedule=plateau" if self.config.schedule == "plateau" else "selection=validation"
            raise UsageError(
                f"{asks} judges by validation data, and {self.info.name} holds none out. "
                "Set stream.val_fraction=0.1, or leave it out."
            )
        return task.val

    def begin_task(self, task: Task) -> None:
        """Before the first step of a task: its classes are revealed, its optimizer is made after this."""

    def loss(self, batch: Batch) -> Tensor:
        """The scalar to descend."""
        return self.objective.loss(self.model(batch.x), batch.y)

    def validation_loss(self, x: Tensor, y: Tensor) -> Tensor:
        """What schedule=plateau judges by: scalar, the mean over inputs [B, ...] of the task with targets [B]."""
        return self.objective.loss(self.model(x), y)

    def adjust_gradients(self, batch: Batch) -> None:
        """Between `backward` and the optimizer's step: projections, penalties."""

    def after_step(self, batch: Batch) -> None:
        """After the optimizer's step: write memories, average weights."""

    def end_task(self, task: Task) -> None:
        """After the last step of a task, the network in evaluation mode: anchors, Fisher information, bases."""

    def cost_key(self, batch: Batch) -> tuple[int, ...]:
        """What else a step's operation count depends on, beside task and batch size: replayed samples, say."""
        return ()


def load_strategy(name: str | type[Strategy]) -> type[Strategy]:
    """The class of a strategy by name or `path/to/file.py:Name`; a class is checked and given back."""
    found = registry.load(name) if isinstance(name, str) else name
    if not (isinstance(found, type) and issubclass(found, Strategy)):
        raise UsageError(f"{name} is not a strategy: it must be a class derived from carryover.strategies.Strategy.")
    if not is_dataclass(getattr(found, "Config", None)):
        raise UsageError(f"{name} names no settings: give it a frozen dataclass Config, empty if it has none.")
    if "name" not in vars(found):  # an inherited one is the parent's
        found.name = name.rpartition(":")[2].lower().replace("_", "-")
    return found


def _state_of(value: Any) -> Any:
    return value.state_dict() if hasattr(value, "state_dict") else value


def _onto(value: Any, device: torch.device) -> Any:
    """Plain state with its tensors on a device."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {key: _onto(item, device) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_onto(item, device) for item in value]
    return value
