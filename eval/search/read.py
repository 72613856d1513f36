"""Read and check `conf/search/<name>.yaml`. Every error is a RequestError that names the key."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sega.errors import RequestError, check_name, near
from sega.home import CONF

from ..metrics.registry import metrics
from ..protocols import load_protocol
from .definition import Definition, Dimension, Objective, Prune, Value
from .ranks import RULE

KEYS = ("name", "fixed", "space", "start", "objective", "prune", "sampler", "trials")
OWN = ("device", "store", "part", "lease", "dry_run", "retry_failed", "eval")
"""Settings of run.py that the command or the objective gives."""
DIRECTIONS = ("higher", "lower", "zero")


def read_definition(name: str, changes: Mapping[str, str] | None = None, folders: Iterable[Path] = ()) -> Definition:
    """Return a search by the name of its file, with changes to its fixed settings.

    `folders` of configuration are looked into first. Raises RequestError for whatever is wrong.
    """
    found = _load(name, folders)
    _keys("", found, KEYS)
    check_name("name", found["name"])
    fixed = {key: _value(f"fixed.{key}", value) for key, value in _group(found, "fixed").items()}
    space = _space(_group(found, "space"))
    fixed |= _parsed(changes or {})
    for key in fixed:
        if key in OWN:
            raise RequestError(f"fixed.{key}: {key} is an option of the command, or of the objective")
        if any(dimension.key == key for dimension in space):
            raise RequestError(f"{key} is searched; take it out of the space to fix it")
    start = {str(label): _settings(f"start.{label}", point) for label, point in _group(found, "start").items()}
    if len(start) < 3:
        raise RequestError("start: give at least 3 points, such as published methods: others are ranked among them")
    objective, prune, sampler = _objective(_group(found, "objective")), _prune(found), _group(found, "sampler")
    _keys("sampler.", sampler, ("startup", "seed"))
    meaning = {key: found[key] for key in ("space", "start", "objective", "prune") if key in found}
    return Definition(
        found["name"],
        fixed,
        space,
        start,
        objective,
        prune,
        _whole("sampler.startup", sampler.get("startup", 20), 1),
        None if sampler.get("seed") is None else _whole("sampler.seed", sampler["seed"], 0),
        _whole("trials", found.get("trials", 100), 0),
        json.loads(json.dumps({"rule": RULE, "fixed": fixed, **meaning})),
    )


def names() -> list[str]:
    """Return the searches of `conf/search`."""
    return sorted(path.stem for path in (CONF / "search").glob("*.yaml"))


def _load(name: str, folders: Iterable[Path]) -> dict[str, Any]:
    import yaml
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    places = [Path(folder) / "search" / f"{name}.yaml" for folder in (*folders, CONF)]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise RequestError(f"unknown search={name}{near(name, names())}")
    try:
        found = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    except (yaml.YAMLError, OmegaConfBaseException, UnicodeDecodeError) as error:
        raise RequestError(f"{path} can't be read: {str(error).splitlines()[0]}") from error
    if not isinstance(found, dict):
        raise RequestError(f"{path} must be a group of keys: {', '.join(KEYS)}")
    return {"name": name, **found}


def _space(group: dict[str, Any]) -> tuple[Dimension, ...]:
    found: dict[str, Dimension] = {}
    for name, entry in group.items():
        where = f"space.{name}"
        if not isinstance(entry, dict):
            raise RequestError(f"{where} must be like {{choice: [a, b]}}, {{float: [0.0, 1.0]}} or {{int: [1, 9]}}")
        _keys(f"{where}.", entry, ("choice", "float", "int", "log", "step", "when", "key"))
        kinds = [kind for kind in ("choice", "float", "int") if kind in entry]
        if len(kinds) != 1:
            raise RequestError(f"{where} needs one of choice, float and int")
        key, when = str(entry.get("key", name)), _when(where, entry.get("when", {}), found)
        if key in OWN:
            raise RequestError(f"{where}: {key} can't be searched")
        if kinds == ["choice"]:
            found[name] = Dimension(name, key, _choices(where, entry), when=when)
        else:
            found[name] = Dimension(name, key, when=when, **_range(where, entry, kinds[0]))
    if not found:
        raise RequestError("space is empty; give settings and their values")
    return tuple(found.values())


def _choices(where: str, entry: dict[str, Any]) -> tuple[Value, ...]:
    values = entry["choice"]
    if not isinstance(values, list) or not values or {"log", "step"} & set(entry):
        raise RequestError(f"{where}.choice must be a list of values, without log or step")
    return tuple(_value(f"{where}.choice", value) for value in values)


def _range(where: str, entry: dict[str, Any], kind: str) -> dict[str, Any]:
    ends, step, log = entry[kind], entry.get("step"), entry.get("log", False)
    numbers = int if kind == "int" else int | float
    for value in [*(ends if isinstance(ends, list) else [ends]), *([] if step is None else [step])]:
        if isinstance(value, bool) or not isinstance(value, numbers):
            raise RequestError(f"{where}.{kind} must be [low, high] of {kind} numbers")
    if not isinstance(ends, list) or len(ends) != 2 or ends[0] >= ends[1]:
        raise RequestError(f"{where}.{kind} must be [low, high], with low below high")
    if not isinstance(log, bool) or (log and (step is not None or ends[0] <= 0)):
        raise RequestError(f"{where}.log must be true or false; with true there is no step, and low is above 0")
    if step is not None and step <= 0:
        raise RequestError(f"{where}.step must be above 0")
    return {"low": ends[0], "high": ends[1], "whole": kind == "int", "log": log, "step": step}


def _when(where: str, when: Any, before: dict[str, Dimension]) -> dict[str, tuple[Value, ...]]:
    if not isinstance(when, dict):
        raise RequestError(f"{where}.when must be like {{method: sega}} or {{method: [sega, dype]}}")
    found = {}
    for name, values in when.items():
        if name not in before:
            raise RequestError(f"{where}.when: {name} is not in the space before it{near(name, before)}")
        found[name] = tuple(values) if isinstance(values, list) else (values,)
        for value in found[name]:
            if not before[name].contains(value):
                raise RequestError(f"{where}.when: {name} is never {value}")
    return found


def _objective(group: dict[str, Any]) -> Objective:
    _keys("objective.", group, ("eval", "options", "metrics", "cost"))
    directions = group.get("metrics")
    if not isinstance(directions, dict) or not directions:
        raise RequestError("objective.metrics must be like {attribute_accuracy: higher, fid: lower}")
    for name, direction in directions.items():
        if name not in metrics():
            raise RequestError(f"objective.metrics: unknown metric {name!r}{near(name, metrics())}")
        if direction not in DIRECTIONS:
            raise RequestError(f"objective.metrics.{name}={direction} must be one of {', '.join(DIRECTIONS)}")
        best = "higher" if metrics()[name].higher_is_better else "lower"
        if metrics()[name].ranked and direction != best:
            raise RequestError(f"objective.metrics.{name}={direction}: {best} is better")
    if not isinstance(group.get("cost", False), bool):
        raise RequestError(f"objective.cost={group['cost']} must be true or false")
    options = [f"{key}={value}" for key, value in _settings("objective.options", group.get("options", {})).items()]
    chosen = [*options, f"metrics=[{','.join(directions)}]"]
    return Objective(load_protocol(str(group.get("eval")), chosen), dict(directions), group.get("cost", False))


def _prune(found: dict[str, Any]) -> Prune:
    group = _group(found, "prune")
    _keys("prune.", group, ("after", "beaten"))
    after = group.get("after", [])
    counts = after if isinstance(after, list) else [after]
    rungs = tuple(_whole("prune.after", count, 2) for count in counts)
    if list(rungs) != sorted(set(rungs)):
        raise RequestError(f"prune.after={after} must rise")
    beaten = group.get("beaten", 0.5)
    if isinstance(beaten, bool) or not isinstance(beaten, int | float) or not 0 < beaten <= 1:
        raise RequestError(f"prune.beaten={beaten} must be a share above 0, at most 1")
    return Prune(rungs, float(beaten))


def _parsed(changes: Mapping[str, str]) -> dict[str, Value]:
    """Return settings of the command line as YAML would read their values."""
    from omegaconf import OmegaConf

    texts = {key: OmegaConf.from_dotlist([f"value={text}"]).value for key, text in changes.items()}
    return {key: _value(key, OmegaConf.to_container(v) if OmegaConf.is_config(v) else v) for key, v in texts.items()}


def _settings(where: str, group: Any) -> dict[str, Value]:
    if not isinstance(group, dict):
        raise RequestError(f"{where} must be settings of run.py, such as {{method: sega}}")
    return {str(key): _value(f"{where}.{key}", value) for key, value in group.items()}


def _value(where: str, value: Any) -> Value:
    """Return a value of a setting, a list as text."""
    if isinstance(value, list):
        return f"[{','.join(str(_value(where, item)) for item in value)}]"
    if value is None or isinstance(value, str | int | float):
        return value
    raise RequestError(f"{where} must be a value or a list of values")


def _group(found: dict[str, Any], key: str) -> dict[str, Any]:
    group = found.get(key) or {}
    if not isinstance(group, dict):
        raise RequestError(f"{key} must be a group of keys")
    return group


def _keys(prefix: str, group: dict[str, Any], known: tuple[str, ...]) -> None:
    for key in group:
        if key not in known:
            raise RequestError(f"unknown key {prefix}{key}{near(key, known)}")


def _whole(key: str, value: Any, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise RequestError(f"{key}={value} must be a whole number of at least {least}")
    return value
