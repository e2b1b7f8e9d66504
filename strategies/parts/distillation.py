"""Distillation: a student's distribution over classes, sentences or images follows its teacher's.

Temperature T softens both; the factor T^2 keeps the gradient's size (Hinton, Vinyals and Dean, 2015).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def distillation(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 KL(teacher || student) of logits [B, C] at temperature T, mean over the batch; its gradient is 0 if equal."""
    student, teacher = F.log_softmax(student / temperature, 1), F.log_softmax(teacher / temperature, 1)
    return temperature**2 * F.kl_div(student, teacher, reduction="batchmean", log_target=True)


def both_ways(student: Tensor, teacher: Tensor, temperature: float, by_image: float = 1.0, by_text: float = 1.0):
    """T^2 CE(teacher, student) of similarities [B, N] of B images to N texts, over the texts and over the images.

    The cross-entropy instead of the divergence, as in ZSCL (Zheng et al., ICCV 2023): other values, the same gradient.

    Args:
        by_image, by_text: weights of the mean over images (softmax over texts) and over texts (over images).
    """
    student, teacher = student / temperature, teacher / temperature
    rows = F.cross_entropy(student, teacher.softmax(1)) if by_image else 0.0
    columns = F.cross_entropy(student.T, teacher.T.softmax(1)) if by_text else 0.0
    return temperature**2 * (by_image * rows + by_text * columns)
