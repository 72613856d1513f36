"""The command line of `run.py`: Hydra, with wrong requests answered in one line before anything runs."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sega.errors import FULL_OR_FORBIDDEN, IN_THE_WAY, RequestError, answer, near, output_closed, shortened
from sega.methods.geometry import CONF

GROUPS = ("model", "method", "prompts", "eval", "tracker", "experiment")
EXAMPLES = """\
  python run.py model=tiny method=sega res=2x
  python run.py -m model=tiny method=vanilla,ntk,sega res=1.5x,2x,384x192 prompts.limit=2
  python run.py method=sega res=4096 model.path=/models/FLUX.1-dev
  python run.py method=dype method.base=ntk res=4096 prompts.text='a lighthouse at dawn'
  python run.py model=tiny prompts=file prompts.path=my_prompts.txt seeds=[0,1,2]"""
CFG = ("job", "hydra", "all")
INFO = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
SHOW = {
    "--cfg": CFG,
    "-c": CFG,
    "--info": INFO,
    "-i": INFO,
    "--package": (),
    "-p": (),
    "--resolve": None,
    "--hydra-help": None,
    "--version": None,
    "--shell-completion": None,
    "-sc": None,
}
"""Options of Hydra that only show something, with the values they take; () for any, None for no value."""
ELSEWHERE = ("--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd", "--experimental-rerun")
"""Options of Hydra that would take another configuration, which nothing here has checked."""
DEPTH = 64
BASIC = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"

_asked: dict[str, Any] = {}  # of the command of this process: its sweep, and the exit statuses of its cells


@dataclass(frozen=True)
class Asked:
    """A checked command line."""

    words: list[str]  # for Hydra, with what a preset sweeps written out
    cells: list[Any]  # sega.run.cell.Cell
    launcher: str  # dotted name of the launcher's class


def main(arguments: list[str]) -> int:
    """Exit status: 0 done; 2 the request is wrong; 1 anything else, failed or missing images included."""
    try:
        return answer("run.py", partial(_command, arguments))
    except KeyboardInterrupt:
        print("run.py: interrupted; the same line goes on from here", file=sys.stderr)
        return 1


def _command(arguments: list[str]) -> int:
    if {"-h", "--help"} & set(arguments):
        print(help_text())
        return 0
    words, shown = _split_show(arguments)
    if shown:
        if not {"--shell-completion", "-sc"} & set(shown):
            compose_all(words)  # a wrong word is answered here, in one line
        elif not words or not words[0].startswith(("install=", "uninstall=", "query=")):
            raise RequestError("--shell-completion takes install=<shell> or uninstall=<shell>, such as install=bash")
        return 2 if _hydra([*words, *shown]) else 0
    try:
        asked = check(words)
    except OSError as error:
        raise RequestError(f"{shortened(error.filename or 'a file')}: {error.strerror}") from error
    if any(cell.config["dry_run"] for cell in asked.cells):
        from sega.run.dryrun import show

        return show(asked.cells)
    return _run(asked)


def _split_show(arguments: list[str]) -> tuple[list[str], list[str]]:
    """The words, and the options of Hydra that show something. RequestError for options that can't be."""
    words, shown, rest = [], [], list(arguments)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if name in ELSEWHERE:
            raise RequestError(f"{name} is not taken: the configuration is conf/; put your own files into its groups")
        if name not in SHOW:
            words.append(word)
            continue
        shown.append(word)
        choices = SHOW[name]
        if choices is None:
            continue
        if not equals and rest and (rest[0] in choices or choices != INFO):
            value = rest.pop(0)
            shown.append(value)
        if choices and value not in (choices if choices == CFG or equals else (*choices, "")):
            raise RequestError(f"{name} {shortened(value)}: must be one of {', '.join(choices)}")
        if not choices and (not value or "=" in value):
            raise RequestError(f"{name} needs the name of a package, such as {name} model")
    options = [word.partition("=")[0] for word in shown if word.startswith("-")]
    showing = [name for name in options if name not in ("--package", "-p", "--resolve")]
    if shown and not showing:
        raise RequestError(f"{shown[0]} goes with --cfg job")
    if len(showing) > 1 or (showing and {"-m", "--multirun"} & set(words)):
        raise RequestError(f"{showing[0]} shows one cell and goes with no other such option, nor with -m")
    return words, shown


def _run(asked: Asked) -> int:
    """Run what was asked for, with this process as the worker or, under a launcher, as the one that waits for them."""
    from sega.run import stopping
    from sega.run.progress import watched
    from sega.run.sweep import sweep_of

    sweep, alone = sweep_of(asked.cells), asked.launcher == BASIC
    stopping.forget()
    _asked.update(sweep=sweep if alone else None, statuses=[])
    with stopping.handled(patient=not alone), contextlib.nullcontext() if alone else watched(sweep):
        status = _hydra(asked.words)
    status = max([status, *_asked["statuses"]])
    if stopping.asked() and not status:
        raise KeyboardInterrupt
    now = sweep.count()
    if now.failed or now.left:
        words = [f"{now.done} there"] + ([f"{now.failed} failed"] if now.failed else [])
        if now.left:
            words.append(f"{now.left} missing: the same line goes on with them")
        if now.failed:
            reasons = sweep.failures()[0].failed_file
            words.append(f"the reasons are in {reasons}, and retry_failed=true tries again")
        print(f"{now.total} images: {'; '.join(words)}", flush=True)
    return status or int(bool(now.failed or now.left))


def _hydra(words: list[str]) -> int:
    import hydra

    before, sys.argv = sys.argv, [sys.argv[0], *words]
    try:
        hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(task)()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1
    finally:
        sys.argv = before
    return 0


def task(config) -> int:
    """One cell, in whatever process a launcher has chosen. Returns its exit status; the next cells go on."""
    from hydra.core.hydra_config import HydraConfig

    from sega.run import stopping
    from sega.run.worker import run

    status = 0
    try:
        many = HydraConfig.get().mode.name == "MULTIRUN" and HydraConfig.get().launcher._target_ != BASIC
        run(plain(config), _asked.get("sweep"), plain=many)
    except RequestError as error:
        print(f"run.py: {error}", file=sys.stderr, flush=True)
        status = 2
    except BrokenPipeError:
        status = output_closed("run.py")
        stopping.ask()
    except OSError as error:
        if error.errno not in FULL_OR_FORBIDDEN | IN_THE_WAY:
            raise
        print(
            f"run.py: {error.filename or config.store} can't be written ({error.strerror}); what is made stays, "
            "and the same line goes on once that is mended",
            file=sys.stderr,
            flush=True,
        )
        stopping.ask()
        status = 1
    _asked.setdefault("statuses", []).append(status)
    return status


def plain(config) -> dict[str, Any]:
    """A composed config as resolved plain values."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        return OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise RequestError(f"the configuration can't be resolved: {str(error).splitlines()[0]}") from error


def check(arguments: list[str]) -> Asked:
    """Compose and plan every cell that these words ask for. Raises RequestError for the first that can't work."""
    from sega.run.sweep import plan_cell

    words, configs, launcher = compose_all(arguments)
    return Asked(words, [plan_cell(config) for config in configs], launcher)


def compose_all(arguments: list[str]) -> tuple[list[str], list[dict[str, Any]], str]:
    """Words for Hydra, the configuration of every cell, and the launcher. RequestError for what can't be read."""
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    from sega.run.presets import swept_words

    multirun = bool({"-m", "--multirun"} & set(arguments))
    words = [word for word in arguments if word not in ("-m", "--multirun")]
    for word in words:
        _check_word(word)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        try:
            parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
            first = parser.parse_overrides(words)
        except HydraException as error:
            raise _request(error, words) from error
        except (ValueError, RecursionError) as error:  # a number of too many digits, too many brackets
            raise RequestError(f"can't read {shortened(max(words, key=len))}") from error
        whole = _composed([_first(item) for item in first], hydra=True)
        words = words + swept_words(whole, words, multirun)
        overrides = parser.parse_overrides(words)
        swept = [item for item in overrides if item.is_sweep_override()]
        if swept and not multirun:
            raise RequestError(
                f"{swept[0].input_line} gives several values: add -m to run each of them, or quote a value with commas"
            )
        if multirun:
            words = [_kept_for_cells(item, swept) for item in overrides]
            overrides = parser.parse_overrides(words)
        launcher = _launcher(whole) if multirun else BASIC
        configs = [plain(_composed(cell)) for cell in _cells(overrides)]
    return [*(["-m"] if multirun else []), *words], configs, launcher


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


def _launcher(whole) -> str:
    """The class of the chosen launcher, when its package is there."""
    import importlib.util

    target = whole.hydra.launcher._target_
    name = target.split(".")[1] if target.startswith("hydra_plugins.") else None
    if name and importlib.util.find_spec(f"hydra_plugins.{name}") is None:
        package = name.replace("_", "-")
        raise RequestError(f"this launcher needs the package {package}; install it, or leave hydra/launcher out")
    return target


def _check_word(word: str) -> None:
    if word.startswith("-"):
        raise RequestError(f"unknown option {word}; settings are written key=value, such as res=512 (see --help)")
    if "=" not in word or word.startswith("="):
        raise RequestError(f"can't read {word!r}; settings are written key=value, such as res=512 (see --help)")
    depth = 0
    for character in word:
        depth += (character in "[{(") - (character in "]})")
        if depth > DEPTH:
            raise RequestError(f"can't read {shortened(word)}: more than {DEPTH} brackets stand open")
    if word.startswith(("+", "~")) and not word.lstrip("+~").startswith("hydra"):
        raise RequestError(f"{word}: keys can't be added or removed; write {word.lstrip('+~')} to change one")


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

    words = [word for word in words if hydra or not word.startswith("hydra")]
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


def help_text() -> str:
    """What `--help` prints: groups, keys with their comments, examples."""
    lines = [
        "python run.py [-m] [group=option ...] [key=value ...]",
        "",
        "Generates images into the run store; what is there is not made again.",
        "-m runs every combination of the listed values.",
    ]
    lines += ["", "Groups (options; their keys are group.key, explained in conf/<group>/<option>.yaml)"]
    for group in GROUPS:
        options = sorted(path.stem for path in (Path(CONF) / group).glob("*.yaml"))
        lines.append(f"  {group:<11} {', '.join(options)}")
    lines += ["", "Keys"]
    for line in (Path(CONF) / "config.yaml").read_text().split("_self_", 1)[1].split("hydra:\n")[0].splitlines():
        if ":" in line and not line.startswith(" "):
            setting, _, comment = line.partition("#")
            lines.append(f"  {setting.strip().replace(': ', '='):<22} {comment.strip()}")
    return "\n".join([*lines, "", "Examples", EXAMPLES])
