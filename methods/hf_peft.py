"""Tuners of HuggingFace `peft` in the attention of a frozen encoder, by configuration alone: `peft:<tuner>`.

The classes are made from the table in `methods.options.peft_tuners`, under the tuners' names. No tensor of a tuner
decays: decay would pull those that multiply (magnitudes, rotations, scales) to zero, away from the frozen model.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, cast

import peft
import torch
from peft.tuners.adalora import SVDLinear
from torch import Tensor, nn

from methods.base import EncoderSpec, Method
from methods.options.peft import CLASSES, TUNERS, PeftOptions
from methods.options.peft_tuners import Tuner
from methods.parts import ATTENTION_LAYERS, attention_pattern, expose_qkv, split_qkv

log = logging.getLogger(__name__)

_OUTPUTS = {"qkv": 3}
_IMPORTANCE = ("ipt", "exp_avg_ipt", "exp_avg_unc")
# norms are adapted as they are meant to be; BOFT's kernel for block-diagonal matrices is a matter of speed; no merging
_EXPECTED = "Unsupported layer type|Failed to load the CUDA extension|Setting boft_n_butterfly_factor|.*no bias term"


class HFPeft(Method):
    """One tuner of `peft`, put into every block."""

    Options: ClassVar[type[PeftOptions]]
    no_weight_decay = (
        *("default", "default.weight", "default.bias", "default.vector_a", "default.vector_b"),
        *(f"default.{layer}" for layer in range(128)),  # TinyLoRA's vectors, by layer
    )

    def __init__(self, spec: EncoderSpec, options: PeftOptions) -> None:
        """Keep the options; the tensors are made by `install`.

        Raises:
            ValueError: an option that must divide the encoder's width does not.
        """
        super().__init__(spec, options)
        self.options = options
        for name in options.tuner.divides:
            if spec.width % getattr(options, name):
                raise ValueError(
                    f"{options.name}.{name}={getattr(options, name)} does not divide the backbone's width "
                    f"{spec.width}: choose a divisor"
                )

    def install(self, encoder: nn.Module) -> None:
        """Wrap the layers, in place."""
        self._inject(encoder)

    def _inject(self, encoder: nn.Module) -> Any:
        """Wrap the layers and return `peft`'s model of the tuner."""
        tuner = self.options.tuner
        config = getattr(peft, tuner.config, None)
        if config is None:
            raise ValueError(f"{self.options.name} is unknown to peft {peft.__version__}: install a newer one")
        arguments = {**_arguments(self.options), **_targets(self.options)}
        if tuner.place != "norm":
            _arrange(encoder, cast(Any, self.options).target)
        # the CPU as default device: some tuners read values while they are built, which the meta device has not;
        # `peft` moves the tensors to where the encoder lies
        with warnings.catch_warnings(), torch.device("cpu"):
            warnings.filterwarnings("ignore", message=_EXPECTED)
            return peft.get_peft_model(encoder, config(**arguments)).base_model

    @classmethod
    def expected_count(cls, spec: EncoderSpec, options: PeftOptions) -> int:
        """The tuner's formula over the layers of a block."""
        return options.tuner.count(options, _shapes(spec, options), spec.blocks)


class AdaLora(HFPeft):
    """AdaLoRA (Zhang et al., ICLR 2023): SVD-shaped updates whose smallest singular triplets are pruned on the way.

    The budget falls from `init_r` to `target_r` between the steps `tinit` and `total_step - tfinal`, then stays. The
    number of steps is the protocol's, which no method sees: `total_step` is an option, by default the steps of a mini
    trial. Set it to the trial's own steps where those differ.
    """

    def install(self, encoder: nn.Module) -> None:
        """Wrap the layers, and remember them by block for the penalty."""
        # in tuples: neither is a part of this module, and the encoder's tensors must not get a second name
        self._tuner = (self._inject(encoder),)
        self._wrapped = tuple(
            tuple(module for module in block.modules() if isinstance(module, SVDLinear))
            for block in cast(Iterable[nn.Module], encoder.blocks)
        )
        for module in (module for wrapped in self._wrapped for module in wrapped):
            # a count kept as a tensor: where `peft` moves it to the encoder's device, it forgets that it is frozen
            module.ranknum.requires_grad_(False)

    def refine(self, x_BND: Tensor, layer: int, depth_BMD: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Leave the tokens; return the penalty that keeps P and Q of W + P Λ Q orthogonal (Eq. 4).

        In `peft`'s form, the mean of ||P'P - 1|| and ||QQ' - 1|| over the layers times `orth_reg_weight`, which `peft`
        itself adds only to the loss of a language model. The harness's mean over blocks completes the mean over layers.
        """
        with torch.autocast(x_BND.device.type, enabled=False):
            penalties = [
                _skew(cast(Tensor, factor))
                for module in self._wrapped[layer]
                for factor in (module.lora_A["default"], module.lora_B["default"].T)
            ]
            return x_BND, cast(Any, self.options).orth_reg_weight * torch.stack(penalties).mean()

    def after_step(self, step: int) -> None:
        """Update the importance of every triplet from its gradient and prune to the budget of this step."""
        total = cast(Any, self.options).total_step
        if step == total + 1:
            log.warning("peft:adalora ended its budget schedule at step %d, before training: raise total_step", total)
        self._tuner[0].update_and_allocate(step)

    def memory(self) -> dict[str, Any]:
        """The importance of every triplet, smoothed over the steps."""
        return {name: dict(getattr(self._tuner[0].rankallocator, name)) for name in _IMPORTANCE}

    def remember(self, memory: Mapping[str, Any]) -> None:
        """Take over what `memory` gave."""
        device = next(self._tuner[0].parameters()).device
        for name in _IMPORTANCE:
            by_tensor = {key: tensor.to(device) for key, tensor in memory[name].items()}
            setattr(self._tuner[0].rankallocator, name, by_tensor)


def _skew(factor: Tensor) -> Tensor:
    """Distance of a factor's rows [r, D] from orthonormal ones."""
    distance: Tensor = torch.linalg.matrix_norm(factor @ factor.T - torch.eye(len(factor), device=factor.device))
    return distance


def _arguments(options: PeftOptions) -> dict[str, Any]:
    """What the configuration is called with, an alpha of 0 replaced by the rank."""
    given = {name: getattr(options, name) for name in options.tuner.options}
    rank = given.get("r", given.get("init_r"))
    given |= {name: rank for name in ("alpha", "lora_alpha") if given.get(name) == 0}
    return {**given, **options.tuner.fixed}


def _targets(options: PeftOptions) -> dict[str, Any]:
    """Which modules `peft` wraps, as regular expressions on their names."""
    place = options.tuner.place
    if place == "norm":
        return {"target_modules": r"blocks\.\d+\.norm[12]"}
    attention = attention_pattern(cast(Any, options).target)
    if place == "linear":
        return {"target_modules": attention}
    last = r"blocks\.\d+\.mlp\.fc2"
    return {"target_modules": f"{attention}|{last}", "feedforward_modules": last}


def _shapes(spec: EncoderSpec, options: PeftOptions) -> list[tuple[int, int]]:
    """Inputs and outputs of the layers adapted in a block; what (IA)³ scales counts as an output."""
    if options.tuner.place == "norm":
        return [(spec.width, spec.width)] * 2
    layers = ATTENTION_LAYERS[cast(Any, options).target]
    shapes = [(spec.width, spec.width * _OUTPUTS.get(name, 1)) for name in layers]
    if options.tuner.place == "linear+mlp":
        shapes.append((spec.width, spec.mlp_width or 4 * spec.width))
    return shapes


def _arrange(encoder: nn.Module, target: str) -> None:
    """Give every block the layers that `target` names, each called as a module."""
    if target != "qkv_fused":
        split_qkv(encoder)
        return
    for block in cast(Iterable[Any], encoder.blocks):
        if block.attn.qkv is None:
            _fuse_qkv(block.attn)
    expose_qkv(encoder)


def _fuse_qkv(attention: Any) -> None:
    """Give timm's split `EvaAttention` (EVA-02) its own fused form: the same tensors, rearranged."""
    parts = (attention.q_proj, attention.k_proj, attention.v_proj)
    weight = torch.cat([part.weight.detach() for part in parts])
    attention.qkv = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device=weight.device)
    attention.qkv.weight = nn.Parameter(weight, requires_grad=False)
    if attention.q_proj.bias is not None:
        attention.q_bias, attention.v_bias = attention.q_proj.bias, attention.v_proj.bias
        del attention.k_bias
        attention.register_buffer("k_bias", torch.zeros_like(attention.q_bias), persistent=False)
    attention.q_proj = attention.k_proj = attention.v_proj = None


_OWN_CLASS = {"adalora": AdaLora}


def _method(tuner: Tuner) -> type[HFPeft]:
    facts = {
        "__module__": __name__,
        "__doc__": f"{tuner.title} by `peft`.",
        "Options": CLASSES[tuner.name],
        "identity_at_init": tuner.identity,
    }
    return type(tuner.name, (_OWN_CLASS.get(tuner.name, HFPeft),), facts)


globals().update({name: _method(tuner) for name, tuner in TUNERS.items()})
