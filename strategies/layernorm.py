"""Layer norms of one's own for each task, in a frozen transformer: C-LN.

De Min et al., "On the Effectiveness of LayerNorm Tuning for Continual Learning in Vision Transformers" (ICCV workshops
2023). A task owns a copy of the weights and biases of all norms (38,400 numbers in ViT-B/16). It is learnt in stages:
its key, which goes towards the frozen network's features of its data (`key_epochs`); its norms, with a temporary head
(`epochs`); and rectification: the head's rows for its classes, on features through the norms that are chosen for each
sample as at test, wrong choices included (`head_epochs`). At test, the nearest key of the tasks so far chooses.

variant="two-forward" (published as two_stages) compares keys with the features of the unchanged network: two forwards.
"single-forward" has keys at every norm, trained with the norms, by which each norm chooses for itself.

Where we differ from the published code: unseen classes take no part at test; the optimizer is fresh in every stage; the
cosines of single-forward are averaged over norms, where the code gives the final norm twice a block norm's weight.
Options of our own: keys in closed form, head rows that start as class prototypes, a rate for the temporary head.

What is frozen says the same each time, and is computed once: the query of a test image, its features through the
norms of a task that is over, and without augmentation both in training. The ledger counts the plain way.

On policies, of which the paper has none: a pre-trained `bc-transformer` (model=bc-micro) is frozen, head included. A
task owns its norms and a copy of the head, which are learnt together from where the task before ended; as nothing
competes between tasks, there is no rectification. Keys choose at every step, by the instruction's token in the frozen
network; see `Attentive.query`. With keys=mean, or in single-forward, there is one stage, which may go by `steps` and
`selection`.

Published (mean accuracy / forgetting): Split CIFAR-100 86.95 / 6.98, Split ImageNet-R 76.36 / 8.31; the weights were
fine-tuned on ImageNet-1k, whose classes ImageNet-R's are.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..base.errors import UsageError
from ..streams.batches import Batch, steps_per_epoch
from ..streams.core import Data, Query, StreamInfo, Task
from .backbones.policies import Attentive
from .backbones.vit import ViT
from .config import Count, Positive
from .context import Context
from .core import GradientStrategy, TrainConfig, strategy
from .parts.features import Memo, features
from .parts.keys import Kind, TaskKeys
from .parts.norms import NormKeys, NormSets, NormTuned
from .parts.optimizers import make_optimizer, trained
from .parts.prompts import Queries, frozen_vit, refuse_decay
from .parts.prototypes import start_rows

STAGES = ("keys", "norms", "head")


@dataclass(frozen=True)
class LayerNormConfig(TrainConfig):
    """The published recipe for ImageNet-R; lr is its 0.01 x 128 / 256. A schedule runs over all stages of a task.

    variant: see above. keys: "trained" as published; "mean" and "prototypes", see `parts.keys`, take one pass over the
        task's data instead of `key_epochs`. key_epochs, epochs, head_epochs: of the three stages.
    rectify: False leaves the head as it was trained beside the norms.
    rectify_from: where the head's rows start then: "own", by `head_init`, or "temporary", where the temporary head's
        ended.
    temporary_lr: of the head that is trained beside the norms, where it differs from `lr`. head_lr: in rectification.
    head_init, head_scale: "random" as published, or "prototypes", see `parts.prototypes`: logits about `head_scale` x
        cosine; a pass over the task's data for each head, with the norms as they are when its stage begins.
    attention, detach: in single-forward, whether the class token is weighted before it is compared, and whether the
        comparison leaves the norms before it alone.
    pool: the largest number of tasks.
    """

    lr: Positive = 0.005
    head_lr: Positive | None = 0.001
    epochs: Count = 5
    batch_size: Count = 128
    optimizer: Literal["sgd", "adam", "adamw"] = "adam"
    model: str = "vit-micro"
    compete: Literal["setting", "task", "seen", "all"] = "task"
    variant: Literal["two-forward", "single-forward"] = "two-forward"
    keys: Kind = "trained"
    key_epochs: Count = 5
    head_epochs: Count = 5
    rectify: bool = True
    rectify_from: Literal["own", "temporary"] = "own"
    temporary_lr: Positive | None = None
    head_init: Literal["random", "prototypes"] = "random"
    head_scale: Positive = 10.0
    attention: bool = True
    detach: bool = False
    pool: Count = 10


@strategy("layernorm", needs=("boundaries",))
class LayerNorm(GradientStrategy):
    """Tune the norms of a frozen transformer for each task, and choose among them by keys (C-LN)."""

    Config = LayerNormConfig
    kinds = ("classification", "policy")

    def setup(self, info: StreamInfo, context: Context) -> None:
        """Nothing is remembered yet."""
        super().setup(info, context)
        if len(set(self.stages())) > 1:
            self._refuse_what_stages_cannot()
        self._lasting = trained(self.model)  # what is trained and kept
        self.queries = Queries(self.model.vit, context.meter, remember=not self._policy)
        self._finished: dict[int, Memo] = {}  # features of test images through the norms of tasks that are over
        self._data: Data | None = None  # of the task that is being learnt
        self._rectified: Memo | None = None  # its features as at test

    def _refuse_what_stages_cannot(self) -> None:
        mend = "Leave it out, or have one stage by keys=mean and rectify=false."
        if self.config.steps:
            raise UsageError(f"{self.name} learns in stages by epochs; steps does not say which. {mend}")
        for name, off in (("schedule", "plateau"), ("selection", "validation"), ("selection", "simulator")):
            if getattr(self.config, name) == off:
                raise UsageError(f"{self.name} learns in stages, which {name}={off} cannot compare. {mend}")

    def furnish(self, network: nn.Module) -> NormTuned:
        """Norms and keys around the frozen network."""
        config = self.config
        vit = self._frozen(network)
        keys: TaskKeys | NormKeys
        norms = vit.norms()
        width = len(norms[0].weight)
        if config.variant == "two-forward":
            keys = TaskKeys(config.keys, config.pool, self.info.classes, width)
        else:
            if config.keys != "trained":
                raise UsageError(f"{self.name}: keys={config.keys} goes with variant=two-forward. Leave it out.")
            if isinstance(vit, ViT) and vit.body.cls_token is None:
                raise UsageError(f"{self.name}: single-forward reads a class token, which {config.model} has not.")
            keys = NormKeys(len(norms), config.pool, width, config.attention)
        return NormTuned(vit, NormSets(vit, config.pool), keys, config.detach)

    def _frozen(self, network: nn.Module) -> ViT | Attentive:
        config = self.config
        if not self._policy:
            return frozen_vit(network, self.name, config)
        if not isinstance(network, Attentive):
            raise UsageError(f"{self.name} works in attention, which {config.model} has not. Set model=bc-micro.")
        for name in ("keys", "head_init"):
            if getattr(config, name) == "prototypes":
                raise UsageError(f"{self.name}: {name}=prototypes goes by classes, and actions are none. Leave it out.")
        if config.variant == "two-forward" and config.keys == "trained":
            refuse_decay(self.name, config)  # what else is trained has a tensor of its own for each task
        network.freeze()
        return network

    # -- learning ---------------------------------------------------------------------------------------------------

    def stages(self) -> list[str]:
        """The stage of each pass over a task's data."""
        config = self.config
        key_epochs = config.key_epochs if config.variant == "two-forward" and config.keys == "trained" else 0
        head_epochs = config.head_epochs if self._rectifies else 0
        return ["keys"] * key_epochs + ["norms"] * config.epochs + ["head"] * head_epochs

    def passes(self) -> int:
        """Those of all stages."""
        return len(self.stages())

    def extra_passes(self) -> int:
        """For keys and head rows that start at what the data say."""
        config = self.config
        heads = 2 if self._rectifies and config.rectify_from == "own" else 1
        return (config.keys != "trained") + (heads if config.head_init == "prototypes" else 0)

    def cost_key(self, batch: Batch) -> tuple[int, ...]:
        """The stage."""
        return (STAGES.index(self._stage(batch)),)

    def learn(self, task: Task) -> None:
        """Train; where a training image comes in the same form in every pass, it is asked about once."""
        self._data, self._rectified = task.train, None
        if "keys" in self.stages()[self.step // self._steps_per_epoch() :]:
            self.queries.begin(task.train, self.config.key_epochs)
        super().learn(task)
        self._data = self._rectified = None

    def begin_task(self, task: Task) -> None:
        """Norms, and keys at norms, start as the previous task's; keys that are not trained are placed."""
        t, keys = self.tasks_begun - 1, self.model.keys
        self.model.begin(t, self.name)
        if isinstance(keys, TaskKeys) and keys.kind != "trained":
            keys.place(t, *features(self.queries.ask, task.train, self.context, "keys"))
        self._enter(self.stages()[0])

    def loss(self, batch: Batch) -> Tensor:
        """The stage's: minus the cosine to the key; or cross-entropy among the competing classes, or of imitation."""
        t, model, stage = self.tasks_begun - 1, self.model, self._stage(batch)
        if stage == "keys":
            return model.keys.pull(t, self.queries.in_training(batch.x))
        if stage == "head":
            return self.objective.loss(model.vit.head(self._as_at_test(batch.x)), batch.y)
        if isinstance(model.keys, NormKeys):
            found, cosine = model.matched(batch.x, t)
        else:
            found, cosine = model.vit.features(batch.x, model.sets.plugs(t)), 0
        return self.objective.loss(self._beside(found), batch.y) - cosine

    def validation_loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Through the norms of the task, as they are trained."""
        plugs = self.model.sets.plugs(self.tasks_begun - 1)
        return self.objective.loss(self._beside(self.model.vit.features(x, plugs)), y)

    def after_step(self, batch: Batch) -> None:
        """After the last step of a stage the next one begins, with an optimizer that remembers nothing."""
        stages, (epoch, rest) = self.stages(), divmod(self.step + 1, self._steps_per_epoch())
        if rest == 0 and epoch < len(stages) and stages[epoch] != stages[epoch - 1]:
            self._enter(stages[epoch])
            self.optimizer = self.new_optimizer()

    def end_task(self, task: Task) -> None:
        """The stages are over."""
        self._train_only(self._lasting)
        self.optimizer = self.new_optimizer()

    def new_optimizer(self) -> Any:
        """Over what the stage trains, the head beside the norms at a rate of its own."""
        beside = any(p.requires_grad for p in self.model.sets.parameters())
        rate = self.config.temporary_lr if beside else self.config.head_lr
        return make_optimizer(dataclasses.replace(self.config, head_lr=rate), self.model)

    @property
    def _beside(self) -> nn.Linear:
        """The head that is trained beside the norms."""
        if self._policy:
            return self.model.heads[self.tasks_begun - 1]
        return self.model.temporary["head"] if self.config.rectify else self.model.vit.head

    @property
    def _policy(self) -> bool:
        return self.info.kind == "policy"

    @property
    def _rectifies(self) -> bool:
        return self.config.rectify and not self._policy

    def _stage(self, batch: Batch) -> str:
        stages = self.stages()
        return stages[min(batch.epoch, len(stages) - 1)]  # the only one may go on for `steps`

    def _enter(self, stage: str) -> None:
        """What a stage starts from, and what it trains."""
        t, model = self.tasks_begun - 1, self.model
        if stage == "keys":
            self._train_only([model.keys.keys])
        elif stage == "norms":
            if not self._policy:
                model.temporary["head"].load_state_dict(model.vit.head.state_dict())
                self._start(self._beside, partial(model.still, plugs=model.sets.plugs(t)), "prototypes")
            at_norms = model.keys.of(t) if isinstance(model.keys, NormKeys) else []
            self._train_only([model.sets.sets[t], *at_norms, *self._beside.parameters()])
        else:
            if self.config.rectify_from == "temporary":
                model.vit.head.load_state_dict(model.temporary["head"].state_dict())
            else:
                self._start(model.vit.head, self._as_at_test, "rectified prototypes")
            self._train_only(model.vit.head.parameters())

    def _start(self, head: nn.Linear, function: Callable[[Tensor], Tensor], work: str) -> None:
        """The head's rows of the classes that are new, if they are to start as prototypes; `work` is for the ledger."""
        if self.config.head_init == "prototypes":
            found, y = features(function, self._data, self.context, work)
            start_rows(head, found, y, self.objective, self.config.head_scale)

    def _train_only(self, chosen: Iterable[Tensor]) -> None:
        ids = {id(p) for p in chosen}
        for p in self.model.parameters():
            p.requires_grad_(id(p) in ids)
            p.grad = None

    @torch.no_grad()
    def _as_at_test(self, x: Tensor) -> Tensor:
        """Features [B, D] of training inputs through the norms that are chosen for them."""
        if self._data.augment is not None:
            return self._computed(x)
        if self._rectified is None:
            self._rectified = Memo(self.context.meter, "rectified")
            self._rectified.foresee(self._computed, self._data, "train")
        return self._rectified(self._computed, x, "train")

    def _computed(self, x: Tensor) -> Tensor:
        if isinstance(self.model.keys, NormKeys):
            return self.model.by_norm(x, self.tasks_begun)[0]
        chosen = self.model.keys.choose(self.queries.ask(x), self.tasks_begun)
        return self.model.still(x, self.model.sets.plugs(chosen))

    def _steps_per_epoch(self) -> int:
        return steps_per_epoch(self._data, self.config.batch_size)

    # -- answering --------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def predict(self, inputs: Tensor, query: Query, chosen: Tensor | None = None) -> Tensor:
        """The best of the query's classes, with the norms of the tasks `chosen` [B], or of its own choice."""
        model = self.model
        if not self.tasks_begun:  # the network as it came
            found = model.vit.features(inputs) if self._policy else self.queries.at_test(inputs)
            return self.objective.decide(model.vit.head(found), query)
        if chosen is None and isinstance(model.keys, NormKeys):
            found, choices = model.by_norm(inputs, self.tasks_begun)
            chosen = choices.mode(1).values
        else:
            chosen = self.select_task(inputs, query) if chosen is None else chosen
            found = self._through(inputs, chosen)
        return self.objective.decide(model.outputs(found, chosen), query)

    @torch.no_grad()
    def select_task(self, inputs: Tensor, query: Query) -> Tensor:
        """[B] int64: the task whose key is nearest; in single-forward, the one that most norms choose."""
        if isinstance(self.model.keys, NormKeys):
            return self.model.by_norm(inputs, self.tasks_begun)[1].mode(1).values
        return self.model.keys.choose(self.queries.at_test(inputs), self.tasks_begun)

    def _through(self, x: Tensor, chosen: Tensor) -> Tensor:
        """Features [B, D] through the norms of the tasks `chosen` [B]."""
        if self._policy:
            return self.model.still(x, self.model.sets.plugs(chosen))
        over = self.tasks_begun - (self.step > 0)
        found = x.new_empty(len(x), self.model.vit.width)
        for task in chosen.unique().tolist():
            rows, memo = chosen == task, self._finished.get(task) or Memo(self.context.meter, "features")
            found[rows] = memo(partial(self.model.still, plugs=self.model.sets.plugs(task)), x[rows])
            if task < over:  # its norms will not move any more
                self._finished[task] = memo
        return found

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore; what was remembered was of other norms."""
        super().load_state_dict(state)
        self._finished = {}

    def networks(self) -> list[nn.Module]:
        """All but the temporary head."""
        own = [self.model.heads] if self._policy else []
        return [self.model.vit, self.model.sets, self.model.keys, *own]
