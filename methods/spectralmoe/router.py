"""Which experts a token goes to, and how evenly the experts are used (SpectralMoE Eq. 1-2 and 9-11)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from methods.options import SpectralMoEOptions

VISUAL, DEPTH = 0, 1
_NOISE_FLOOR = 0.01  # keeps the smooth load finite where softplus vanishes


@dataclass(frozen=True, kw_only=True)
class Routing:
    """Where S tokens go: gates [S, E] (0 where not chosen) and load [E] per expert."""

    gates_SE: Tensor
    load_E: Tensor


def route(x_SD: Tensor, gate_DE: Tensor, noise_DE: Tensor, options: SpectralMoEOptions, noisy: bool) -> Routing:
    """Noisy top-k routing of tokens [S, D] with the smooth load of noisy top-k gating.

    Args:
        x_SD: tokens, at least fp32.
        gate_DE: prototypes of the experts.
        noise_DE: what the spread of the noise depends on.
        options: gating and number of experts per token.
        noisy: add noise to the logits; without it, the load is a count.
    """
    k, experts = options.top_k, gate_DE.shape[1]
    clean_SE = _logits(x_SD, gate_DE, options.gating)
    spread_SE = nn.functional.softplus(x_SD @ noise_DE) + _NOISE_FLOOR if noisy else torch.ones_like(clean_SE)
    routed_SE = clean_SE + torch.randn_like(clean_SE) * spread_SE if noisy else clean_SE
    top_Sk1, order_Sk1 = routed_SE.topk(min(k + 1, experts), dim=-1)
    gates_SE = torch.zeros_like(routed_SE).scatter(1, order_Sk1[:, :k], top_Sk1[:, :k].softmax(-1))
    if noisy and k < experts:
        # the bar an expert must clear is the k-th best among the others
        inside_SE = routed_SE > top_Sk1[:, k : k + 1]
        bar_SE = torch.where(inside_SE, top_Sk1[:, k : k + 1], top_Sk1[:, k - 1 : k])
        load_E = torch.special.ndtr((clean_SE - bar_SE) / spread_SE).sum(0)
    else:
        load_E = (gates_SE > 0).sum(0)
    return Routing(gates_SE=gates_SE, load_E=load_E)


def send_all(x_SD: Tensor) -> Routing:
    """Every token to the only expert, without a router."""
    gates_SE = torch.ones_like(x_SD[:, :1])
    return Routing(gates_SE=gates_SE, load_E=gates_SE.sum(0))


def imbalance(routing: Routing, load: str) -> Tensor:
    """Balancing loss of one modality (Eq. 10-11), with the released smooth load beside the importance if wanted."""
    loss = _squared_variation(routing.gates_SE.sum(0))
    return loss + _squared_variation(routing.load_E) if load == "importance+load" else loss


def _logits(x_SD: Tensor, gate_DE: Tensor, gating: str) -> Tensor:
    if gating == "dot":
        return x_SD @ gate_DE
    if gating == "l1":
        return -torch.cdist(x_SD, gate_DE.T, p=1)
    distance_SE = torch.cdist(x_SD, gate_DE.T, compute_mode="donot_use_mm_for_euclid_dist")
    return -distance_SE if gating == "l2" else -distance_SE.square()


def _squared_variation(x_E: Tensor) -> Tensor:
    """Unbiased variance over squared mean, 0 for a single expert; in fp32, with the epsilon of the released code."""
    if x_E.numel() == 1:
        return x_E.new_zeros((), dtype=torch.float32)
    x_E = x_E.float()
    return x_E.var() / (x_E.mean().square() + 1e-10)
