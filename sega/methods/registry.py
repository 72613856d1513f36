"""The methods by name, and how one is built from its config."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from importlib import import_module
from typing import Any

from sega.errors import RequestError, near
from sega.methods.base import Method
from sega.methods.geometry import Geometry

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


def method_class(name: str) -> type[Method]:
    """The class of a method. Unknown names raise RequestError with near matches."""
    if name not in METHODS:
        raise RequestError(f"unknown method {name!r}{near(name, METHODS)}")
    module, attribute = METHODS[name].split(":")
    return getattr(import_module(module), attribute)


def build_method(cfg: Mapping[str, Any], geometry: Geometry) -> Method:
    """A method from a mapping `{"name": ..., parameter: value}`, plain or from Hydra."""
    values = {str(key): cfg[key] for key in cfg}
    name = values.pop("name", None)
    cls = method_class(name)
    known = [item.name for item in fields(cls) if item.name != "geometry"]
    for key in values:
        if key not in known:
            raise RequestError(f"{name} has no parameter {key!r}{near(key, known)}")
    return cls(geometry=geometry, **values)
