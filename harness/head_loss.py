"""Mask2Former's loss as `transformers` computes it, from the same random numbers, with less work.

Points that all masks share are looked up once, the two cross-entropies of a pair are one, and points are chosen without
being sorted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from transformers import Mask2FormerConfig
from transformers.models.mask2former.modeling_mask2former import (
    Mask2FormerHungarianMatcher,
    Mask2FormerLoss,
    dice_loss,
    sample_point,
    sigmoid_cross_entropy_loss,
)


class Matcher(Mask2FormerHungarianMatcher):
    """Pairs queries with the masks of an image by class, mask and dice cost at random points."""

    @torch.no_grad()
    def forward(  # type: ignore[override]  # the library's annotations say less than it returns
        self,
        masks_queries_logits: Tensor,
        class_queries_logits: Tensor,
        mask_labels: Sequence[Tensor],
        class_labels: Sequence[Tensor],
    ) -> list[tuple[Tensor, Tensor]]:
        """Of each image the indices of paired queries and of their masks; arguments as the library's."""
        return [
            _assigned(self._costs(*image))
            for image in zip(masks_queries_logits, class_queries_logits, mask_labels, class_labels, strict=True)
        ]

    def _costs(self, logits_Qhw: Tensor, classes_QK: Tensor, masks_Mhw: Tensor, present_M: Tensor) -> Tensor:
        """What pairing costs [Q, M]."""
        points_1P2 = torch.rand(1, self.num_points, 2, device=logits_Qhw.device)
        logits_QP, labels_MP = (
            sample_point(stack.to(logits_Qhw)[None], points_1P2, align_corners=False)[0]
            for stack in (logits_Qhw, masks_Mhw)
        )
        # y softplus(-x) + (1 - y) softplus(x) = softplus(x) - x y
        product_QM = logits_QP @ labels_MP.T
        mask_QM = (nn.functional.softplus(logits_QP).sum(-1, keepdim=True) - product_QM) / self.num_points
        share_QP = logits_QP.sigmoid()
        both_QM = share_QP.sum(-1)[:, None] + labels_MP.sum(-1)
        dice_QM = 1 - (2 * share_QP @ labels_MP.T + 1) / (both_QM + 1)
        class_QM = -classes_QK.softmax(-1)[:, present_M]
        costs_QM: Tensor = self.cost_mask * mask_QM + self.cost_class * class_QM + self.cost_dice * dice_QM
        return costs_QM


def _assigned(costs_QM: Tensor) -> tuple[Tensor, Tensor]:
    """The cheapest pairs; what is no number is as dear as can be, as in the library."""
    dearest = torch.finfo(costs_QM.dtype).max
    finite_QM = costs_QM.nan_to_num(nan=dearest, posinf=dearest, neginf=dearest)
    rows, columns = linear_sum_assignment(finite_QM.cpu().numpy())
    return torch.from_numpy(np.asarray(rows)), torch.from_numpy(np.asarray(columns))


class MaskLoss(Mask2FormerLoss):
    """Cross-entropy of classes, and cross-entropy and dice of masks at uncertain and random points."""

    def __init__(self, config: Mask2FormerConfig, weights: dict[str, float]) -> None:
        """As the library's, with the matcher above."""
        super().__init__(config, weights)
        made = self.matcher
        self.matcher = Matcher(made.cost_class, made.cost_mask, made.cost_dice, made.num_points)

    def loss_masks(  # type: ignore[override]  # the library's annotations say less than it takes
        self,
        masks_queries_logits: Tensor,
        mask_labels: Sequence[Tensor],
        indices: Sequence[tuple[Tensor, Tensor]],
        num_masks: Tensor,
    ) -> dict[str, Tensor]:
        """Mask and dice loss of paired queries; arguments as the library's."""
        pairs = zip(masks_queries_logits, mask_labels, indices, strict=True)
        paired = [(logits_Qhw[rows], masks_Mhw[columns]) for logits_Qhw, masks_Mhw, (rows, columns) in pairs]
        logits_X1hw, labels_X1hw = (torch.cat(stacks)[:, None] for stacks in zip(*paired, strict=True))
        with torch.no_grad():
            grid_XP12 = self._points(logits_X1hw)
            labels_XP = _sampled(labels_X1hw, grid_XP12)
        logits_XP = _sampled(logits_X1hw, grid_XP12)
        parts: dict[str, Any] = {"inputs": logits_XP, "labels": labels_XP, "num_masks": num_masks}
        return {"loss_mask": sigmoid_cross_entropy_loss(**parts), "loss_dice": dice_loss(**parts)}

    def _points(self, logits_X1hw: Tensor) -> Tensor:
        """Where to look at each mask, from -1 to 1: at the most uncertain of many random points, and at random ones."""
        masks, device = len(logits_X1hw), logits_X1hw.device
        most = int(self.num_points * self.oversample_ratio)
        # in place: memory that is new to the process costs more than the arithmetic
        drawn_XP2 = torch.rand(masks, most, 2, device=device).mul_(2).sub_(1)
        certain_XP = _sampled(logits_X1hw, drawn_XP2[:, :, None]).abs_()
        count = int(self.importance_sample_ratio * self.num_points)
        # a sum over points does not ask for their order
        best_XP = certain_XP.topk(count, dim=1, largest=False, sorted=False).indices
        chosen_XP2 = drawn_XP2.gather(1, best_XP[..., None].expand(-1, -1, 2))
        random_XP2 = torch.rand(masks, self.num_points - count, 2, device=device).mul_(2).sub_(1)
        return torch.cat([chosen_XP2, random_XP2], dim=1)[:, :, None]


def _sampled(stack_X1hw: Tensor, grid_XP12: Tensor) -> Tensor:
    """Values [X, P] of each map at its points."""
    return nn.functional.grid_sample(stack_X1hw, grid_XP12, align_corners=False)[:, 0, :, 0]
