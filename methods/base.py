"""The contract of a method.

A `Method` is a module of trainable parts around a frozen encoder. Hooks are optional; what must not be forgotten
(splitting off prefix tokens, checking shapes) is sealed in `Method.adapt`. The harness freezes the backbone, builds
the optimiser groups, counts and evaluates.

Shape suffixes, here and in every method file: B batch, N patch tokens, D encoder width, M depth tokens paired with N,
Q queries, C query width, T adaptive tokens, E experts, R rank, L blocks, H W rows and columns of the token grid.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from inspect import getattr_static
from typing import Any, ClassVar, Self, final

import torch
from torch import Tensor, nn

from methods import options as _options


@dataclass(frozen=True, kw_only=True)
class EncoderSpec:
    """What a method may know of the encoder, the head and the depth encoder it is built for.

    Args:
        blocks: number of transformer blocks L.
        width: token width D.
        heads: attention heads.
        patch_size: side of a patch in pixels.
        grid: token rows and columns at the training crop.
        prefix_tokens: class and register tokens before the patch tokens.
        feature_blocks: indices of the blocks whose outputs feed the head.
        queries: number of the head's queries.
        query_width: their width C.
        linked: whether the head takes linked queries (`protocol.queries=linked`).
        depth_blocks: blocks of the depth encoder, 0 without one.
        depth_width: its width.
        depth_grid: its token rows and columns.
        mlp_width: inner width of a block's MLP; 0 means 4 D.
    """

    blocks: int
    width: int
    heads: int
    patch_size: int
    grid: tuple[int, int]
    prefix_tokens: int
    feature_blocks: tuple[int, ...]
    queries: int
    query_width: int
    linked: bool = True
    depth_blocks: int = 0
    depth_width: int = 0
    depth_grid: tuple[int, int] = (0, 0)
    mlp_width: int = 0


@dataclass(frozen=True, kw_only=True)
class Queries:
    """Linked queries for the head: positions [Q, C]; with `replace_content` the head derives the content from them."""

    position_QC: Tensor
    replace_content: bool


class Method(nn.Module):
    """Base of all methods. With no hook overridden it is the frozen baseline.

    Class variables:
        identity_at_init: a fresh adapter leaves the encoder's output exactly unchanged.
        may_be_unused: names (ends of parameter names) that may get no gradient in a step; an instance may set its own.
        no_weight_decay: names (ends of parameter names) exempt from weight decay.
        pyramid_parts: attributes whose tensors serve `pyramid` and count as head.
        trains_backbone: only full fine-tuning sets it.

    Attributes:
        grid: token rows and columns of the images at hand. The harness sets it before the encoder runs, because the
            number of tokens does not tell a wide image from a tall one; `on_grid` reads it.
        observed: a dictionary while the harness looks on, else None; `observe` fills it.
    """

    Options: ClassVar[type[_options.Options]]
    identity_at_init: ClassVar[bool] = True
    may_be_unused: tuple[str, ...] = ()
    no_weight_decay: ClassVar[tuple[str, ...]] = ()
    pyramid_parts: ClassVar[tuple[str, ...]] = ()
    trains_backbone: ClassVar[bool] = False

    def __init__(self, spec: EncoderSpec, options: _options.Options) -> None:
        """Build the trainable parts; random numbers come from torch's default generator."""
        super().__init__()
        self.spec = spec
        self.grid = spec.grid
        self.observed: dict[str, Tensor] | None = None

    def install(self, encoder: nn.Module) -> None:
        """Wrap or inject into the encoder's blocks, before training."""

    def refine(self, x_BND: Tensor, layer: int, depth_BMD: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """Change the patch tokens after block `layer`; return them, or them and a scalar auxiliary loss."""
        return x_BND

    def pyramid(self, maps: list[Tensor]) -> list[Tensor]:
        """Change the four feature maps before the head."""
        return maps

    def queries(self) -> Queries | None:
        """Linked queries for the head, or None."""
        return None

    def after_step(self, step: int) -> None:
        """Called after the optimiser's step, before gradients are cleared."""

    def memory(self) -> dict[str, Any]:
        """What it keeps from step to step beside parameters and buffers, as tensors and plain values: seldom any."""
        return {}

    def remember(self, memory: Mapping[str, Any]) -> None:
        """Take over what `memory` gave, in a trial that goes on."""

    @classmethod
    def from_released(cls, state_dict: Mapping[str, Tensor], encoder_spec: EncoderSpec, **options: Any) -> Self:
        """Build the method from a publicly released state dict, read by its parameter names.

        Args:
            state_dict: the adapter's tensors alone, under their released names without any prefix.
            encoder_spec: the encoder they were trained on.
            options: ours; what the tensors tell (ranks, widths, numbers of experts) need not be given.

        Raises:
            methods.loading.ReleasedMismatch: names or shapes do not fit.
            ValueError: the method has no public release, or an option is wrong.
        """
        raise ValueError(f"{cls.Options.name} has no public release to read: train it instead")

    @classmethod
    def expected_count(cls, spec: EncoderSpec, options: Any) -> int:
        """Trainable adapter parameters by the closed formula of the method's sheet."""
        return 0

    @classmethod
    def reachable_count(cls, spec: EncoderSpec, options: Any) -> int:
        """Those of `expected_count` that training can reach; fewer where a method registers idle parameters."""
        return cls.expected_count(spec, options)

    @final
    @classmethod
    def overrides(cls, hook: str) -> bool:
        """Whether the class has a hook of its own; the harness may leave out the others."""
        return getattr_static(cls, hook) is not vars(Method)[hook]

    @final
    def adapt(self, tokens: Tensor, layer: int, depth_BMD: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Apply `refine` to a block's raw output, whatever its layout; prefix tokens pass unchanged.

        Args:
            tokens: [B, prefix + N, D], or [B, H, W, D] for encoders that keep the grid (SAM).
            layer: block index.
            depth_BMD: depth tokens paired with this block, or None.

        Returns:
            The tokens in the same layout, and the auxiliary loss or None.
        """
        if tokens.ndim == 4:
            x_BND, prefix = tokens.flatten(1, 2), None
            self.grid = (tokens.shape[1], tokens.shape[2])
        else:
            prefix, x_BND = tokens.split([self.spec.prefix_tokens, tokens.shape[1] - self.spec.prefix_tokens], dim=1)
        refined = self.refine(x_BND, layer, depth_BMD)
        y_BND, aux = refined if isinstance(refined, tuple) else (refined, None)
        if y_BND.shape != x_BND.shape:
            raise ValueError(
                f"{self.Options.name}.refine returned shape {tuple(y_BND.shape)} after block {layer}: "
                f"it must keep {tuple(x_BND.shape)}"
            )
        y_BND = y_BND.to(tokens.dtype)
        out = y_BND.reshape(tokens.shape) if prefix is None else torch.cat([prefix, y_BND], dim=1)
        return out, aux

    @final
    def observe(self, name: str, share_BNE: Tensor) -> None:
        """Let the report show what each patch token uses, if the harness looks on; costs nothing otherwise.

        Args:
            name: what it is, as `visual/11`: a map after block 11.
            share_BNE: how much of each of E things (experts, prompts) a token takes, at least 0.
        """
        if self.observed is not None:
            self.observed[name] = share_BNE.detach()

    @final
    def on_grid(self, x_BND: Tensor) -> Tensor:
        """Patch tokens [B, N, D] as a map [B, H, W, D].

        Raises:
            ValueError: they do not fill the grid.
        """
        if x_BND.shape[1] != self.grid[0] * self.grid[1]:
            raise ValueError(
                f"{self.Options.name}: {x_BND.shape[1]} patch tokens do not fill a grid of "
                f"{self.grid[0]} x {self.grid[1]}: set `method.grid` to the images' token rows and columns"
            )
        x_BHWD: Tensor = x_BND.unflatten(1, self.grid)
        return x_BHWD
