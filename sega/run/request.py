"""Turn a command line into a checked request: each cell is composed and checked once, before anything runs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sega.errors import RequestError, near, shortened
from sega.home import CONF
from sega.methods.geometry import build_geometry
from sega.methods.sizes import is_multiple, parse_size
from sega.run.cell import Cell, build_cell
from sega.run.first_look import check_word
from sega.run.help import GROUPS
from sega.run.hooks import NO_HOOKS, Hooks

if TYPE_CHECKING:
    from sega.run.schema import CellConfig

BASIC = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"
PUBLISHED = 1024
"""The smallest training side, in px, that the sizes of presets are meant for. Smaller models get them in proportion."""


@dataclass(frozen=True)
class Request:
    """A checked command line."""

    cells: list[Cell]
    words: list[str]  # for Hydra, with what a preset sweeps written out
    launcher: str | None  # dotted name of the class of a launcher; None: this process makes the images


def read_request(arguments: list[str], hooks: Hooks = NO_HOOKS) -> Request:
    """Return the request of a command line. Raises RequestError for the first error."""
    words, configs, launcher = compose_all(arguments)
    return Request([checked_cell(config, hooks) for config in configs], words, launcher)


def checked_cell(config: CellConfig, hooks: Hooks) -> Cell:
    """Return the cell of a configuration. Raises RequestError for whatever can't work."""
    if hooks.check_protocol is not None:
        hooks.check_protocol(config["eval"])
    return build_cell(config)


def compose_all(arguments: list[str]) -> tuple[list[str], list[CellConfig], str | None]:
    """Return the words for Hydra, the configuration of every cell, and the launcher. Raises RequestError."""
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    multirun = bool({"-m", "--multirun"} & set(arguments))
    words = _with_config_dirs([word for word in arguments if word not in ("-m", "--multirun")])
    for word in words:
        check_word(word)
    words = _with_plugins(words)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        try:
            parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
            first = parser.parse_overrides(words)
        except HydraException as error:
            raise _request(error, words) from error
        except (ValueError, RecursionError) as error:  # a number of too many digits, too many brackets
            raise RequestError(f"can't read {shortened(max(words, key=len))}") from error
        one = [_first(item) for item in first]
        composed = _composed(one, hydra=True)
        more = swept_words(composed, words, multirun)
        overrides = parser.parse_overrides(words + more) if more else first
        swept = [item for item in overrides if item.is_sweep_override()]
        if not multirun:
            if swept:
                raise RequestError(
                    f"{swept[0].input_line} gives several values: add -m to run each of them, or quote a value with "
                    "commas"
                )
            return words, [_cell_part(composed)], None
        words = [_kept_for_cells(item, swept) for item in overrides]
        overrides = parser.parse_overrides(words)
        lines = _cells(overrides)
        launcher = _launcher(composed)
        configs = [_cell_part(composed) if line == one else plain(_composed(line)) for line in lines]
    return ["-m", *words], configs, None if launcher == BASIC else launcher


def _with_config_dirs(words: list[str]) -> list[str]:
    """`--config-dir <folder>` as an entry of Hydra's search path, where the folder's groups are found too."""
    kept, folders, rest = [], [], list(words)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if name not in ("--config-dir", "-cd"):
            kept.append(word)
            continue
        value = value if equals else (rest.pop(0) if rest else "")
        if not Path(value).expanduser().is_dir() or not value:
            raise RequestError(f"{name} {value} is not a folder; give one of groups, such as method/<name>.yaml")
        folders.append(f"file://{Path(value).expanduser().resolve()}")
    if folders:
        given = next((word for word in kept if word.startswith("hydra.searchpath=[")), None)
        kept = [word for word in kept if word != given]
        others = given.partition("=[")[2].rstrip("]").split(",") if given else []
        kept.append(f"hydra.searchpath=[{','.join([*folders, *filter(None, others)])}]")
    return kept


def _with_plugins(words: list[str]) -> list[str]:
    """Methods of other packages as options of the group `method`, made from their classes.

    `method.target=<module>:<class>` becomes such an option too. A config file of that name on the search path counts
    more.
    """
    from hydra.core.config_store import ConfigStore

    from sega import plugins
    from sega.methods.registry import METHODS, defaults, method_class, target_class

    found = []
    for word in words:
        key, _, value = word.partition("=")
        if key == "method.target":
            cls = target_class(value)
            option = f"target-{value.replace(':', '-')}"
            ConfigStore.instance().store(option, defaults(cls) | {"target": value}, group="method", provider="target")
            word = f"method={option}"
        elif key == "method":
            for name in re.findall(r"[\w-]+", value):
                if name not in METHODS and name in plugins.entries("methods"):
                    ConfigStore.instance().store(name, defaults(method_class(name)), group="method", provider="plugin")
        found.append(word)
    return found


def _cell_part(composed) -> CellConfig:
    """The configuration of a cell, without Hydra's own part."""
    from omegaconf import open_dict

    with open_dict(composed):
        composed.pop("hydra")
    return plain(composed)


def _kept_for_cells(item, swept: list) -> str:
    """A word for Hydra; a key of a group that is swept becomes a sweep of one value.

    Hydra first composes what is not swept, with the default of the group, which may lack the key.
    """
    key, _, value = item.input_line.partition("=")
    groups = {other.get_key_element() for other in swept}
    of_swept = "." in key and key.split(".")[0] in groups and not item.is_sweep_override()
    return f"{key}=choice({value})" if of_swept else item.input_line


def _first(item) -> str:
    if not item.is_sweep_override() or not item.is_discrete_sweep():
        return item.input_line
    return f"{item.get_key_element()}={next(iter(item.sweep_string_iterator()))}"


def _launcher(composed) -> str:
    """The class of the chosen launcher, when its package is there."""
    import importlib.util

    target = composed.hydra.launcher._target_
    name = target.split(".")[1] if target.startswith("hydra_plugins.") else None
    if name and importlib.util.find_spec(f"hydra_plugins.{name}") is None:
        package = name.replace("_", "-")
        raise RequestError(f"this launcher needs the package {package}; install it, or leave hydra/launcher out")
    return target


def _cells(overrides: list) -> list[list[str]]:
    from itertools import product

    choices = []
    for item in overrides:
        if item.is_sweep_override():
            if not item.is_discrete_sweep():
                raise RequestError(f"{item.input_line} is no list of values")
            choices.append([f"{item.get_key_element()}={value}" for value in item.sweep_string_iterator()])
        else:
            choices.append([item.input_line])
    return [list(cell) for cell in product(*choices)]


def _composed(words: list[str], hydra: bool = False):
    """The configuration of a cell, with Hydra's own part if wanted; what Hydra finds wrong as a RequestError."""
    from hydra.errors import HydraException

    try:
        return _compose(words, hydra)
    except HydraException as error:
        raise _request(error, words) from error
    except ValueError as error:  # such as a group that is given null
        raise RequestError(str(error).splitlines()[0]) from error


def _compose(words: list[str], hydra: bool = False):
    from hydra import compose

    words = [word for word in words if hydra or not word.startswith("hydra") or word.startswith("hydra.searchpath=")]
    return compose("config", overrides=words, return_hydra_config=hydra)


def _request(error: Exception, words: list[str]) -> RequestError:
    """What Hydra found wrong, in one line."""
    from hydra.errors import HydraException, MissingConfigException, OverrideParseException

    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options is not None:
        group, _, name = error.missing_cfg_file.rpartition("/")
        return RequestError(f"unknown {group} {name!r}{near(name, error.options)}")
    if isinstance(error, OverrideParseException):
        return RequestError(f"can't read {error.override!r}; quote values with spaces, commas or brackets")
    key = getattr(error.__cause__, "full_key", None)
    if key:
        try:
            known = _keys(plain(_compose([word for word in words if word.split("=")[0] in GROUPS])))
        except HydraException as other:
            return _request(other, [])
        parent = key.rpartition(".")[0]
        siblings = [name for name in known if name.rpartition(".")[0] == parent]
        return RequestError(f"unknown key {key!r}{near(key, siblings or known)}")
    return RequestError(str(error).splitlines()[0])


def _keys(config: dict[str, Any], prefix: str = "") -> list[str]:
    keys = []
    for key, value in config.items():
        keys += [prefix + key, *(_keys(value, f"{prefix}{key}.") if isinstance(value, dict) else [])]
    return keys


def swept_words(composed, words: list[str], multirun: bool) -> list[str]:
    """Words for the `hydra.sweeper.params` of a configuration, but for keys that `words` sets; Hydra is given none.

    `composed` is a configuration with Hydra's part. Raises RequestError without -m.
    """
    params = composed.hydra.sweeper.get("params")
    if not params:
        return []
    if not multirun:
        raise RequestError("this experiment runs several cells: add -m")
    given = {word.split("=")[0] for word in words}
    swept = {key: str(value) for key, value in params.items() if key not in given}
    if "res" in swept:
        swept["res"] = ",".join(_fit(size.strip(), composed.model) for size in swept["res"].split(","))
    if composed.model.native < PUBLISHED:  # no published prompts or scores fit it: those of its own world
        swept |= {key: "embedded" for key in ("prompts", "eval") if key not in given}
    return [*(f"{key}={value}" for key, value in swept.items()), "hydra.sweeper.params=null"]


def _fit(size: str, model) -> str:
    if model.native >= PUBLISHED or is_multiple(size):
        return size
    step = build_geometry(model.geometry).token_pixels
    published = parse_size(size, PUBLISHED, step)
    sides = [max(round(side * model.native / PUBLISHED / step), 1) * step for side in published]
    return "x".join(map(str, sides))


def plain(config) -> Any:
    """A composed config as resolved plain values."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        return OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise RequestError(f"the configuration can't be resolved: {str(error).splitlines()[0]}") from error
