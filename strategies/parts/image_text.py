"""Classes told in words: the logit of a class is the scaled cosine of an image to its prompts, in a contrastive model.

There is no head. In training the first prompt of each class is encoded anew in every step, with a gradient; an answer
uses the mean of all its prompts' embeddings (Radford et al., "Learning Transferable Visual Models From Natural Language
Supervision", ICML 2021). The network's own forward pass encodes images, so that any strategy that asks the objective
for its loss and its answers learns image-text streams, too.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...base.errors import UsageError
from ...streams.core import Query, StreamInfo, Task
from ..context import Context
from .objective import Classification

Prompts = tuple[tuple[str, ...], ...]
AT_ONCE = 256  # prompts encoded together where no gradient is asked for: a large data set has thousands


class ImageText(Classification):
    """Cross-entropy over the classes that compete, each by its words.

    Args:
        model: encodes images and texts; see `backbones.clip`.
        rehearses: whether a batch may hold samples of earlier tasks; else only the latest task's classes are encoded.

    Raises:
        UsageError: a network that does not encode both.
    """

    def __init__(
        self, model: nn.Module, info: StreamInfo, compete: str, context: Context, smoothing: float, rehearses: bool
    ) -> None:
        super().__init__(info, compete, context.device, smoothing)
        if not all(hasattr(model, name) for name in ("encode_image", "encode_text", "tokenise", "logit_scale")):
            raise UsageError(
                f"{info.name} tells its classes in words, and the network does not read. Set model=clip-micro."
            )
        self.model, self.context, self.rehearses = model, context, rehearses
        self.prompts: dict[int, str] = {}  # the training prompt of each class revealed so far
        self._tokens: dict[Prompts, tuple[Tensor, Tensor]] = {}
        self._answers: tuple[Query, Any, Tensor] | None = None

    def reveal(self, task: Task) -> None:
        """Take in the classes of a new task, and their words."""
        super().reveal(task)
        self.prompts |= {c: texts[0] for c, texts in zip(task.classes, task.texts, strict=True)}

    def loss(self, logits: Tensor, y: Tensor, reduction: str = "mean") -> Tensor:
        """Cross-entropy of image embeddings [B, D] against class ids [B]."""
        return super().loss(self.logits(logits), y, reduction)

    def logits(self, z: Tensor) -> Tensor:
        """[B, C] for image embeddings [B, D]; -inf where a class takes no part in this task's training."""
        classes = self.trained()
        W = self.classifier(tuple((self.prompts[c],) for c in classes))
        columns = torch.tensor(classes).to(z.device, non_blocking=True)  # a step waits for no device
        scaled = self.model.logit_scale.exp() * F.normalize(z, dim=1) @ W.T
        return z.new_full((len(z), len(self.excluded)), -torch.inf).index_copy(1, columns, scaled)

    def trained(self) -> list[int]:
        """Classes that are encoded in a step: of the latest task, or all that a label may be or compete with."""
        if self.rehearses or self.space != "task":
            return sorted(self.prompts)
        return sorted(self.groups[-1])

    def classifier(self, prompts: Prompts) -> Tensor:
        """[len(prompts), D]: of each class the normalised mean of its prompts' normalised embeddings."""
        tokens, owner = self._tokenised(prompts)
        parts = [tokens] if torch.is_grad_enabled() else tokens.split(AT_ONCE)
        each = torch.cat([F.normalize(self.model.encode_text(part), dim=1) for part in parts])
        if len(each) == len(prompts):
            return each
        return F.normalize(each.new_zeros(len(prompts), each.shape[1]).index_add(0, owner, each), dim=1)

    def _tokenised(self, prompts: Prompts) -> tuple[Tensor, Tensor]:
        """Tokens [N, L] of all prompts, and the class that each is of [N]; remembered."""
        if prompts not in self._tokens:
            flat = [sentence for own in prompts for sentence in own]
            owner = [i for i, own in enumerate(prompts) for _ in own]
            device = self.context.device
            self._tokens[prompts] = self.model.tokenise(flat).to(device), torch.tensor(owner, device=device)
        return self._tokens[prompts]

    @torch.no_grad()
    def decide(self, logits: Tensor, query: Query) -> Tensor:
        """Class ids [B] for image embeddings [B, D]: the candidate whose words are nearest; with none, -1."""
        if not query.classes:
            return torch.full((len(logits),), -1, device=logits.device)
        nearest = (F.normalize(logits, dim=1) @ self._candidates(query).T).argmax(1)
        return query.column_index(logits.device)[nearest]

    def _candidates(self, query: Query) -> Tensor:
        """The classifier of a query's texts, remembered for the batches of one test."""
        now = self.context.task, self.context.meter.steps
        if self._answers is None or self._answers[0] is not query or self._answers[1] != now:
            tokens, _ = self._tokenised(query.texts)
            with self.context.meter.work("eval", "texts", len(query.texts), *tokens.shape):
                self._answers = query, now, self.classifier(query.texts)
        return self._answers[2]

    def state_dict(self) -> dict[str, Any]:
        """The classes revealed so far, and their words."""
        return super().state_dict() | {"prompts": self.prompts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore."""
        super().load_state_dict(state)
        self.prompts = dict(state["prompts"])
        self._answers = None
