"""The tuners of HuggingFace `peft` that a frozen encoder can take, as a table. Free of torch and of `peft`.

A row says what can be set (by `peft`'s own names), what is fixed, and how many parameters result. Where a rank is not
its paper's concern, the default lands near LoRA's budget (0.79 M at ViT-L) and fits the narrow encoders of scale mini.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Value = bool | int | float
Layers = Sequence[tuple[int, int]]
"""Inputs and outputs of the linear layers that a tuner adapts in one block."""
Count = Callable[[Any, Layers, int], int]
"""Options, layers of a block, number of blocks -> trainable parameters."""


@dataclass(frozen=True, kw_only=True)
class Tuner:
    """One row.

    Args:
        name: ours, after `peft:`.
        title: for tables.
        paper: where it comes from.
        config: name of the configuration class in `peft`.
        count: closed formula of the trainable parameters.
        options: what can be set, with its default.
        fixed: further arguments of the configuration.
        place: what is adapted: linear layers of the attention (the option `target` says which), those and the input of
            the MLP's last layer, or the two norms of a block.
        divides: options that must divide the width of the encoder.
        refuse: what is wrong with the values of the options, or an empty text.
        identity: a fresh adapter changes nothing, bit for bit.
        tested: on every backbone, against a closed form.
    """

    name: str
    title: str
    paper: str
    config: str
    count: Count
    options: Mapping[str, Value] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    place: Literal["linear", "linear+mlp", "norm"] = "linear"
    divides: tuple[str, ...] = ()
    refuse: Callable[[Any], str] = lambda _: ""
    identity: bool = True
    tested: bool = True


def each(formula: Callable[[Any, int, int], int]) -> Count:
    """The count of a tuner whose layers share nothing, from the parameters of one layer: (options, inputs, outputs)."""
    return lambda o, layers, blocks: blocks * sum(formula(o, i, u) for i, u in layers)


_factors = each(lambda o, i, u: o.r * (i + u))


def _adalora_defect(o: Any) -> str:
    if o.init_r <= o.target_r:
        return f"target_r={o.target_r} leaves nothing to prune from init_r={o.init_r}: choose target_r below it"
    if o.tinit >= o.total_step - o.tfinal:
        return (
            f"total_step={o.total_step} leaves no step for pruning after tinit={o.tinit} and before "
            f"tfinal={o.tfinal}: raise it"
        )
    if not (0 < o.beta1 < 1 and 0 < o.beta2 < 1):
        return f"beta1={o.beta1}, beta2={o.beta2}: both must lie between 0 and 1"
    return ""


def _near_square(number: int) -> tuple[int, int]:
    """The two factors of a number that are nearest to each other, the smaller first."""
    small = max(m for m in range(1, math.isqrt(number) + 1) if number % m == 0)
    return small, number // small


def _lokr(o: Any, inputs: int, outputs: int) -> int:
    (out_small, out_large), (in_small, in_large) = _near_square(outputs), _near_square(inputs)
    rank = int(o.r)
    second = rank * (out_large + in_large) if rank < max(out_large, in_large) / 2 else out_large * in_large
    return out_small * in_small + second


def _randlora(o: Any, inputs: int, outputs: int) -> int:
    smaller = min(inputs, outputs)
    rank = int(o.r)
    return -(-smaller // rank) * (rank + smaller)


_LORA: Mapping[str, Value] = {"r": 8, "lora_alpha": 0, "lora_dropout": 0.0}

TESTED = (
    Tuner(
        name="dora",
        title="DoRA",
        paper="Liu et al., DoRA: Weight-Decomposed Low-Rank Adaptation, ICML 2024",
        config="LoraConfig",
        options=_LORA,
        fixed={"use_dora": True},
        count=each(lambda o, i, u: o.r * (i + u) + u),
    ),
    Tuner(
        name="rslora",
        title="rsLoRA",
        paper="Kalajdzievski, A Rank Stabilization Scaling Factor for Fine-Tuning with LoRA, arXiv 2312.03732, 2023",
        config="LoraConfig",
        options=_LORA,
        fixed={"use_rslora": True},
        count=_factors,
    ),
    Tuner(
        name="adalora",
        title="AdaLoRA",
        paper="Zhang et al., Adaptive Budget Allocation for Parameter-Efficient Fine-Tuning, ICLR 2023",
        config="AdaLoraConfig",
        options={
            **{"init_r": 12, "target_r": 8, "lora_alpha": 0, "lora_dropout": 0.0},
            **{"total_step": 200, "tinit": 20, "tfinal": 40, "deltaT": 1},
            **{"beta1": 0.85, "beta2": 0.85, "orth_reg_weight": 0.5},
        },
        count=each(lambda o, i, u: o.init_r * (i + u + 1)),
        refuse=_adalora_defect,
    ),
    Tuner(
        name="oft",
        title="OFT",
        paper="Qiu et al., Controlling Text-to-Image Diffusion by Orthogonal Finetuning, NeurIPS 2023",
        config="OFTConfig",
        options={"oft_block_size": 32, "use_cayley_neumann": True, "module_dropout": 0.0},
        count=each(lambda o, i, _: i * (o.oft_block_size - 1) // 2),
        divides=("oft_block_size",),
        refuse=lambda o: "" if o.oft_block_size > 1 else "oft_block_size=1: a block of one channel has no rotation",
    ),
    Tuner(
        name="boft",
        title="BOFT",
        paper="Liu et al., Parameter-Efficient Orthogonal Finetuning via Butterfly Factorization, ICLR 2024",
        config="BOFTConfig",
        options={"boft_block_size": 4, "boft_dropout": 0.0},
        count=each(lambda o, i, u: i * o.boft_block_size + u),
        divides=("boft_block_size",),
    ),
    Tuner(
        name="ia3",
        title="(IA)³",
        paper="Liu et al., Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than In-Context Learning, "
        "NeurIPS 2022",
        config="IA3Config",
        place="linear+mlp",
        count=each(lambda _, __, u: u),
    ),
    Tuner(
        name="ln_tuning",
        title="LN tuning",
        paper="Zhao et al., Tuning LayerNorm in Attention: Towards Efficient Multi-Modal LLM Finetuning, ICLR 2024",
        config="LNTuningConfig",
        place="norm",
        count=each(lambda _, i, u: i + u),
    ),
    Tuner(
        name="hra",
        title="HRA",
        paper="Yuan et al., Bridging the Gap between Low-Rank and Orthogonal Adaptation via Householder Reflection "
        "Adaptation, NeurIPS 2024",
        config="HRAConfig",
        options={"r": 8, "apply_GS": False},
        count=each(lambda o, i, _: o.r * i),
        refuse=lambda o: f"r={o.r}: must be even, reflections cancel in pairs at the start" if o.r % 2 else "",
        identity=False,  # the paired reflections cancel up to rounding only
    ),
    Tuner(
        name="miss",
        title="MiSS",
        paper="Kang and Yin, MiSS: Balancing LoRA Performance and Efficiency with Simple Shard Sharing, "
        "arXiv 2409.15371, 2024",
        config="MissConfig",
        options={"r": 8, "miss_dropout": 0.0},
        count=each(lambda o, _, u: o.r * u),
        divides=("r",),
    ),
    Tuner(
        name="loha",
        title="LoHa",
        paper="Hyeon-Woo et al., FedPara: Low-Rank Hadamard Product for Communication-Efficient Federated Learning, "
        "ICLR 2022",
        config="LoHaConfig",
        options={"r": 4, "alpha": 0, "rank_dropout": 0.0, "module_dropout": 0.0},
        count=each(lambda o, i, u: 2 * o.r * (i + u)),
    ),
    Tuner(
        name="lokr",
        title="LoKr",
        paper="Yeh et al., Navigating Text-To-Image Customization: From LyCORIS Fine-Tuning to Model Evaluation, "
        "ICLR 2024",
        config="LoKrConfig",
        options={"r": 8, "alpha": 0, "rank_dropout": 0.0, "module_dropout": 0.0},
        count=each(_lokr),
    ),
    Tuner(
        name="vera",
        title="VeRA",
        paper="Kopiczko et al., VeRA: Vector-based Random Matrix Adaptation, ICLR 2024",
        config="VeraConfig",
        options={"r": 256, "vera_dropout": 0.0, "d_initial": 0.1, "projection_prng_key": 0},
        count=each(lambda o, _, u: o.r + u),
    ),
    Tuner(
        name="hira",
        title="HiRA",
        paper="Huang et al., HiRA: Parameter-Efficient Hadamard High-Rank Adaptation for Large Language Models, "
        "ICLR 2025",
        config="HiraConfig",
        options={"r": 8, "hira_dropout": 0.0},
        count=_factors,
    ),
    Tuner(
        name="delora",
        title="DeLoRA",
        paper="Bini et al., Decoupling Angles and Strength in Low-rank Adaptation, ICLR 2025",
        config="DeloraConfig",
        options={"r": 8, "delora_lambda": 15, "module_dropout": 0.0},
        count=each(lambda o, i, u: o.r * (i + u) + 1),
    ),
    Tuner(
        name="randlora",
        title="RandLoRA",
        paper="Albert et al., RandLoRA: Full-Rank Parameter-Efficient Fine-Tuning of Large Models, ICLR 2025",
        config="RandLoraConfig",
        options={"r": 32, "randlora_alpha": 640, "randlora_dropout": 0.0, "projection_prng_key": 0},
        count=each(_randlora),
    ),
)
