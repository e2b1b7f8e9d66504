"""ZSCL: adapt a contrastive image-text model task after task without losing what it could do unseen.

Zheng et al., "Preventing Zero-Shot Transfer Degradation in Continual Learning of Vision-Language Models" (ICCV 2023).
Three things hold the model near the one it started from:

    distillation    on reference images and sentences from outside the stream, the student's image-to-text and
                    text-to-image distributions follow the initial model's, T^2 CE(softmax(teacher/T), student/T)
    consolidation   lambda |theta - theta_start|^2, where theta_start are the weights when the task began
    ensemble        the task ends at the mean of its start and of the weights after steps 1, 1 + every, ...

With the released code, the sentences are embedded by the teacher on both sides, so that the text encoder is not
distilled at all (`text_side="teacher"`); as the paper has it, the student embeds them too ("student").

What is frozen is computed once for the run: the teacher's embeddings of all sentences and of all reference images. The
published code embeds the sentences anew in every step, which is most of its time. Current and reference images go
through the encoder in one call; the consolidation is added to the gradients, without a graph.

Expected on `mtil-mini` (order I): Transfer 53.8, Avg 65.2, Last 76.1; see docs/mtil-mini.md. Published on MTIL (CLIP
ViT-B/16, order I): 68.1, 75.4, 83.6.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ..base.errors import UsageError
from ..base.files import sha256
from ..streams.batches import Batch
from ..streams.core import StreamInfo, Task
from .config import Amount, Count, NonNegative, Positive, WordsConfig
from .context import Context
from .core import GradientStrategy, strategy
from .parts.averaging import Average
from .parts.distillation import both_ways
from .parts.gradients import pull
from .parts.optimizers import trained
from .parts.reference import reference


@dataclass(frozen=True)
class ZSCLConfig(WordsConfig):
    """image_distillation, text_distillation: weights of the two distributions, over sentences and over images.

    temperature: of both. text_side: who embeds the sentences for the student, see above.
    consolidation: lambda. ensemble: whether a task ends at the mean. every: steps between the weights in it.
    reference: "generated", or a folder; see `parts.reference`. reference_size, reference_batch: images in all, and for
    a step. captions: sentences, 0 means all.
    """

    image_distillation: NonNegative = 1.0
    text_distillation: NonNegative = 1.0
    temperature: Positive = 2.0
    text_side: Literal["teacher", "student"] = "teacher"
    consolidation: NonNegative = 1.0
    ensemble: bool = True
    every: Count = 8
    reference: str = "generated"
    reference_size: Count = 4000
    reference_batch: Count = 64
    captions: Amount = 0


@strategy("zscl", needs=("boundaries",))
class ZSCL(GradientStrategy):
    """Hold an image-text model to its start by distillation, consolidation and averaging (ZSCL)."""

    Config = ZSCLConfig
    kinds = ("image-text",)
    stateful = (*GradientStrategy.stateful, "start", "average")
    remade = ("reference", "tokens", "taught_texts", "taught_images")

    def setup(self, info: StreamInfo, context: Context) -> None:
        """What the teacher, the model as it starts, says of the reference."""
        super().setup(info, context)
        self.start: list[Tensor] = []
        self.average = Average(self.config.every)
        if not self.distils:
            return
        config = self.config
        if config.ensemble and (config.selection != "last" or config.schedule == "plateau"):
            raise UsageError(f"{self.name}: the ensemble keeps a mean, whatever is selected. Set ensemble=false.")
        data, sentences = reference(config.reference, config.reference_size, context.seed, info.shape, config.captions)
        self.outside = {"reference": sha256("\n".join([data.digest(), *sentences]).encode())}
        self.images = data.to(context.device)
        self.reference = self.images.samples
        self.tokens = self.model.tokenise(sentences).to(context.device)
        if context.trial:
            return
        with torch.no_grad():  # the model is still the teacher
            self.taught_texts = self.once("texts", self.model.encode_text, self.tokens)  # [N, D]
            self.taught_images = self.once("images", lambda rows: self.model(data.prepare(rows)), self.images.samples)

    @property
    def distils(self) -> bool:
        """Whether a reference is needed."""
        return bool(self.config.image_distillation or self.config.text_distillation)

    def once(self, name: str, encode: Callable[[Tensor], Tensor], inputs: Tensor, at_once: int = 256) -> Tensor:
        """Normalised embeddings of all inputs, counted in the ledger this one time."""
        parts = []
        for rows in inputs.split(at_once):
            with self.context.meter.work("train", "teacher", name, len(rows)):
                parts.append(F.normalize(encode(rows), dim=1))
        return torch.cat(parts)

    def begin_task(self, task: Task) -> None:
        """The weights as they are now are what consolidation and ensemble start from."""
        params = trained(self.model)
        if self.config.consolidation:
            self.start = [p.detach().clone() for p in params]
        if self.config.ensemble:
            self.average.begin(params)

    def loss(self, batch: Batch) -> Tensor:
        """Cross-entropy on the task, and distillation on reference images, all images in one call."""
        if not self.distils:
            return super().loss(batch)
        count, device = self.config.reference_batch, batch.x.device
        rows = torch.randint(len(self.images), (count,), generator=self.context.generator("reference"))
        rows = rows.to(device, non_blocking=True)  # a step waits for no device
        drawn, _ = self.images.gather(rows)
        z, v = self.model(torch.cat([batch.x, self.images.prepare(drawn)])).split([len(batch.x), count])
        return self.objective.loss(z, batch.y) + self.distillation(v, rows)

    def distillation(self, v: Tensor, rows: Tensor) -> Tensor:
        """Of student embeddings [B, D] of the reference images `rows`, both ways."""
        texts = self.taught_texts
        if self.config.text_side == "student":
            texts = F.normalize(self.model.encode_text(self.tokens), dim=1)
        scale = self.model.logit_scale.exp()
        student = scale * F.normalize(v, dim=1) @ texts.T  # [B, N]
        teacher = scale * self.taught_images[rows] @ self.taught_texts.T
        config = self.config
        return both_ways(student, teacher, config.temperature, config.image_distillation, config.text_distillation)

    def adjust_gradients(self, batch: Batch) -> None:
        """Consolidation: 2 lambda (theta - theta_start)."""
        if self.config.consolidation:
            pull(trained(self.model), self.start, self.config.consolidation)

    def after_step(self, batch: Batch) -> None:
        """Into the ensemble."""
        if self.config.ensemble:
            self.average.take(trained(self.model), self.step)

    def end_task(self, task: Task) -> None:
        """The ensemble becomes the model; of the start nothing is kept."""
        self.start = []
        if self.config.ensemble:
            self.average.settle(trained(self.model))
