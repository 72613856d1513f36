"""The methods by name, and how one is built from its config."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from importlib import import_module
from typing import Any

from sega import plugins
from sega.errors import RequestError, near
from sega.home import package
from sega.methods.base import Method
from sega.methods.geometry import Geometry
from sega.methods.parameters import parameters_of

METHODS = {
    "vanilla": "baselines.vanilla:Vanilla",
    "pi": "baselines.pi:PI",
    "ntk": "baselines.ntk:NTK",
    "yarn": "baselines.yarn:YaRN",
    "dype": "baselines.dype:DyPE",
    "sigma": "baselines.sigma:SigMa",
    "tasr": "baselines.tasr:TASR",
    "vision_yarn": "baselines.vision_yarn:VisionYaRN",
    "sega": "sega.methods.sega:SEGA",
    "mix": "baselines.mix:Mix",
    "window": "baselines.window:Window",
    "resdit": "baselines.resdit:ResDiT",
    "area": "baselines.area:AReA",
    "ultraimage": "baselines.ultraimage:UltraImage",
    "imax": "baselines.imax:IMax",
    "hiflow": "baselines.hiflow:HiFlow",
    "scalediff": "baselines.scalediff:ScaleDiff",
    "freescale": "baselines.freescale:FreeScale",
    "hrdit": "baselines.hrdit:HRDiT",
    "pixelrush": "baselines.pixelrush:PixelRush",
    "upsample": "baselines.upsample:Upsample",
}


def method_class(name: Any) -> type[Method]:
    """The class of a method, built in or of another package. Unknown names raise RequestError with near matches."""
    if name in METHODS:
        module, attribute = METHODS[name].split(":")
        room, _, rest = module.partition(".")
        module = f"{package(room)}.{rest}" if room == "baselines" else module
        return _checked(getattr(import_module(module), attribute), f"the method {name}")
    found = plugins.entries("methods")
    if name not in found:
        raise RequestError(f"unknown method {name!r}{near(name, [*METHODS, *found])}")
    return _checked(plugins.load(found[name]), f"the method {name}")


def target_class(target: Any) -> type[Method]:
    """The class that `method.target` names."""
    return _checked(plugins.load_target(target), f"method.target={target}")


def _checked(found: Any, what: str) -> type[Method]:
    if not (isinstance(found, type) and issubclass(found, Method)):
        raise RequestError(f"{what} is no subclass of sega.Method")
    if "name" not in vars(found):
        raise RequestError(f'{what} has no name of its own; give it one: name: ClassVar[str] = "..."')
    return found


def defaults(cls: type[Method]) -> dict[str, Any]:
    """The config of a method whose package brings none: its name and the default of every parameter."""
    values = {key: default for key, (default, _) in parameters_of(cls).items()}
    return {"name": cls.name} | {key: list(v) if isinstance(v, tuple) else v for key, v in values.items()}


def build_method(cfg: Mapping[str, Any], geometry: Geometry) -> Method:
    """A method from a mapping `{"name": ..., parameter: value}`, plain or from Hydra; `target` in place of a name."""
    values = {str(key): cfg[key] for key in cfg}
    name, target = values.pop("name", None), values.pop("target", None)
    cls = method_class(name) if target is None else target_class(target)
    known = [item.name for item in fields(cls) if item.name != "geometry"]
    for key in values:
        if key not in known:
            raise RequestError(f"{cls.name} has no parameter {key!r}{near(key, known)}")
    return cls(geometry=geometry, **values)
