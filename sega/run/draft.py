"""The configuration of a plain line, read from the files of `conf` without Hydra, which takes longer than all checks.

It only serves to tell what is wrong early: whatever it does not know for certain is None, and Hydra composes it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from itertools import product
from typing import TYPE_CHECKING, Any

from sega.home import CONF
from sega.run.help import GROUPS

if TYPE_CHECKING:
    from sega.run.hooks import Hooks
    from sega.run.schema import CellConfig

MOST = 64
"""Cells of a sweep that are drafted."""
WORDS = {"true": True, "false": False, "null": None}
WHOLE = re.compile(r"-?(0|[1-9]\d*)")
FLOAT = re.compile(r"-?(0|[1-9]\d*)\.\d+")
NAME = re.compile(r"[A-Za-z/][\w./: -]*|(0|[1-9]\d*)(\.\d+)?[x/:][\w./:]*")
"""What is a text to Hydra, whatever stands in it: names, paths, sizes, shares, numbers of a switch."""
GLOBAL = "_global_"


def check(settings: list[tuple[str, list[str]]], hooks: Hooks) -> None:
    """Raise RequestError for the first cell that can't work, of those that are known without Hydra."""
    from sega.run.request import checked_cell

    for config in drafts(settings) if settings else ():
        if config["model"]["download"]:  # its weights would be fetched
            return
        try:
            checked_cell(config, hooks)
        except OSError:  # such as of a file of prompts: told after the whole reading
            return


def drafts(settings: list[tuple[str, list[str]]]) -> list[CellConfig]:
    """Return the configuration of each cell of plain words, in the order of a sweep.

    [] for a line that it does not know: an experiment, a key or an option that is in no file of `conf`, many cells.
    """
    if math.prod(len(texts) for _, texts in settings) > MOST:
        return []
    found: list[CellConfig] = []
    for cell in product(*([(key, text) for text in texts] for key, texts in settings)):
        config = _draft(dict(cell))
        if config is None:
            return []
        found.append(config)
    return found


def value_of(text: str) -> Any:
    """Return the value of a word as Hydra reads it. Raises ValueError for one that is not known for certain."""
    if text.lower() in WORDS:
        return WORDS[text.lower()]
    if WHOLE.fullmatch(text) and len(text) < 20:
        return int(text)
    if FLOAT.fullmatch(text):
        return float(text)
    if NAME.fullmatch(text) and text == text.strip() and text.lower() not in ("inf", "nan"):
        return text
    raise ValueError(text)


def _draft(words: dict[str, str]) -> CellConfig | None:
    """The configuration of a cell; None if it is not known for certain."""
    given = {key: text for key, text in words.items() if key in GROUPS}
    if "experiment" in given or any(text.lower() == "null" for text in given.values()):
        return None
    config: dict[str, Any] = {}
    try:
        for part in _parts(given):
            _merge(config, part)
        for key, text in words.items():
            if key not in GROUPS:
                _set(config, key.split("."), value_of(text))
    except (KeyError, ValueError, FileNotFoundError):
        return None
    return config  # type: ignore[return-value]


def _parts(given: dict[str, str]) -> Iterator[dict[str, Any]]:
    """The parts of a configuration in the order in which they count, `given` being options of groups."""
    main = _read("config")[1]
    options: dict[str, str | None] = {}
    for entry in main["defaults"]:
        name, option = next(iter(entry.items())) if isinstance(entry, dict) else (entry, "")
        if not name.startswith("override "):
            options[name] = given.get(name, option)
    for name in list(options):  # an option may change those of other groups, unless they are given
        for entry in _option(name, options[name])[1].get("defaults", []):
            key, option = next(iter(entry.items())) if isinstance(entry, dict) else (entry, "")
            group = key.removeprefix("override /").partition("@")[0]
            if not key.startswith("override /") or group not in options:
                raise ValueError(key)  # such as an option that is built on another one
            options[group] = given.get(group, option)
    for name, option in options.items():
        package, own = (GLOBAL, main) if name == "_self_" else _option(name, option)
        own = {key: value for key, value in own.items() if key not in ("defaults", "hydra")}
        yield own if package == GLOBAL else {package: own}


def _option(name: str, option: str | None) -> tuple[str, dict[str, Any]]:
    """The package and the content of an option of a group, or of a file without options."""
    if name == "_self_" or option is None or option == "null":
        return GLOBAL, {}
    return _read(f"{name}/{option}" if option else name)


@cache
def _read(name: str) -> tuple[str, dict[str, Any]]:
    """The part of the configuration that a file belongs to, and what it says. ValueError where it refers to others."""
    import yaml

    text = (CONF / f"{name}.yaml").read_text()
    if "${" in text and name != "config":
        raise ValueError(name)
    header = re.match(r"# @package (\S+)", text)
    content = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return header[1] if header else name.partition("/")[0], content or {}


def _merge(config: dict[str, Any], part: dict[str, Any]) -> None:
    for key, value in part.items():
        if isinstance(value, dict) and isinstance(config.get(key), dict):
            _merge(config[key], value)
        else:
            config[key] = deepcopy(value)


def _set(config: dict[str, Any], path: list[str], value: Any) -> None:
    """Change a key that is there. Raises KeyError for any other, and for a part of the configuration."""
    for name in path[:-1]:
        config = config[name]
        if not isinstance(config, dict):
            raise KeyError(name)
    if isinstance(config[path[-1]], dict):
        raise KeyError(path[-1])
    config[path[-1]] = value
