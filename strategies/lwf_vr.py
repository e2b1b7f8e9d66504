"""LwF with vocabulary replay: on the new task's images, keep the likeness to random sentences.

The stronger of two baselines in Zheng et al. (ZSCL, ICCV 2023) after Li and Hoiem's learning without forgetting (2016):
no data from outside; the teacher is the model as the task begins, its images are those of the current batch, and its
sentences random words ("random"), or the prompts of the task's own classes, which is their plain LwF ("classes").
T^2 CE(softmax(teacher/T), student/T), over sentences and over images. As in `zscl`, the sentences are embedded by the
teacher on both sides unless `text_side="student"`.

What is frozen is computed once: the teacher's sentences for a task; its view of the images is needed anew in each step,
because training images are drawn and changed.

Published on MTIL (CLIP ViT-B/16, order I): LwF-VR Transfer 57.2, Avg 65.1, Last 76.6; LwF 56.9, 64.7, 74.6. On
`mtil-mini` random sentences of a closed vocabulary contain the words of every class, and it does far better.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ..base.seeds import torch_generator
from ..streams.batches import Batch
from ..streams.core import StreamInfo, Task
from .config import Count, NonNegative, Positive, WordsConfig
from .context import Context
from .core import GradientStrategy, strategy
from .parts.distillation import both_ways
from .parts.gradients import with_weights


@dataclass(frozen=True)
class LwFVRConfig(WordsConfig):
    """image_distillation, text_distillation: weights of the two distributions, over sentences and over images.

    sentences: "random", `count` of `length` words each, or "classes". temperature, text_side: as in `zscl`.
    """

    image_distillation: NonNegative = 1.0
    text_distillation: NonNegative = 1.0
    temperature: Positive = 2.0
    sentences: Literal["random", "classes"] = "random"
    count: Count = 1000
    length: Count = 10
    text_side: Literal["teacher", "student"] = "teacher"


@strategy("lwf-vr", needs=("boundaries",))
class LwFVR(GradientStrategy):
    """Keep the likeness of the new task's images to random sentences (learning without forgetting)."""

    Config = LwFVRConfig
    kinds = ("image-text",)
    stateful = (*GradientStrategy.stateful, "teacher", "tokens", "taught")

    def setup(self, info: StreamInfo, context: Context) -> None:
        """Draw the sentences; the first teacher is the model as it comes."""
        super().setup(info, context)
        self.teacher: dict[str, Tensor] = {}
        self.tokens = self.taught = torch.empty(0)
        if self.config.sentences == "random":
            draw = torch_generator("vocabulary replay", context.seed)
            self.tokens = self.model.random_tokens(self.config.count, self.config.length, draw).to(context.device)

    def begin_task(self, task: Task) -> None:
        """The model as it stands becomes the teacher."""
        self.teacher = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
        if self.config.sentences == "classes":
            self.tokens = self.model.tokenise([texts[0] for texts in task.texts]).to(self.context.device)
        with torch.no_grad(), self.context.meter.work("train", "teacher", *self.tokens.shape):
            self.taught = F.normalize(self.model.encode_text(self.tokens), dim=1)  # [N, D]

    def end_task(self, task: Task) -> None:
        """No teacher is kept between tasks."""
        self.teacher = {}

    def loss(self, batch: Batch) -> Tensor:
        """Cross-entropy on the task, and distillation on its own images."""
        z = self.model(batch.x)
        with torch.no_grad():
            self.model.eval()  # the teacher answers as it did at test
            seen = with_weights(self.model, self.teacher, self.model, batch.x)
            self.model.train()
        texts = self.taught
        if self.config.text_side == "student":
            texts = F.normalize(self.model.encode_text(self.tokens), dim=1)
        scale = self.model.logit_scale.exp()
        student = scale * F.normalize(z, dim=1) @ texts.T  # [B, N]
        teacher = scale * F.normalize(seen, dim=1) @ self.taught.T
        config = self.config
        kept = both_ways(student, teacher, config.temperature, config.image_distillation, config.text_distillation)
        return self.objective.loss(z, batch.y) + kept
