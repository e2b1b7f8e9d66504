"""A step of ZSCL in the plain way: Zheng et al. (ICCV 2023), restated from the formulas, with the habits of their code.

Nothing is remembered from step to step and nothing is shared. Each habit can be dropped by itself, to see its price.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Collection

import torch
import torch.nn.functional as F
from carryover.strategies.zscl import ZSCL
from carryover.streams.core import Task
from torch import Tensor

HABITS = {
    "captions": "the teacher embeds all captions in every step",
    "images": "the teacher embeds the drawn reference images in every step",
    "two calls": "the image encoder is called for the task's images, and again for the reference's",
    "graph": "the consolidation is a sum over all parameters in the graph, and the ensemble makes new tensors",
    "padding": "captions and class names are read at the full length of the context",
}


class AsPublished:
    """Learns the first task of a stream from given batches.

    Args:
        ours: after `setup` and before any task; its model, reference and settings are taken over.
        context: tokens that the text encoder reads at most.
        without: of `HABITS`, those to drop.
    """

    def __init__(self, ours: ZSCL, task: Task, context: int, without: Collection[str] = ()) -> None:
        self.config, self.has = ours.config, {habit: habit not in without for habit in HABITS}
        self.model = copy.deepcopy(ours.model).train()
        self.teacher = copy.deepcopy(ours.model).requires_grad_(False).eval()
        self.reference, self.device = ours.images, ours.context.device
        classes = self.model.tokenise([texts[0] for texts in task.texts]).to(self.device)
        self.classes, self.captions = (
            F.pad(tokens, (0, context - tokens.shape[1])) if self.has["padding"] else tokens
            for tokens in (classes, ours.tokens)
        )
        self.taught_texts, self.taught_images = ours.taught_texts, ours.taught_images  # read where a habit is dropped
        self.params = [p for p in self.model.parameters() if p.requires_grad]
        self.start = [p.detach().clone() for p in self.params]
        self.mean, self.merged = [p.clone() for p in self.start], 0
        self.optimizer = torch.optim.AdamW(self.params, lr=self.config.lr, weight_decay=0)
        self.number = 0

    def step(self, x: Tensor, y: Tensor, rows: Tensor) -> Tensor:
        """The loss, without the consolidation, of images [B, ...] of classes [B], and reference images by number [R].

        The gradient is left where the optimizer found it.
        """
        config = self.config
        self.optimizer.zero_grad()
        self._set_rate()
        drawn = self.reference.prepare(self.reference.samples[rows])
        if self.has["two calls"]:
            z, v = (F.normalize(self.model(part), dim=1) for part in (x, drawn))
        else:
            z, v = F.normalize(self.model(torch.cat([x, drawn])), dim=1).split([len(x), len(drawn)])
        W = F.normalize(self.model.encode_text(self.classes), dim=1)  # [C, D]
        with torch.no_grad():
            U, V = self.taught_texts, self.taught_images[rows]  # [N, D], [R, D]
            if self.has["captions"]:
                U = F.normalize(self.teacher.encode_text(self.captions), dim=1)
            if self.has["images"]:
                V = F.normalize(self.teacher(drawn), dim=1)
        scale = self.model.logit_scale.exp()
        A, B = scale * v @ U.T, scale * V @ U.T  # [R, N], student and teacher
        loss = F.cross_entropy(scale * z @ W.T, y, label_smoothing=config.label_smoothing)
        loss = loss + config.image_distillation * _follow(A, B, config.temperature)
        loss = loss + config.text_distillation * _follow(A.T, B.T, config.temperature)
        self._descend(loss)
        self._merge()
        self.number += 1
        return loss.detach()

    def _set_rate(self) -> None:
        rising = round(self.config.warmup * self.config.steps)
        done = (self.number - rising) / (self.config.steps - rising)
        factor = (self.number + 1) / rising if self.number < rising else (1 + math.cos(math.pi * done)) / 2
        self.optimizer.param_groups[0]["lr"] = self.config.lr * factor

    def _descend(self, loss: Tensor) -> None:
        strength = self.config.consolidation
        if self.has["graph"]:
            away = sum(((p - start) ** 2).sum() for p, start in zip(self.params, self.start, strict=True))
            (loss + strength * away).backward()
        else:
            loss.backward()
            with torch.no_grad():
                torch._foreach_add_(
                    [p.grad for p in self.params], torch._foreach_sub(self.params, self.start), alpha=2 * strength
                )
        self.optimizer.step()

    def _merge(self) -> None:
        if self.number % self.config.every:
            return
        self.merged += 1
        n = self.merged
        if self.has["graph"]:
            self.mean = [(n * mean + p.detach()) / (n + 1) for mean, p in zip(self.mean, self.params, strict=True)]
        else:
            torch._foreach_lerp_(self.mean, [p.detach() for p in self.params], 1 / (n + 1))


def _follow(student: Tensor, teacher: Tensor, T: float) -> Tensor:
    """T^2 CE(softmax(teacher / T), student / T), the mean over rows."""
    return -(T**2) * ((teacher / T).softmax(1) * (student / T).log_softmax(1)).sum(1).mean()


class Told(ZSCL):
    """Ours, as it is; tells what each step read, what its loss was, and the gradient that its optimizer found."""

    def begin_task(self, task: Task) -> None:
        super().begin_task(task)
        self.read: list[tuple[Tensor, Tensor, Tensor]] = []
        self.losses: list[Tensor] = []
        self.gradients: list[list[Tensor]] = []

    def loss(self, batch):
        value = super().loss(batch)
        self.read.append((batch.x, batch.y, self.drawn))
        self.losses.append(value.detach())
        return value

    def distillation(self, v: Tensor, rows: Tensor) -> Tensor:
        self.drawn = rows
        return super().distillation(v, rows)

    def adjust_gradients(self, batch) -> None:
        super().adjust_gradients(batch)
        self.gradients.append([p.grad.clone() for p in self.model.parameters() if p.requires_grad])
