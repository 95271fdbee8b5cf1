"""SpectralMoE: a mixture of low-rank token experts on visual and depth features, after every block.

Preset `paper` computes the paper's equations, preset `released` what the published code computes; they differ in
gating, combination, fusion, token attention and loss (each an option). `released` agrees with vectors of that code.
"""

from methods.spectralmoe.module import SpectralMoE
from methods.spectralmoe.router import DEPTH, VISUAL

__all__ = ["DEPTH", "VISUAL", "SpectralMoE"]
