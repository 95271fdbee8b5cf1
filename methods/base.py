"""The contract of a method.

A `Method` is a module of trainable parts around a frozen encoder. Hooks are optional; what must not be forgotten
(splitting off prefix tokens, checking shapes) is sealed in `Method.adapt`. The harness freezes the backbone, builds
the optimiser groups, counts and evaluates.

Shape suffixes, here and in every method file: B batch, N patch tokens, D encoder width, M depth tokens paired with N,
Q queries, C query width, T adaptive tokens, E experts, R rank, L blocks, H W rows and columns of the token grid.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from inspect import getattr_static
from typing import Any, ClassVar, Self, cast, final

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

    @classmethod
    def from_released(cls, state_dict: Mapping[str, Tensor], encoder_spec: EncoderSpec, **options: Any) -> Self:
        """Build the method from a publicly released state dict, read by its parameter names.

        Args:
            state_dict: the adapter's tensors alone, under their released names without any prefix.
            encoder_spec: the encoder they were trained on.
            options: ours; what the tensors tell (ranks, widths, numbers of experts) need not be given.

        Raises:
            ReleasedMismatch: names or shapes do not fit.
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


class ReleasedMismatch(ValueError):
    """A state dict that is not, in full and alone, what a method's public release holds.

    Attributes:
        matched: released names that are there.
        missing: released names that are not.
        unknown: names that the release does not know.
        shapes: where all names are there, the tensors that do not fit, one text each.
    """

    def __init__(
        self,
        message: str,
        *,
        matched: Collection[str] = (),
        missing: Collection[str] = (),
        unknown: Collection[str] = (),
        shapes: Collection[str] = (),
    ) -> None:
        """Sort the names, for messages and reports."""
        super().__init__(message)
        self.matched, self.missing, self.unknown = sorted(matched), sorted(missing), sorted(unknown)
        self.shapes = list(shapes)


def take(state_dict: Mapping[str, Tensor], names: Mapping[str, str], method: str) -> dict[str, Tensor]:
    """Rename a released state dict to our names; every given and every expected name must be accounted for.

    Args:
        state_dict: released name -> tensor.
        names: released name -> our name; an empty name drops the tensor.
        method: the method's name, for the message.

    Raises:
        ReleasedMismatch: names missing or unknown; where they only carry a prefix, the message says which.
    """
    missing, unknown = set(names) - set(state_dict), set(state_dict) - set(names)
    if missing or unknown:
        prefix = _prefix(unknown, missing)
        remedy = f"strip {prefix!r} from its names and " if prefix else ""
        raise ReleasedMismatch(
            f"this is not a released {method} state dict: missing {_some(missing)}, unknown {_some(unknown)}; "
            f"{remedy}pass the adapter's tensors alone, under their released names",
            matched=set(names) & set(state_dict),
            missing=missing,
            unknown=unknown,
        )
    return {ours: state_dict[theirs] for theirs, ours in names.items() if ours}


def _prefix(unknown: Collection[str], missing: Collection[str]) -> str:
    """What stands before missing names among the unknown ones, with its dot; empty if nothing does."""
    found: Counter[str] = Counter()
    for name in unknown:
        parts = name.split(".")
        found.update(".".join(parts[:i]) + "." for i in range(1, len(parts)) if ".".join(parts[i:]) in missing)
    best = found.most_common(1)
    # one name alone may end alike by chance
    return best[0][0] if best and best[0][1] > 1 else ""


def _some(names: Collection[str]) -> str:
    """The first few names and how many there are."""
    shown = ", ".join(sorted(names)[:5]) or "nothing"
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown


def load_exactly(module: nn.Module, state: Mapping[str, Tensor], method: str) -> None:
    """Load a state dict in full: in float64 if it is in float64, else in the module's own precision.

    Args:
        module: the method, fresh from its spec and options.
        state: our name -> tensor.
        method: the method's name, for the message.

    Raises:
        ReleasedMismatch: a tensor is missing or its shape does not fit; the message names it and, where the sizes
            tell, the option or the field of the spec that would have to change.
    """
    shapes = []
    for name, tensor in cast(Mapping[str, Tensor], module.state_dict()).items():
        if name not in state or state[name].shape != tensor.shape:
            found = tuple(state[name].shape) if name in state else "nothing"
            text = f"{name} is {found} in the released state, {tuple(tensor.shape)} by the encoder spec and options"
            shapes.append(text + (_hint(module, tensor, state[name]) if name in state else ""))
    if shapes:
        more = f" (and {len(shapes) - 1} more)" if len(shapes) > 1 else ""
        remedy = "give the options and the spec it was trained with"
        raise ReleasedMismatch(f"{method}: {shapes[0]}{more}: {remedy}", shapes=shapes)
    if any(tensor.dtype == torch.float64 for tensor in state.values()):
        module.double()
    module.load_state_dict(dict(state), strict=True)


_SIZES = ("blocks", "width", "queries", "query_width", "depth_blocks", "depth_width")


def _hint(module: nn.Module, expected: Tensor, found: Tensor) -> str:
    """Which sizes of the spec and of the options stand where two shapes differ, and what is found there."""
    spec, options = getattr(module, "spec", None), getattr(module, "options", None)
    sizes = {f"spec.{name}": getattr(spec, name, None) for name in _SIZES}
    if isinstance(options, _options.Options):
        sizes |= {f"{options.name}.{field.name}": getattr(options, field.name) for field in fields(options)}
    hints: dict[str, None] = {}
    for ours, theirs in zip(expected.shape, found.shape, strict=False):
        names = [name for name, size in sizes.items() if type(size) is int and size == ours != theirs]
        hints |= {f"{' or '.join(names)} would have to be {theirs}": None} if names else {}
    return f" ({', '.join(hints)})" if hints else ""
