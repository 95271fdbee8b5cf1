"""A single-scattering atmosphere: what haze adds to a signal and what it takes away.

Rayleigh optical depth by a Frohlich-Shaw type fit, aerosol by Angstrom's law with a Henyey-Greenstein phase function,
seen from straight above. Good to a few hundredths of reflectance and monotone in wavelength and haze, which is all a
synthetic benchmark needs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.synthetic.spectra import GRID_NM, FloatArray, Sensor, band_average

ALBEDO = 0.92
"""Single-scattering albedo of the aerosol."""

ASYMMETRY = 0.66
"""Asymmetry parameter of the aerosol's Henyey-Greenstein phase function."""


GAS_NM = (730.0, 760.0, 820.0, 910.0, 926.0, 940.0)
"""Where oxygen (760 nm) and water vapour absorb, within `GAS_HALF_NM` to either side."""

GAS_DRY, GAS_HUMID = (0.93, 0.55, 0.92, 0.85, 0.75, 0.55), (0.88, 0.50, 0.86, 0.72, 0.55, 0.30)
"""Two-way transmittance at `GAS_NM` in dry and in humid air; authored."""

GAS_HALF_NM = 8.0


@dataclass(frozen=True, kw_only=True)
class Atmosphere:
    """What lies between ground and sensor, each an array over wavelengths or bands.

    Args:
        path: reflectance of the air itself.
        transmittance: sun to ground to sensor, direct and forward-scattered light together.
        spherical_albedo: the share of light from the ground that the air sends back to it.
        diffuse: the share of diffuse light in the light that reaches level ground, all that is left in a shadow.
    """

    path: FloatArray
    transmittance: FloatArray
    spherical_albedo: FloatArray
    diffuse: FloatArray

    def top(self, ground: FloatArray, surroundings: FloatArray) -> FloatArray:
        """Top-of-atmosphere reflectance of a ground reflectance amid surroundings of another."""
        return self.path + self.transmittance * ground / (1 - self.spherical_albedo * surroundings)


def atmosphere(aod: float, sun_zenith_deg: float, angstrom: float = 1.3) -> Atmosphere:
    """The air on `GRID_NM`, seen from straight above.

    Args:
        aod: aerosol optical depth at 550 nm.
        sun_zenith_deg: angle of the sun from the zenith.
        angstrom: exponent of the aerosol's decrease with wavelength.
    """
    um = GRID_NM / 1000
    mu = float(np.cos(np.radians(sun_zenith_deg)))
    rayleigh = 0.00864 * um ** -(3.916 + 0.074 * um + 0.05 / um)
    aerosol = aod * (um / 0.55) ** -angstrom
    cosine = -mu
    phase_rayleigh = 0.75 * (1 + cosine**2)
    phase_aerosol = (1 - ASYMMETRY**2) / (1 + ASYMMETRY**2 - 2 * ASYMMETRY * cosine) ** 1.5
    # Light scattered forward still arrives: only the rest counts as lost.
    lost = 0.5 * rayleigh + (1 - ALBEDO * (1 + ASYMMETRY) / 2) * aerosol
    return Atmosphere(
        path=(rayleigh * phase_rayleigh + ALBEDO * aerosol * phase_aerosol) / (4 * mu),
        transmittance=np.exp(-lost / mu) * np.exp(-lost),
        spherical_albedo=0.46 * rayleigh + 0.4 * ALBEDO * (1 - ASYMMETRY) * aerosol,
        diffuse=1 - np.exp(-(rayleigh + aerosol - lost) / mu),
    )


def band_atmosphere(sensor: Sensor, aod: float, sun_zenith_deg: float, angstrom: float = 1.3) -> Atmosphere:
    """`atmosphere` averaged over a sensor's bands: arrays [bands], by rising wavelength."""
    air = atmosphere(aod, sun_zenith_deg, angstrom)
    return Atmosphere(
        path=band_average(air.path, sensor),
        transmittance=band_average(air.transmittance, sensor),
        spherical_albedo=band_average(air.spherical_albedo, sensor),
        diffuse=band_average(air.diffuse, sensor),
    )


def band_gas(sensor: Sensor, humidity: float) -> FloatArray:
    """Two-way transmittance of oxygen and water vapour in a sensor's bands, [bands]; humidity from 0 (dry) to 1."""
    depth = (1 - humidity) * np.array(GAS_DRY) + humidity * np.array(GAS_HUMID)
    near = np.abs(GRID_NM[:, None] - np.array(GAS_NM)) <= GAS_HALF_NM
    return band_average(np.where(near, depth, 1.0).min(axis=1), sensor)
