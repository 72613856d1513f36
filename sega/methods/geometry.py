"""What the formulas need to know of a model: rotary axes, training side, size of a token."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from types import UnionType

from sega.errors import RequestError, near
from sega.home import CONF
from sega.methods.families import Family, family_named


@dataclass(frozen=True)
class Geometry:
    """Rotary geometry of one model, read from the `geometry` block of `conf/model/<name>.yaml`."""

    family: str  # a name of `sega.methods.families`
    axes: tuple[int, int, int]  # rotary dimensions of frame, height, width; half of each are pairs
    theta: float  # base of the frequencies
    train_tokens: int  # side of the training grid for PI, NTK, YaRN and DyPE
    sega_train_tokens: int  # side of the training grid for SEGA, whose code takes 1024 px for every model
    token_pixels: int  # pixels a token covers on each side
    text_tokens: int  # length the text is padded to

    def __post_init__(self) -> None:
        axes = self.axes if isinstance(self.axes, str) or not isinstance(self.axes, Iterable) else list(self.axes)
        if not isinstance(axes, list) or not all(_is_number(dim, int) for dim in axes):
            raise RequestError(f"geometry.axes={axes} must be three even numbers of at least 4, such as [16,56,56]")
        object.__setattr__(self, "axes", tuple(axes))
        family_named(self.family)
        if len(self.axes) != 3 or any(dim < 4 or dim % 2 for dim in self.axes):
            raise RequestError(f"geometry.axes={list(self.axes)} must be three even numbers of at least 4")
        if not _is_number(self.theta, int | float) or not self.theta > 1:
            raise RequestError(f"geometry.theta={self.theta} must be above 1")
        for key in ("train_tokens", "sega_train_tokens", "token_pixels", "text_tokens"):
            if not _is_number(getattr(self, key), int) or getattr(self, key) < 1:
                raise RequestError(f"geometry.{key}={getattr(self, key)} must be a whole number of at least 1")

    @property
    def facts(self) -> Family:
        """What holds for its family."""
        return family_named(self.family)


def _is_number(value: object, kind: type | UnionType) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def build_geometry(block: object) -> Geometry:
    """Geometry from a mapping (a plain dict or a Hydra config). Unknown or missing keys raise RequestError."""
    known = [field.name for field in fields(Geometry)]
    if not isinstance(block, Mapping):
        raise RequestError(f"geometry={block} must be a group of values: {', '.join(known)}")
    for key in block:
        if key not in known:
            raise RequestError(f"geometry has no key {key!r}{near(key, known)}")
    missing = [key for key in known if key not in block]
    if missing:
        raise RequestError(f"the geometry of the model lacks {', '.join(missing)}")
    return Geometry(**{key: block[key] for key in known})


def models() -> list[str]:
    """The names of the files in `conf/model`."""
    return sorted(path.stem for path in (CONF / "model").glob("*.yaml"))


def load_geometry(model: str) -> Geometry:
    """Geometry of a model by the name of its file in `conf/model`. Unknown names raise RequestError."""
    from omegaconf import OmegaConf

    known = models()
    if model not in known:
        raise RequestError(f"unknown model {model!r}{near(model, known)}")
    config = OmegaConf.load(CONF / "model" / f"{model}.yaml")
    if "geometry" not in config:
        raise RequestError(f"conf/model/{model}.yaml has no geometry block")
    return build_geometry(config.geometry)
