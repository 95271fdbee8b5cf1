"""NewMethod: a gated bottleneck after every block of the frozen encoder. Change it into yours.

With x the patch tokens after a block: x + sigmoid(g(n)) · up(GELU(down(n))), n = LayerNorm(x). `up` starts at zero, so
that training starts from the encoder as it is.

Shape suffixes: B batch, N patch tokens, D encoder width, R bottleneck width. The whole contract is `methods/base.py`;
how to use it is `docs/adding_a_method.md`.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor, nn

from methods.base import EncoderSpec, Method
from methods.options import Options


@dataclass(frozen=True, kw_only=True)
class NewMethodOptions(Options):
    """What can be set with `--set newmethod.option=value`; each field is part of the trial key.

    Args:
        rank: inner width R of the bottleneck.
        gate: let every token choose how much it takes.
    """

    name = "newmethod"
    title = "NewMethod"
    paper = "authors, title, venue and year"
    # who vouches for each preset: author_checked, vector_checked (golden vectors), from_paper or inferred
    ports = MappingProxyType({"default": "author_checked", "small": "author_checked"})
    # named sets of options: --set newmethod.preset=small
    presets = MappingProxyType({"small": {"rank": 4, "gate": False}})
    # other facts, with their defaults:
    #   version = 1            raise it when numbers change and the source's hash does not tell (built-in methods)
    #   lr_scale = 1.0         factor of the protocol's learning rate; the table prints another one
    #   links_queries = True   False: `queries` never gives any, and the control `queries` makes no second trial
    #   control = False        True: takes part only where a suite or `--method` names it (built-in methods)
    #   baseline = False       True: tables give differences to it; the frozen encoder is ours
    #   published_m = {}       published millions of parameters by backbone, shown by `run.py params`
    #   variants = {}          named sets of options on top of a preset: newmethod.variant=NAME
    #   head_queries           property: how many queries the head must have; None leaves it to the scale
    #   translated             class method: other words for values, as a preset's paper writes them

    rank: int = 16
    gate: bool = True

    def __post_init__(self) -> None:
        """Refuse what cannot be built, with a message that names the option."""
        if self.rank < 1:
            raise ValueError(f"newmethod.rank={self.rank}: must be at least 1")

    @property
    def needs_depth(self) -> bool:
        """Whether `refine` gets the depth encoder's tokens; it may depend on an option."""
        return False


class NewMethod(Method):
    """A gated bottleneck after every block."""

    Options = NewMethodOptions
    # facts, here with their defaults:
    identity_at_init = True  # False if a fresh adapter changes the features
    may_be_unused = ()  # ends of names of parameters that a step may leave without a gradient
    no_weight_decay = ()  # ends of names of parameters; norms are exempt anyway
    pyramid_parts = ()  # attributes that serve `pyramid`; their tensors count as head
    trains_backbone = False  # True only where the backbone itself trains

    def __init__(self, spec: EncoderSpec, options: NewMethodOptions) -> None:
        """Build the trainable parts; random numbers come from torch's default generator alone."""
        super().__init__(spec, options)
        # spec tells the sizes: blocks, width, heads, grid, depth_width, queries, ...; never a backbone's name
        self.norm = nn.ModuleList(nn.LayerNorm(spec.width) for _ in range(spec.blocks))
        self.down = nn.ModuleList(nn.Linear(spec.width, options.rank) for _ in range(spec.blocks))
        self.up = nn.ModuleList(nn.Linear(options.rank, spec.width) for _ in range(spec.blocks))
        self.gate = nn.ModuleList(nn.Linear(spec.width, 1) for _ in range(spec.blocks if options.gate else 0))
        for parameter in self.up.parameters():
            nn.init.zeros_(parameter)

    def refine(self, x_BND: Tensor, layer: int, depth_BMD: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """Change the patch tokens after block `layer`; class and register tokens never come here.

        Returns:
            The tokens, or the tokens and a scalar loss, which is averaged over layers and added to the head's.
        """
        n_BND = self.norm[layer](x_BND)
        change_BND: Tensor = self.up[layer](nn.functional.gelu(self.down[layer](n_BND)))
        if self.gate:
            change_BND = change_BND * torch.sigmoid(self.gate[layer](n_BND))
        # self.on_grid(x_BND) gives the tokens as a map [B, H, W, D], for convolutions and transforms;
        # self.observe("name", share_BNE) lets the report show which of E things each token uses
        return x_BND + change_BND

    # Other hooks, all optional; a method may use any of them beside `refine` or instead of it.
    #
    # def install(self, encoder: nn.Module) -> None:
    #     """Wrap or inject into `encoder.blocks`, before training: what you add there trains (LoRA, prompts)."""
    #
    # def pyramid(self, maps: list[Tensor]) -> list[Tensor]:
    #     """Change the four feature maps [B, D, h, w] before the head; name the parts in `pyramid_parts`."""
    #
    # def queries(self) -> Queries | None:
    #     """Positions [Q, C] of the head's queries, linked to your parameters (REIN); C = spec.query_width."""
    #
    # def after_step(self, step: int) -> None:
    #     """After the optimiser's step, gradients still there: prune, anneal, update an average (in a buffer)."""
    #
    # def memory(self) -> dict[str, Any]:
    #     """What you keep from step to step in neither parameters nor buffers, for a trial that is interrupted."""
    #
    # def remember(self, memory: Mapping[str, Any]) -> None:
    #     """Take over what `memory` gave, when the trial goes on."""
    #
    # @classmethod
    # def from_released(cls, state_dict: Mapping[str, Tensor], encoder_spec: EncoderSpec, **options: Any) -> Self:
    #     """Read a published checkpoint by its own names; `take` and `load_exactly` of methods.loading help."""
    #
    # @classmethod
    # def reachable_count(cls, spec: EncoderSpec, options: Any) -> int:
    #     """Fewer than `expected_count` where the method registers parameters that no output depends on."""

    @classmethod
    def expected_count(cls, spec: EncoderSpec, options: NewMethodOptions) -> int:
        """L (2 D R + R + 3 D), and L (D + 1) with the gate: trainable parameters by formula, against slips."""
        bottleneck = 2 * spec.width * options.rank + options.rank + 3 * spec.width
        gate = spec.width + 1 if options.gate else 0
        return spec.blocks * (bottleneck + gate)
