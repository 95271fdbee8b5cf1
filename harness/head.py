"""Mask2Former from the parts of `transformers`, with optional linked queries; its loss and its semantic inference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import Mask2FormerConfig
from transformers.models.mask2former.modeling_mask2former import (
    Mask2FormerPixelDecoder,
    Mask2FormerPreTrainedModel,
    Mask2FormerTransformerModule,
)

from benchmarks.tasks import IGNORE
from harness.head_loss import MaskLoss
from harness.head_parts import replace_pixel_parts, replace_query_parts
from harness.scales import HeadSizes
from methods.base import Queries


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """Per decoder layer, last one last: class logits [B, Q, K + 1] and mask logits [B, Q, h, w]."""

    classes: list[Tensor]
    masks: list[Tensor]


class LinkedTransformer(Mask2FormerTransformerModule):
    """The transformer decoder with the query positions, and if wanted their content, coming from a method."""

    def __init__(self, in_features: int, config: Mask2FormerConfig) -> None:
        """Build the decoder with its tables, like its parent."""
        super().__init__(in_features, config)
        self.content: nn.Linear | None = None

    def drop_tables(self, replace_content: bool) -> None:
        """Drop the learned tables that the linked queries stand in for.

        Called after initialisation, so that all other tensors start as those of a head with learned queries do.

        Args:
            replace_content: derive the content from the positions by a linear layer instead of a learned table.
        """
        del self.queries_embedder
        if replace_content:
            width = self.queries_features.embedding_dim
            del self.queries_features
            self.content = nn.Linear(width, width)

    def decode(self, levels: list[Tensor], mask_features: Tensor, position_QC: Tensor) -> tuple[list[Tensor], ...]:
        """Decode; returns the normed hidden states [Q, B, C] and the mask logits [B, Q, h, w] of every layer."""
        batch = mask_features.shape[0]
        features, positions, sizes = [], [], []
        for i, level in enumerate(levels):
            sizes.append(level.shape[-2:])
            embedded = self.position_embedder(level.shape, level.device, level.dtype, None)
            positions.append(embedded.flatten(2).permute(2, 0, 1))
            projected = self.input_projections[i](level).flatten(2) + self.level_embed.weight[i][None, :, None]
            features.append(projected.permute(2, 0, 1))
        content_QC = self.queries_features.weight if self.content is None else self.content(position_QC)
        output = self.decoder(
            inputs_embeds=content_QC[:, None].repeat(1, batch, 1),
            multi_stage_positional_embeddings=positions,
            pixel_embeddings=mask_features,
            encoder_hidden_states=features,
            query_position_embeddings=position_QC[:, None].repeat(1, batch, 1),
            feature_size_list=sizes,
            return_dict=True,
        )
        return list(output.intermediate_hidden_states), list(output.masks_queries_logits)


class Mask2FormerHead(Mask2FormerPreTrainedModel):  # type: ignore[no-untyped-call]
    """Pixel decoder, transformer decoder, class layer and loss.

    Args:
        width: channels of the four feature maps.
        classes: number of classes K.
        sizes: the scale's head sizes.
        queries: an example of the method's linked queries, or None for learned ones.
    """

    def __init__(self, width: int, classes: int, sizes: HeadSizes, queries: Queries | None) -> None:
        """Build the parts and initialise them as `transformers` does."""
        config = _config(sizes, classes)
        super().__init__(config)
        self.pixel_decoder = Mask2FormerPixelDecoder(config, feature_channels=[width] * 4)
        kind = LinkedTransformer if queries else Mask2FormerTransformerModule
        self.transformer = kind(sizes.width, config)
        self.class_layer = nn.Linear(sizes.width, classes + 1)
        self.weights = {
            "loss_cross_entropy": config.class_weight,
            "loss_mask": config.mask_weight,
            "loss_dice": config.dice_weight,
        }
        self.criterion = MaskLoss(config, self.weights)
        # not post_init(): for classes outside transformers it skips every module whose parameters all sit in children,
        # so that the decoder layers, the sampling offsets and the mask MLP would keep the wrong distribution
        self.apply(self._init_weights)
        if isinstance(self.transformer, LinkedTransformer) and queries:
            self.transformer.drop_tables(queries.replace_content)
        self._projections = replace_pixel_parts(self.pixel_decoder)
        replace_query_parts(self.transformer)

    def forward(
        self, maps: Sequence[Tensor], queries: Queries | None, factors: Sequence[float] = (1, 1, 1, 1)
    ) -> Predictions:
        """Four maps [B, D, h, w], finest first, and the linked queries -> predictions of every decoder layer.

        Args:
            maps: the maps.
            queries: the queries, where the head is linked.
            factors: by which each map is to be made finer first.
        """
        given = zip(self._projections, maps, factors, strict=True)
        projected = [projection.project(level, factor) for projection, level, factor in given]
        pixels = self.pixel_decoder(projected, output_hidden_states=False, return_dict=True)
        levels, mask_features = list(pixels.multi_scale_features), pixels.mask_features
        if isinstance(self.transformer, LinkedTransformer):
            assert queries, "a head built for linked queries is fed them at every step"
            hidden, masks = self.transformer.decode(levels, mask_features, queries.position_QC)
        else:
            output = self.transformer(levels, mask_features)
            hidden, masks = list(output.intermediate_hidden_states), list(output.masks_queries_logits)
        classes = [self.class_layer(state_QBC.transpose(0, 1)) for state_QBC in hidden]
        return Predictions(classes=classes, masks=masks)

    @property
    def linked(self) -> bool:
        """Whether the query positions come from the method."""
        return isinstance(self.transformer, LinkedTransformer)

    def loss(self, predictions: Predictions, label_BHW: Tensor) -> Tensor:
        """Mask2Former's loss in fp32: cross-entropy 2, mask 5, dice 5, summed over the decoder's layers.

        Targets are one binary mask per class present; ignored pixels count as negatives in the mask losses.
        """
        present = [label_HW.unique() for label_HW in label_BHW]
        class_labels = [values[values != IGNORE] for values in present]
        mask_labels = [
            (label_HW[None] == values[:, None, None]).float()
            for label_HW, values in zip(label_BHW, class_labels, strict=True)
        ]
        pairs = [
            {"masks_queries_logits": masks.float(), "class_queries_logits": classes.float()}
            for masks, classes in zip(predictions.masks, predictions.classes, strict=True)
        ]
        losses = self.criterion(
            **pairs[-1], mask_labels=mask_labels, class_labels=class_labels, auxiliary_predictions=pairs[:-1]
        )
        weighted = [
            value * weight for name, value in losses.items() for kind, weight in self.weights.items() if kind in name
        ]
        return torch.stack(weighted).sum()

    @staticmethod
    def semantic(predictions: Predictions, size: tuple[int, int]) -> Tensor:
        """Class scores [B, K, H, W] of the last layer, as MMSegmentation computes them.

        Masks are resized to the input before the sigmoid; the no-object column is left out after the softmax.
        """
        masks = nn.functional.interpolate(
            predictions.masks[-1].float(), size=size, mode="bilinear", align_corners=False
        ).sigmoid()
        classes = predictions.classes[-1].float().softmax(-1)[..., :-1]
        return torch.einsum("bqk,bqhw->bkhw", classes, masks)


def _config(sizes: HeadSizes, classes: int) -> Mask2FormerConfig:
    config = Mask2FormerConfig(
        feature_size=sizes.width,
        mask_feature_size=sizes.width,
        hidden_dim=sizes.width,
        encoder_layers=sizes.pixel_layers,
        encoder_feedforward_dim=sizes.pixel_feedforward,
        decoder_layers=sizes.decoder_layers,
        dim_feedforward=sizes.feedforward,
        num_queries=sizes.queries,
        train_num_points=sizes.points,
        common_stride=sizes.common_stride,
    )
    config.num_labels = classes
    return config
