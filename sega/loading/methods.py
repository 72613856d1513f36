"""A method by its name for a model that is named, on disk, or loaded."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sega.errors import RequestError
from sega.home import CONF
from sega.loading.known import geometry_of
from sega.methods.base import Method
from sega.methods.registry import build_method, defaults, method_class


def load_method(name: str, model: Any = "flux", overrides: Iterable[str] = ()) -> Method:
    """A method by name for a model: `conf/method/<name>.yaml`, then overrides such as `"base=ntk"`.

    A method of another package has the defaults of its class. `model` is a name of `conf/model`, the folder of a
    checkpoint, or a loaded pipeline. Unknown names, keys and values raise RequestError with near matches.
    """
    import yaml
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    cls = method_class(name)
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
        own = CONF / "method" / f"{name}.yaml"
        config = OmegaConf.merge(OmegaConf.load(own) if own.is_file() else defaults(cls), changes)
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise RequestError(f"overrides {overrides} can't be read: {str(error).splitlines()[0]}") from error
    return build_method(config, geometry)
