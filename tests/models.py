"""Small models with random encoder weights, for tests: the same classes and doors as a trial, no shipped file."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import timm
import torch
from scipy.special import softmax
from torch import Tensor, nn

from benchmarks.catalogue import FBP_CS
from benchmarks.tasks import Band
from harness.backbones import Encoder, build_encoder, encoder_spec
from harness.head import Mask2FormerHead
from harness.lookup import find_method, load_class
from harness.plan import Request, make_plan
from harness.scales import SCALES
from harness.segmentor import DepthInput, Segmentor
from harness.trial import Trial
from harness.zoo import BACKBONES, DEPTH_ENCODER, RGB
from methods.base import EncoderSpec, Method
from methods.options import Options
from methods.spectralmoe import DEPTH, VISUAL, SpectralMoE

Array = npt.NDArray[np.float64]

HEAD = replace(SCALES["mini"].head, points=64)
PAPER_HEAD = SCALES["paper"].head
CLASSES = 5
PX = 64
BANDS: tuple[Band, ...] = FBP_CS.bands

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "frozen": ("frozen", {}),
    "lora": ("lora", {}),
    "adaptformer": ("adaptformer", {}),
    "vpt": ("vpt", {}),
    "full": ("full", {}),
    "rein": ("rein", {}),
    "set": ("set", {}),
    "fada": ("fada", {}),
    "depthforge": ("depthforge", {}),
    "earth_adapter": ("earth_adapter", {}),
    "spectralmoe-paper": ("spectralmoe", {"preset": "paper"}),
    "spectralmoe-released": ("spectralmoe", {"preset": "released"}),
    "depth_add": ("depth_add", {}),
}
"""Every built-in method, with both presets of SpectralMoE; the tuners of `peft` have tests of their own."""


def open_layer_scale(model: nn.Module) -> None:
    """Set layer scale to 1, so that random blocks do something (timm starts it at 1e-5)."""
    for name, parameter in model.named_parameters():
        if "gamma" in name:
            parameter.data.fill_(1.0)


def random_encoder(seed: int = 0) -> Encoder:
    """The mini backbone for NIR, R, G, B with random weights: 6 blocks, width 96, 8 x 8 tokens, 5 prefix tokens."""
    torch.manual_seed(seed)
    encoder = build_encoder(BACKBONES["dinov3"], "mini", BANDS, "nearest", "random")
    open_layer_scale(encoder)
    return encoder


def random_depth(seed: int = 1) -> Encoder:
    """The mini depth encoder with random weights: 4 blocks, width 96."""
    torch.manual_seed(seed)
    encoder = build_encoder(DEPTH_ENCODER, "mini", RGB, "nearest", "random")
    open_layer_scale(encoder)
    return encoder


def small_vit(entry: str, in_chans: int = 3, **options: Any) -> Encoder:
    """Another timm encoder with random weights, as small as the mini ones where `options` do not say otherwise."""
    torch.manual_seed(2)
    sizes = {"img_size": PX, "patch_size": 8, "embed_dim": 96, "depth": 6, "num_heads": 4} | options
    encoder = Encoder(timm.create_model(entry, num_classes=0, in_chans=in_chans, **sizes), (1, 2, 3, 5))
    open_layer_scale(encoder)
    return encoder


def small_sam() -> Encoder:
    """A SAM encoder for four bands: no prefix tokens, and blocks that keep the grid [B, H, W, D]."""
    return small_vit("samvit_base_patch16", in_chans=len(BANDS), window_size=4, global_attn_indexes=(2, 5))


def build(
    method: str | type[Method] = "frozen",
    options: Mapping[str, Any] | None = None,
    *,
    seed: int = 0,
    linked: bool = True,
    depth: DepthInput | None = None,
    encoder: Encoder | None = None,
) -> Segmentor:
    """A segmentor as `build_segmentor` puts it together, with random encoders; one seed each for its three parts."""
    cls = load_class(find_method(method).target) if isinstance(method, str) else method
    chosen: Options = cls.Options.make(options or {})
    encoder = encoder or random_encoder()
    if depth is None and chosen.needs_depth:
        depth = DepthInput(encoder=random_depth())
    sizes = HEAD.serving(chosen)
    spec = encoder_spec(encoder, PX, sizes, linked, depth.encoder if depth else None)
    torch.manual_seed(100 + seed)
    adapter: Method = cls(spec, chosen)
    adapter.install(encoder.model)
    torch.manual_seed(200 + seed)
    made = Mask2FormerHead(encoder.width, CLASSES, sizes, adapter.queries() if linked else None)
    return Segmentor(encoder, depth, adapter, made, BANDS)


def build_case(case: str, **more: Any) -> Segmentor:
    """The segmentor of one of `CASES`."""
    name, options = CASES[case]
    return build(name, options, **more)


def adapter_parameters(model: Segmentor) -> dict[str, nn.Parameter]:
    """Trainable tensors outside the head, wherever they live."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad and not name.startswith("head.")}


def randomise(model: Segmentor, std: float = 0.3) -> Segmentor:
    """Draw every adapter tensor anew, so that nothing is zero or an identity any more."""
    generator = torch.Generator().manual_seed(7)
    for parameter in adapter_parameters(model).values():
        parameter.data.normal_(0, std, generator=generator)
    return model


@torch.no_grad()
def features(model: Segmentor, x: Tensor) -> list[Tensor]:
    """The four maps in evaluation mode."""
    maps: list[Tensor] = model.eval()(x)[0]
    return maps


@torch.no_grad()
def scores(model: Segmentor, x: Tensor) -> Tensor:
    """The head's class scores in evaluation mode."""
    queries = model.method.queries() if model.head.linked else None
    return model.head.semantic(model.head(features(model, x), queries), (x.shape[-2], x.shape[-1]))


def relative(a: Tensor, b: Tensor) -> float:
    """Distance of two tensors over the norm of the first."""
    return ((a - b).norm() / a.norm()).item()


def images(count: int = 2, height: int = PX, width: int = PX, seed: int = 3) -> Tensor:
    """Normalised images [count, 4, height, width]."""
    return torch.randn(count, len(BANDS), height, width, generator=torch.Generator().manual_seed(seed))


def labels(count: int = 2, height: int = PX, width: int = PX, seed: int = 4) -> Tensor:
    """Labels in blocks of 16 pixels [count, height, width]."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randint(0, CLASSES, (count, -(-height // 16), -(-width // 16)), generator=generator)
    return coarse.repeat_interleave(16, 1).repeat_interleave(16, 2)[:, :height, :width]


def make_trial(method: str = "frozen", *settings: str, scale: str = "test") -> Trial:
    """The first trial of the smoke suite for a method."""
    request = Request(suite="smoke", scale=scale, methods=(method,), seeds=1, settings=settings)
    return make_plan(request, None).trials[0].trial


SPEC = EncoderSpec(
    blocks=3,
    width=8,
    heads=2,
    patch_size=4,
    grid=(2, 3),
    prefix_tokens=2,
    feature_blocks=(0, 1, 2),
    queries=4,
    query_width=6,
    depth_blocks=3,
    depth_width=8,
    depth_grid=(2, 3),
)
"""A spec small enough for loops in plain Python."""


@dataclass(frozen=True, kw_only=True)
class ProbeOptions(Options):
    """Options of a method that only watches."""

    name = "probe"
    title = "Probe"
    paper = "none"
    ports = {"default": "inferred"}  # noqa: RUF012 (a constant of the class)

    depth: bool = False

    @property
    def needs_depth(self) -> bool:
        return self.depth


class Probe(Method):
    """Keeps what `refine` is given and lets it pass."""

    Options = ProbeOptions

    def __init__(self, spec: EncoderSpec, options: ProbeOptions) -> None:
        super().__init__(spec, options)
        self.seen: dict[int, tuple[Tensor, Tensor | None]] = {}

    def refine(self, x_BND: Tensor, layer: int, depth_BMD: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        self.seen[layer] = (x_BND, depth_BMD)
        return x_BND


class Dropping(Probe):
    """Puts a dropout, which has no parameters, behind a block."""

    def install(self, encoder: nn.Module) -> None:
        encoder.blocks[0].add_module("dropped", nn.Dropout(0.5))
        encoder.blocks[0].register_forward_hook(lambda block, _inputs, output: block.dropped(output))


class Adding(Probe):
    """Adds 1 to every token it is given."""

    def refine(self, x_BND: Tensor, layer: int, depth_BMD: Tensor | None = None) -> Tensor:
        super().refine(x_BND, layer, depth_BMD)
        return x_BND + 1


class Balancing(Probe):
    """Returns an auxiliary loss after every other block: 1, 3 and 5, times a weight."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.weight = nn.Parameter(torch.tensor(2.0))

    def refine(self, x_BND: Tensor, layer: int, depth_BMD: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        return (x_BND, layer * self.weight) if layer % 2 else x_BND


# --- SpectralMoE written out, one token and one expert at a time


def _route(f: Array, prototypes: Array, gating: str, k: int) -> dict[int, float]:
    """Eq. 1 without noise and Eq. 2: the gate of each selected expert."""
    distance: dict[str, Callable[[Array], float]] = {
        "dot": lambda w: f @ w,
        "l1": lambda w: -np.abs(f - w).sum(),
        "l2": lambda w: -np.sqrt(((f - w) ** 2).sum()),
        "l2sq": lambda w: -((f - w) ** 2).sum(),
    }
    h = np.array([distance[gating](w) for w in prototypes.T])
    best = sorted(range(len(h)), key=lambda e: -h[e])[:k]
    return dict(zip(best, softmax(h[best]), strict=True))


def _adjustment(f: Array, T: Array, weight: Array, bias: Array, attention: str, drop: bool) -> Array:
    """Eq. 3-4 of one token and one expert's tokens T [m, d]."""
    z = np.array([f @ t if attention == "dot" else f.sum() * t.sum() for t in T])
    a = softmax(z / math.sqrt(len(f)))
    out = np.zeros_like(f)
    for t in range(1 if drop else 0, len(T)):
        out += a[t] * (weight @ T[t] + bias)
    return out


def _fused(v: Array, d: Array, i: int, fusion: str) -> Array:
    """Eq. 6 for token i of an image, from visual and depth adjustments [n, d]."""
    root = math.sqrt(v.shape[1])
    if fusion == "full":
        return softmax(np.array([v[i] @ row for row in d]) / root) @ d
    if fusion == "self":
        return softmax(np.array([v[i] @ row for row in v]) / root) @ v
    if fusion == "diagonal":
        return softmax(np.array([d[i] @ row for row in v]) / root)[i] * v[i]
    return v[i] + d[i] if fusion == "add" else v[i]


def spectralmoe_by_hand(method: SpectralMoE, layer: int, visual: Tensor, depth: Tensor) -> tuple[Array, float]:
    """Eq. 1-11 in evaluation mode: new visual tokens and the layer's auxiliary loss."""
    o = method.options
    p = {name: parameter.detach().numpy() for name, parameter in method.named_parameters()}
    W, b = p["token_to_feature.weight"], p["token_to_feature.bias"]
    adjusted, losses = [], []
    streams = [(VISUAL, visual.numpy()), (DEPTH, depth.numpy())][: 2 if o.depth else 1]
    for modality, x in streams:
        importance, load = np.zeros(o.experts), np.zeros(o.experts)
        df = np.zeros_like(x)
        for image, i in np.ndindex(x.shape[:2]):
            f = x[image, i]
            asking = visual.numpy()[image, i] if o.router == "follow" else f
            gates = {0: 1.0}
            if o.router != "none":
                prototypes = p["gate"][layer, modality if o.router == "dual" else 0]
                gates = _route(asking, prototypes, o.gating, o.top_k)
            for e, gate in gates.items():
                if gate == 0:  # underflowed: not chosen
                    continue
                T = p["experts_a"][layer, e] @ p["experts_b"][layer, e]
                delta = _adjustment(f, T, W, b, o.token_attention, o.drop_first_token)
                df[image, i] += np.exp(delta) if o.combine == "logsumexp" else gate * delta
                importance[e] += gate
                load[e] += 1
        adjusted.append(np.log(df) if o.combine == "logsumexp" else df)
        counted = (importance, load) if o.load == "importance+load" else (importance,)
        losses.append(0.0 if o.experts == 1 else sum(x.var(ddof=1) / (x.mean() ** 2 + 1e-10) for x in counted))
    out = visual.numpy().copy()
    for image, i in np.ndindex(out.shape[:2]):
        fused = _fused(adjusted[0][image], adjusted[-1][image], i, o.fusion)
        f = visual.numpy()[image, i]
        out[image, i] += p["scale"] * (p["output.weight"] @ (fused + f) + p["output.bias"])
    reduced = sum(losses) / len(losses) if o.aux_reduction == "mean" else sum(losses)
    return out, o.aux_weight * reduced
