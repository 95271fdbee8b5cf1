"""Mask2Former's loss as `transformers` computes it, from the same random numbers, with less work.

Points that all masks share are looked up once, the two cross-entropies of a pair are one, and points are chosen without
being sorted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from transformers import Mask2FormerConfig
from transformers.models.mask2former.modeling_mask2former import (
    Mask2FormerHungarianMatcher,
    Mask2FormerLoss,
    sample_point,
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

    def sample_points_using_uncertainty(
        self,
        logits: Tensor,
        uncertainty_function: Callable[[Tensor], Tensor],
        num_points: int,
        oversample_ratio: float,
        importance_sample_ratio: float,
    ) -> Tensor:
        """Points [M, P, 2] of each of M masks: the most uncertain of many random ones, and random ones."""
        masks, device = logits.shape[0], logits.device
        drawn_MP2 = torch.rand(masks, int(num_points * oversample_ratio), 2, device=device)
        uncertain_MP = uncertainty_function(sample_point(logits, drawn_MP2, align_corners=False))[:, 0]
        count = int(importance_sample_ratio * num_points)
        # a sum over points does not ask for their order
        best_MP = uncertain_MP.topk(count, dim=1, sorted=False).indices
        chosen_MP2 = drawn_MP2.gather(1, best_MP[..., None].expand(-1, -1, 2))
        return torch.cat([chosen_MP2, torch.rand(masks, num_points - count, 2, device=device)], dim=1)
