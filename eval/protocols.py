"""Options of the evaluation: `conf/eval/<protocol>.yaml`, then `key=value` words from the command line."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sega.errors import RequestError, near
from sega.home import CONF, command_line

from .metrics.types import option

CHOICES = {
    "reference.kind": ("auto", "world", "folder", "none"),
    "features": ("embedded", "inception", "inception_tf", "lite0", "dinov2"),
    "reference.resize": ("none", "size"),
    "reference.filter": ("lanczos", "bicubic", "bilinear", "box"),
    "patch.places": ("by_prompt", "by_order"),
    "aesthetic.version": ("v1", "v2"),
    "hps.version": ("v2.0", "v2.1"),
    "vqascore.model": ("qwen2.5-vl-3b", "qwen2.5-vl-7b", "qwen3-vl-8b"),
    "glcm.variant": ("diffusion4k", "pixverve"),
    "glcm.jpeg": (False, True),
    "is.variant": ("torch_fidelity", "torchmetrics"),
}


def protocols() -> list[str]:
    """Return the names of the files in `conf/eval`."""
    return sorted(path.stem for path in (CONF / "eval").glob("*.yaml"))


def load_protocol(name: str, overrides: Iterable[str] = ()) -> dict[str, Any]:
    """Return a protocol as a nested dict. Unknown names, keys and unreadable values raise RequestError."""
    import yaml
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    known = protocols()
    if name not in known:
        raise RequestError(f"unknown protocol eval={name}{near(name, known)}")
    config = _composed(name)
    try:
        changes = OmegaConf.from_dotlist(list(overrides))
        _check_keys(OmegaConf.to_container(changes), OmegaConf.to_container(config), "")
        merged = OmegaConf.to_container(OmegaConf.merge(config, changes), resolve=True)
    except RequestError:
        raise
    except (yaml.YAMLError, OmegaConfBaseException, ValueError, TypeError, RecursionError) as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RequestError(f"options can't be read: {why}") from error
    check_values(merged)
    return merged


def _composed(name: str) -> Any:
    """Merge the file of a protocol into those named by its `defaults`, as Hydra does for run.py."""
    from omegaconf import OmegaConf

    config = OmegaConf.load(CONF / "eval" / f"{name}.yaml")
    bases = [base for base in config.pop("defaults", []) if base != "_self_"]
    return OmegaConf.merge(*map(_composed, bases), config)


def _check_keys(changes: dict, known: dict, prefix: str) -> None:
    for key, value in changes.items():
        if key not in known:
            raise RequestError(f"unknown option {prefix}{key}{near(key, known)}")
        if isinstance(known[key], dict) != isinstance(value, dict):
            kind = "a group of values" if isinstance(known[key], dict) else "one value"
            raise RequestError(f"option {prefix}{key} must be {kind}")
        if isinstance(value, dict):
            _check_keys(value, known[key], f"{prefix}{key}.")


def check_values(config: dict) -> None:
    """Raise RequestError if a value of a protocol is not valid."""
    from .metrics.registry import is_metric, is_voted, metrics

    if not isinstance(config["metrics"], list):
        raise RequestError(f"metrics={config['metrics']} must be a list such as metrics=[fid,kid]")
    for name in config["metrics"]:
        if not isinstance(name, str) or not is_metric(name):
            raise RequestError(f"unknown metric {name!r}{near(name, metrics())}")
        if is_voted(name):
            raise RequestError(f"metrics: {name} is made of votes, not of images; {command_line('votes')} reads them")
    for key, allowed in CHOICES.items():
        if option(config, key) not in allowed:
            raise RequestError(f"{key}={option(config, key)} is not allowed{near(option(config, key), allowed)}")
    for key in (
        "batch",
        "patch.count",
        "kid.subsets",
        "is.splits",
        "prdc.k",
        "spectrum.bands",
        "bootstrap.samples",
        "reference.least",
    ):
        _whole_number(config, key)
    _whole_number(config, "bootstrap.distance_samples", least=2)
    for key in ("reference.count", "patch.resize"):
        if option(config, key) is not None:
            _whole_number(config, key)
    if option(config, "patch.places") == "by_order" and option(config, "patch.resize") is None:
        raise RequestError("patch.places=by_order needs images of one size; give patch.resize=<pixels>")
    for key in ("patch.size", "kid.subset_size", "repetition.period", "seam.period", "reference.per_prompt"):
        if option(config, key) != "auto":
            _whole_number(config, key)
    for key in ("workers", "patch.seed", "kid.seed", "is.seed", "bootstrap.seed"):
        _whole_number(config, key, least=0)
    level = option(config, "bootstrap.level")
    if not isinstance(level, float) or not 0 < level < 1:
        raise RequestError(f"bootstrap.level={level} must be between 0 and 1")


def _whole_number(config: dict, key: str, least: int = 1) -> None:
    value = option(config, key)
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise RequestError(f"{key}={value} must be a whole number of at least {least}")
