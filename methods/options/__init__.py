"""Options and facts of the built-in methods, free of torch so that planning and listing stay instant."""

from methods.options.base import Options, Port, checked, nearest
from methods.options.baselines import (
    AdaptFormerOptions,
    DepthAddOptions,
    FrozenOptions,
    FullOptions,
    LoraOptions,
    VptOptions,
)
from methods.options.earth_adapter import EarthAdapterOptions
from methods.options.spectralmoe import SpectralMoEOptions
from methods.options.tokens import DepthForgeOptions, FadaOptions, ReinOptions, SetOptions

__all__ = [
    "AdaptFormerOptions",
    "DepthAddOptions",
    "DepthForgeOptions",
    "EarthAdapterOptions",
    "FadaOptions",
    "FrozenOptions",
    "FullOptions",
    "LoraOptions",
    "Options",
    "Port",
    "ReinOptions",
    "SetOptions",
    "SpectralMoEOptions",
    "VptOptions",
    "checked",
    "nearest",
]
