"""SET: learnable tokens for the phase and the amplitude of the patch tokens' spectrum (ACM MM 2024).

Phase is taken for content and amplitude for style. Written from a description of the paper's module; the transform runs
over space (the released code transforms batch and channels, so that samples mix).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from methods.base import EncoderSpec, Method, Queries
from methods.options import SetOptions
from methods.parts import QueryLink, TokenModule, wide

_FLOOR = 1e-5  # of the squared amplitude and of the real part: keeps the gradients of both finite


class Set(Method):
    """Two REIN modules in the frequency domain, one step size, queries linked from the phase tokens."""

    Options = SetOptions
    identity_at_init = False
    no_weight_decay = ("tokens_a", "tokens_b", "scale", "amplitude_scale")

    def __init__(self, spec: EncoderSpec, options: SetOptions) -> None:
        """Both modules initialised as REIN, with as many tokens each as the head has queries."""
        super().__init__(spec, options)
        self.options = options
        self.phase = TokenModule(spec, spec.queries, options.rank)
        self.amplitude = TokenModule(spec, spec.queries, options.rank)
        self.scale = nn.Parameter(torch.tensor(options.scale_init))
        self.link = QueryLink(spec.width, spec.query_width) if spec.linked else None
        if options.match_count:
            # inferred: two whole REINs and 147 D more give the published count, by parts that nobody has named
            self.amplitude_scale = nn.Parameter(torch.tensor(options.scale_init))
            self.amplitude_link = QueryLink(spec.width, spec.query_width) if spec.linked else None
            self.smooth_amplitude, self.smooth_phase, self.smooth_delta = (_identity7(spec.width) for _ in range(3))

    def refine(self, x_BND: Tensor, layer: int, depth_BMD: Tensor | None = None) -> Tensor:
        """f' = f + s Re IFFT(da exp(j dt)); inside: f' = Re IFFT((a + s da) exp(j (t + s dt)))."""
        amplitude_BND, phase_BND = self.decompose(x_BND)
        # raw amplitudes follow the style of the images: their similarities are standardised per patch
        da_BND = self.amplitude(amplitude_BND, layer, standardise="logits")
        dt_BND = self.phase(phase_BND, layer)
        scale: Tensor = self.scale
        if self.options.match_count:
            scale = (scale + self.amplitude_scale) / 2
            da_BND = self._smooth(self.smooth_amplitude, da_BND)
            dt_BND = self._smooth(self.smooth_phase, dt_BND)
        if self.options.residual == "inside":
            return self.recompose(amplitude_BND + scale * da_BND, phase_BND + scale * dt_BND)
        delta_BND = self.recompose(da_BND, dt_BND)
        if self.options.match_count:
            delta_BND = self._smooth(self.smooth_delta, delta_BND)
        return x_BND + scale * delta_BND

    def decompose(self, x_BND: Tensor) -> tuple[Tensor, Tensor]:
        """Amplitude and phase of every frequency bin, in fp32 [B, N, D]: N counts bins, in the FFT's own order."""
        spectrum_BHWD = torch.fft.fft2(wide(self.on_grid(x_BND)), dim=(1, 2), norm="ortho")
        real_BHWD, imaginary_BHWD = spectrum_BHWD.real, spectrum_BHWD.imag.clone()
        # Bins that are their own conjugate are real. Rounding leaves +-1e-7 in them, and where the real part is
        # negative the phase would jump between +pi and -pi from one FFT library to the next.
        rows, columns = (slice(None, None, side // 2 if side % 2 == 0 else side) for side in self.grid)
        imaginary_BHWD[:, rows, columns] = 0
        amplitude_BHWD = (real_BHWD.square() + imaginary_BHWD.square()).clamp(min=_FLOOR).sqrt()
        phase_BHWD = torch.atan2(imaginary_BHWD, real_BHWD.masked_fill(real_BHWD.abs() < _FLOOR, _FLOOR))
        return amplitude_BHWD.flatten(1, 2), phase_BHWD.flatten(1, 2)

    def recompose(self, amplitude_BND: Tensor, phase_BND: Tensor) -> Tensor:
        """Re IFFT(a exp(j t)) as patch tokens [B, N, D], of the full spectrum: it need not be conjugate symmetric."""
        a_BHWD, t_BHWD = self.on_grid(wide(amplitude_BND)), self.on_grid(wide(phase_BND))
        # not torch.polar: its gradient takes amplitudes for positive, and a changed one may be negative
        spectrum_BHWD = torch.complex(a_BHWD * t_BHWD.cos(), a_BHWD * t_BHWD.sin())
        x_BHWD: Tensor = torch.fft.ifft2(spectrum_BHWD, dim=(1, 2), norm="ortho").real
        return x_BHWD.flatten(1, 2)

    def _smooth(self, kernel: nn.Conv2d, x_BND: Tensor) -> Tensor:
        smooth_BDHW: Tensor = kernel(self.on_grid(x_BND.to(kernel.weight.dtype)).permute(0, 3, 1, 2))
        return smooth_BDHW.flatten(2).mT

    def queries(self) -> Queries | None:
        """Query positions linked from the phase tokens; the amplitude tokens do not reach the head."""
        if self.link is None:
            return None
        position_QC = self.link(self.phase.bank())
        if self.options.match_count and self.amplitude_link is not None:
            position_QC = (position_QC + self.amplitude_link(self.amplitude.bank())) / 2
        return Queries(position_QC=position_QC, replace_content=self.options.replace_content)

    @classmethod
    def expected_count(cls, spec: EncoderSpec, options: SetOptions) -> int:
        """Two token modules, link and scale; to match the published count another link and scale, and 147 D."""
        heads = 2 if options.match_count else 1
        link = QueryLink.count(spec.width, spec.query_width) if spec.linked else 0
        kernels = 3 * 49 * spec.width if options.match_count else 0
        return 2 * TokenModule.count(spec, spec.queries, options.rank) + heads * (link + 1) + kernels


def _identity7(width: int) -> nn.Conv2d:
    """A depthwise 7 x 7 convolution that passes its input on."""
    kernel = nn.Conv2d(width, width, 7, padding=3, groups=width, bias=False)
    nn.init.dirac_(kernel.weight, groups=width)
    return kernel
