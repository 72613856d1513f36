"""SEGA: spectrally guided attention scaling.

The frequencies are NTK's; each rotary pair gets its own magnitude: above the reference where the latent holds little
energy in the pair's band, below it where it holds much, the more so the further the spectrum is from flat.
Recomputed in every transformer call.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from sega.errors import RequestError
from sega.methods.base import Method, check_grid, check_sigma, uniform_axis
from sega.methods.parameters import choice, flag, number
from sega.methods.registry import build_method
from sega.methods.types import Axis, Rope

if TYPE_CHECKING:
    from torch import Tensor

# What `variant` settles. The paper's formula has neither a reduced amplitude nor a floor. It names NTK without a form
# of its own, and speaks of the frequency of a pair and of the latent.
VARIANTS: dict[str, dict[str, Any]] = {
    "code": {
        "amplitude": 0.15,
        "gain": 1.5,
        "floor": 1.0,
        "ntk": "code",
        "source": "embedded",
        "band_map": "rank",
    },
    "paper": {
        "amplitude": 1.0,
        "gain": 1.0,
        "floor": None,
        "ntk": "plain",
        "source": "latent",
        "band_map": "physical",
    },
}


@dataclass(frozen=True)
class SEGA(Method):
    """Spectrally guided magnitudes on NTK frequencies.

    `amplitude`, `gain`, `floor`, `ntk`, `source` and `band_map` take the values of `variant` while "auto"; after
    construction they hold the values in force. The strength of the spectral part is
    spread_min + (spread_max - spread_min)(1 - flatness^gamma). `docs/methods.md` explains every parameter.
    """

    variant: str = choice(
        "code", "code", "paper", doc="settles amplitude, gain, floor, ntk, source and band_map where they are auto"
    )
    kappa: float = number(0.08, low=0, doc="exponent of the reference magnitude r^kappa")
    gamma: float = number(
        1.5,
        low=0,
        doc="exponent of the flatness: strength = spread_min + (spread_max - spread_min)(1 - flatness^gamma)",
    )
    spread_min: float = number(0.0, low=0, doc="strength on a flat spectrum")
    spread_max: float = number(1.0, low=0, doc="strength on a spectrum with one peak")
    amplitude: float | str = number(
        "auto", low=0, doc="size of the spectral part; auto: 0.15 (code), 1 (paper); 0 leaves the reference magnitude"
    )
    gain: float | str = number("auto", low=0, doc="g in tanh(g z); auto: 1.5 (code), 1 (paper)")
    floor: float | str | None = number(
        "auto", low=0, optional=True, doc="least magnitude; auto: 1.0 (code), none (paper)"
    )
    m_ref: str = choice("power", "power", "log", doc="reference magnitude; power: r^kappa; log: 1 + kappa ln r")
    ntk: str = choice(
        "auto",
        "code",
        "plain",
        doc="factor on the base; code: r^(2D/(D-2)) / (1 + 0.1 ln r); plain: r^(D/(D-2)) (paper)",
    )
    frequencies: str = choice(
        "ntk",
        "ntk",
        "vanilla",
        "pi",
        "yarn",
        "dype",
        "sigma",
        "tasr",
        "vision_yarn",
        "ultraimage",
        doc="ntk: those of SEGA; else those of that method, while magnitudes stay those of SEGA",
    )
    source: str = choice(
        "auto",
        "embedded",
        "latent",
        doc="what is analysed; embedded: tokens after the input projection (code); latent: packed latent (paper)",
    )
    batch: str = choice(
        "sample", "sample", "joint", doc="sample: each sample alone; joint: the mean over the batch, as in the code"
    )
    band_map: str = choice(
        "auto",
        "rank",
        "physical",
        doc="bin of a pair; rank: pairs spread over all bins (code); physical: by cycles over the axis (paper)",
    )
    binning: str = choice(
        "reference",
        "reference",
        "exact",
        doc="reference: float32 binning of the code, bins may stay empty; exact: integer binning",
    )
    tie_axes: bool = flag(True, doc="Qwen-Image only: height takes the magnitudes of width, as in the code")

    name: ClassVar[str] = "sega"

    def settle(self) -> dict[str, Any]:
        return VARIANTS["paper" if self.variant == "paper" else "code"]

    def check(self) -> None:
        if self.spread_min > self.spread_max:
            raise RequestError(f"sega: spread_min={self.spread_min} must not exceed spread_max={self.spread_max}")

    def needs(self) -> set[str]:
        needs = set() if self.uniform else {"tokens" if self.source == "embedded" else "latent"}
        return needs | (self.frequency_method().needs() if self.frequencies != "ntk" else set())

    @property
    def uniform(self) -> bool:
        """Whether every pair gets the reference magnitude whatever the content."""
        least = self.spread_max == 0 or (self.gamma == 0 and self.spread_min == 0)
        return least or self.amplitude == 0 or self.gain == 0 or self.kappa == 0

    def frequency_method(self) -> Method:
        """The direct method whose frequencies stand in for SEGA's own, with its default parameters."""
        return build_method({"name": self.frequencies}, self.geometry)

    def scales(self, grid: tuple[int, int]) -> tuple[float, float]:
        """Ratio to SEGA's training side per axis: that of the longer side on FLUX, each axis its own on Qwen-Image."""
        height, width = (side / self.geometry.sega_train_tokens for side in grid)
        return (height, width) if self.geometry.facts.ratio == "each" else (max(height, width),) * 2

    def ntk_factors(self, grid: tuple[int, int]) -> tuple[float, float]:
        """What theta is multiplied by on each axis; 1 where nothing is extrapolated.

        On Qwen-Image the shorter side gets a share of the longer side's factor: 1 + (short / long)(f_long - 1).
        """
        from sega.formulas.rope import sega_ntk_factor

        ratios = self.scales(grid)
        dims = self.geometry.axes[1:]
        factors = [sega_ntk_factor(r, dim, self.ntk) for r, dim in zip(ratios, dims, strict=True)]
        if ratios[0] != ratios[1]:
            short = ratios.index(min(ratios))
            factors[short] = 1 + ratios[short] / max(ratios) * (max(factors) - 1)
        return factors[0], factors[1]

    def references(self, grid: tuple[int, int]) -> tuple[float, float]:
        """Reference magnitude per axis: max(r, 1)^kappa, or 1 + kappa ln r."""
        from sega.formulas.rope import reference_magnitude

        height, width = (reference_magnitude(max(r, 1.0), self.kappa, self.m_ref) for r in self.scales(grid))
        return height, width

    def positions(self, grid: tuple[int, int], sigma: float = 1.0, tokens: Tensor | None = None) -> Rope:
        """Rotary values for a grid of (height, width) tokens.

        `tokens` is [H*W, C] of one sample, embedded tokens or packed latent by `source`; with batch=joint also
        [B, H*W, C], whose mean is analysed. It is not read where the magnitudes can't depend on it (no extrapolation,
        or no spectral part) and raises RequestError where it is missing or of the wrong size. `details` of the
        result: `scale`, `ntk_factor` and `m_ref` per axis and, where a latent was analysed, `profile_height`,
        `profile_width`, `profile_radial`, `flatness` and `strength`.
        """
        grid, sigma = check_grid(grid), check_sigma(sigma)
        ratios, references = self.scales(grid), self.references(grid)
        details: dict[str, Any] = {"scale": ratios, "ntk_factor": self.ntk_factors(grid), "m_ref": references}
        axes = [
            uniform_axis(frequencies, reference)
            for frequencies, reference in zip(self.axis_frequencies(grid, sigma), references, strict=True)
        ]
        axes, seen = self.guided(axes, references, grid, tokens)
        return self.rope(axes[0], axes[1], details=details | seen)

    def guided(
        self, axes: list[Axis], references: tuple[float, float], grid: tuple[int, int], tokens: Tensor | None
    ) -> tuple[list[Axis], dict[str, Any]]:
        """Axes with uniform magnitudes `references`, given those of their spectra; and what was seen of the latent.

        An axis whose reference is 1 is left alone.
        """
        axes, seen = list(axes), dict[str, Any]()
        # The published code gives the height of Qwen-Image the magnitudes of the width.
        tied = self.tie_axes and self.geometry.facts.ratio == "each"
        guided = [] if self.uniform else [a for a in ((1,) if tied else (0, 1)) if references[a] != 1]
        if guided:
            spectrum = self.analyse(grid, tokens)
            seen = {key: value for key, value in spectrum.items() if key != "profiles"}
            for a in guided:
                magnitudes = self.magnitudes(spectrum["profiles"][a], axes[a], grid[a], references[a], spectrum)
                axes[a] = Axis(axes[a].frequencies, magnitudes)
        if tied:
            axes[0] = Axis(axes[0].frequencies, axes[1].magnitudes)
        return axes, seen

    def axis_frequencies(self, grid: tuple[int, int], sigma: float) -> list[Tensor]:
        """Frequencies [K] of height and width; base ones at or below the training side."""
        from sega.formulas.rope import base_frequencies

        dims, theta = self.geometry.axes[1:], self.geometry.theta
        if max(self.scales(grid)) <= 1:
            return [base_frequencies(dim, theta) for dim in dims]
        if self.frequencies != "ntk":
            other = self.frequency_method().positions(grid, sigma)
            return [other.height.frequencies, other.width.frequencies]
        return [base_frequencies(dim, theta * f) for dim, f in zip(dims, self.ntk_factors(grid), strict=True)]

    def analyse(self, grid: tuple[int, int], tokens: Tensor | None) -> dict[str, Any]:
        """Profiles [n] of both axes and of the radius, flatness and strength of a latent."""
        from sega.formulas import spectrum

        u = spectrum.channel_mean(self.check_tokens(grid, tokens), grid)
        # On a GPU the question would wait for all that came before; the engine refuses the final latent.
        if u.device.type == "cpu" and not bool(u.isfinite().all()):
            raise RequestError("sega: the tokens hold NaN or infinity; the model overflows in this dtype")
        profiles = [spectrum.axis_profile(u, axis, self.binning) for axis in (0, 1)]
        radial = spectrum.radial_profile(u)
        strength = spectrum.strength(u, radial, self.gamma)
        return {
            "profiles": profiles,
            "profile_height": profiles[0],
            "profile_width": profiles[1],
            "profile_radial": radial,
            "flatness": spectrum.flatness(radial),
            "strength": self.spread_min + (self.spread_max - self.spread_min) * strength,
        }

    def magnitudes(
        self, profile: Tensor, axis: Axis, length: int, reference: float, spectrum: dict[str, Any]
    ) -> Tensor:
        """Magnitudes [K] of one axis from its profile."""
        from sega.formulas.spectrum import band_positions, pair_magnitudes

        cycles = axis.frequencies * length / (2 * math.pi) if self.band_map == "physical" else None
        places = band_positions(len(axis.frequencies), len(profile), cycles)
        shape: dict[str, Any] = {"amplitude": self.amplitude, "gain": self.gain, "floor": self.floor}
        found = pair_magnitudes(profile, places, reference, spectrum["strength"], **shape)
        return found.where(spectrum["strength"] > 0, axis.magnitudes.to(found.device, non_blocking=True))

    def check_tokens(self, grid: tuple[int, int], tokens: Tensor | None) -> Tensor:
        """The tokens, or RequestError when they can't be those of this grid."""
        if tokens is None:
            raise RequestError("sega needs tokens=[H*W, C] of the current latent beyond the training size")
        height, width = grid
        if tokens.dim() not in (2, 3) or tokens.shape[-2] < height * width:
            raise RequestError(f"sega: tokens of shape {list(tokens.shape)} do not cover a grid of {height}x{width}")
        if tokens.dim() == 3 and len(tokens) > 1 and self.batch == "sample":
            raise RequestError("sega: one sample at a time; use batch=joint for the mean over the batch")
        return tokens
