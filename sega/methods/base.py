"""What a method is, and how one is built from its config.

A method is a frozen dataclass of parameters. It changes nothing unless it overrides a part; the part every direct
method overrides is `positions`: rotary frequencies and magnitudes of the two image axes.

This module and those of the methods import torch only when positions are computed, so that a wrong name or value is
reported at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

from sega.errors import RequestError, near
from sega.methods.geometry import CONF, Geometry
from sega.methods.parts import Parts

if TYPE_CHECKING:
    from torch import Tensor

METHODS = {
    "vanilla": "baselines.vanilla:Vanilla",
    "pi": "baselines.pi:PI",
    "ntk": "baselines.ntk:NTK",
    "yarn": "baselines.yarn:YaRN",
    "dype": "baselines.dype:DyPE",
    "sega": "sega.methods.sega:SEGA",
    "ultraimage": "baselines.ultraimage:UltraImage",
    "imax": "baselines.imax:IMax",
    "hiflow": "baselines.hiflow:HiFlow",
    "scalediff": "baselines.scalediff:ScaleDiff",
    "hrdit": "baselines.hrdit:HRDiT",
    "upsample": "baselines.upsample:Upsample",
}


@dataclass(frozen=True, eq=False)
class Axis:
    """Rotary values of one image axis; K pairs."""

    frequencies: Tensor  # float64 [K], radians per token
    magnitudes: Tensor  # float64 [K], factor on cos and sin, so logits of the pair scale by its square


@dataclass(frozen=True, eq=False)
class Rope:
    """Rotary values of both image axes. The frame axis always keeps its base frequencies and magnitude 1."""

    height: Axis
    width: Axis
    text: str = "shared"  # "shared": text rows use these values too; "base": text keeps base frequencies, magnitude 1
    stock: bool = False  # both axes equal the model's own values exactly: the adapter then leaves its table alone
    details: dict[str, Any] = field(default_factory=dict)  # what an observer may record


@dataclass
class Step:
    """One transformer call, as methods, observers and timing see it."""

    index: int
    sigma: float
    grid: tuple[int, int]  # tokens (height, width)
    stage: int = 0
    branch: str = "cond"  # "uncond" for the second call of true classifier-free guidance
    samples: int = 1  # of the batch
    tokens: Tensor | None = None  # [H*W, C] float32, embedded tokens of one sample
    latent: Tensor | None = None  # [H*W, 4C] packed latent of one sample
    seconds: float = 0.0
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Method(Parts):
    """Base of all methods: stock positions, and no other part.

    Subclasses add their parameters as fields and list what is allowed: `CHOICES` (name -> values), `NUMBERS`
    (name -> closed interval of finite numbers), `OPTIONAL` (numbers that may be null), `FLAGS` (names of booleans).
    Wrong values raise RequestError on construction.
    """

    geometry: Geometry
    schedule: str = "pinned"  # time shift: "pinned" keeps that of the training size, "stock" extrapolates it

    name: ClassVar[str] = "vanilla"
    CHOICES: ClassVar[dict[str, tuple[str, ...]]] = {"schedule": ("pinned", "stock")}
    NUMBERS: ClassVar[dict[str, tuple[float, float]]] = {}
    FLAGS: ClassVar[tuple[str, ...]] = ()
    OPTIONAL: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        for key, allowed in self.CHOICES.items():
            value = getattr(self, key)
            if value not in allowed:
                raise RequestError(f"{self.name}: {key}={value} is not allowed{near(value, allowed)}")
        for key, (low, high) in self.NUMBERS.items():
            value = getattr(self, key)
            if not (value is None and key in self.OPTIONAL) and not _is_number(value, low, high):
                raise RequestError(f"{self.name}: {key}={value} must be a number {_interval(low, high)}")
        for key in self.FLAGS:
            if not isinstance(getattr(self, key), bool):
                raise RequestError(f"{self.name}: {key}={getattr(self, key)} must be true or false")

    def parameters(self) -> dict[str, Any]:
        """Every parameter with the value in force, for records and identities; the geometry is not one."""
        return {item.name: getattr(self, item.name) for item in fields(self) if item.name != "geometry"}

    def needs(self) -> set[str]:
        """What `positions` depends on besides the grid: a subset of {"sigma", "tokens", "latent"}.

        "tokens" asks for the embedded tokens and "latent" for the packed latent; either is handed over as `tokens`.
        """
        return set()

    def positions(self, grid: tuple[int, int], sigma: float = 1.0, tokens: Tensor | None = None) -> Rope:
        """Rotary values for a grid of (height, width) tokens at time sigma in [0, 1].

        `tokens` is [H*W, C], one sample, and is read by content-dependent methods only. An axis no longer than its
        training side keeps the base values.
        """
        sides, sigma = check_grid(grid), check_sigma(sigma)
        height, width = (self.axis(dim, n, sigma) for dim, n in zip(self.geometry.axes[1:], sides, strict=True))
        return self.rope(height, width, text="base" if self.geometry.family == "qwen" else "shared")

    def axis(self, dim: int, length: int, sigma: float) -> Axis:
        """Values of one axis of `length` tokens and `dim` rotary dimensions."""
        scale = length / self.geometry.train_tokens
        return base_axis(dim, self.geometry.theta) if scale <= 1 else self.stretch(dim, scale, sigma)

    def stretch(self, dim: int, scale: float, sigma: float) -> Axis:
        """Values of an axis `scale` > 1 times longer than the training side; what a direct baseline overrides."""
        return base_axis(dim, self.geometry.theta)

    def rope(self, height: Axis, width: Axis, text: str = "shared", details: dict[str, Any] | None = None) -> Rope:
        """Rope of two axes, marked stock when both are the base values exactly."""
        stock = all(
            bool((axis.magnitudes == 1).all())
            and axis.frequencies.equal(base_axis(dim, self.geometry.theta).frequencies)
            for axis, dim in zip((height, width), self.geometry.axes[1:], strict=True)
        )
        return Rope(height, width, text, stock, details or {})


def base_axis(dim: int, theta: float) -> Axis:
    """Base frequencies and magnitude 1."""
    from sega.formulas.rope import base_frequencies

    return uniform_axis(base_frequencies(dim, theta))


def uniform_axis(frequencies: Tensor, magnitude: float = 1.0) -> Axis:
    """The same magnitude on every pair."""
    return Axis(frequencies, frequencies.new_full(frequencies.shape, magnitude))


def check_grid(grid: tuple[int, int]) -> tuple[int, int]:
    """The grid as two ints of at least 1, or RequestError."""
    sides = tuple(grid)
    if len(sides) != 2 or any(int(side) != side or side < 1 for side in sides):
        raise RequestError(f"grid={grid} must be two whole numbers of tokens (height, width), each at least 1")
    return int(sides[0]), int(sides[1])


def check_sigma(sigma: float) -> float:
    """The time as a float in [0, 1], or RequestError."""
    value = float(sigma)
    if not 0 <= value <= 1:
        raise RequestError(f"sigma={value} must lie between 0 (clean) and 1 (pure noise)")
    return value


def load_method(name: str, model: Any = "flux", overrides: Iterable[str] = ()) -> Method:
    """A method by name for a model: `conf/method/<name>.yaml`, then overrides such as `"base=ntk"`.

    `model` is a name of `conf/model`, the folder of a checkpoint, or a loaded pipeline. Unknown names, keys and values
    raise RequestError with near matches.
    """
    import yaml
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    if name not in METHODS:
        raise RequestError(f"unknown method {name!r}{near(name, METHODS)}")
    from sega.models.known import geometry_of

    geometry = geometry_of(model)
    if isinstance(overrides, str):
        overrides = [overrides]
    overrides = list(overrides)
    for item in overrides:
        if "=" not in item:
            raise RequestError(f"override {item!r} must have the form key=value")
        if item.split("=", 1)[0] == "name":
            raise RequestError(f"override {item!r} would change the method; load that method by its name instead")
    try:
        changes = OmegaConf.from_dotlist(overrides)
        config = OmegaConf.merge(OmegaConf.load(CONF / "method" / f"{name}.yaml"), changes)
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise RequestError(f"overrides {overrides} can't be read: {str(error).splitlines()[0]}") from error
    return build_method(config, geometry)


def build_method(cfg: Mapping[str, Any], geometry: Geometry) -> Method:
    """A method from a mapping `{"name": ..., parameter: value}`, plain or from Hydra."""
    values = {str(key): cfg[key] for key in cfg}
    name = values.pop("name", None)
    if name not in METHODS:
        raise RequestError(f"unknown method {name!r}{near(name, METHODS)}")
    module, attribute = METHODS[name].split(":")
    cls = getattr(import_module(module), attribute)
    known = [item.name for item in fields(cls) if item.name != "geometry"]
    for key in values:
        if key not in known:
            raise RequestError(f"{name} has no parameter {key!r}{near(key, known)}")
    return cls(geometry=geometry, **values)


def _is_number(value: Any, low: float, high: float) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value) and low <= value <= high


def _interval(low: float, high: float) -> str:
    return f"of at least {low:g}" if math.isinf(high) else f"between {low:g} and {high:g}"
