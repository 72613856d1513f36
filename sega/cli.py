"""The command line of `run.py`: Hydra, with wrong requests answered in one line before anything runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from sega.errors import RequestError, near
from sega.geometry import CONF

GROUPS = ("model", "method", "prompts", "eval", "tracker", "experiment")
EXAMPLES = """\
  python run.py model=tiny method=sega res=256
  python run.py -m model=tiny method=vanilla,ntk,sega res=256x512 prompts.limit=2
  python run.py method=sega res=4096 model.path=/models/FLUX.1-dev
  python run.py method=dype method.base=ntk res=4096 prompts.text='a lighthouse at dawn'
  python run.py model=tiny prompts=file prompts.path=my_prompts.txt seeds=[0,1,2]"""
HYDRA_FLAGS = (
    "--cfg", "-c", "--resolve", "--package", "-p", "--info", "-i", "--hydra-help", "--version", "--config-path", "-cp",
    "--config-name", "-cn", "--config-dir", "-cd", "--experimental-rerun", "--shell-completion", "-sc",
)  # fmt: skip


def main(arguments: list[str]) -> int:
    """Exit status: 0 done, 2 the request is wrong, 1 anything else."""
    if {"-h", "--help"} & set(arguments):
        print(help_text())
        return 0
    try:
        flags = [word for word in arguments if word.startswith("-")]
        if not any(flag.split("=")[0] in HYDRA_FLAGS for flag in flags):
            check(arguments)
        return _hydra()
    except RequestError as error:
        print(f"run.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("run.py: interrupted; the same line goes on from here", file=sys.stderr)
        return 1


def _hydra() -> int:
    import hydra

    @hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
    def task(config) -> None:
        from sega.runner import run

        try:
            run(plain(config))
        except RequestError as error:
            print(f"run.py: {error}", file=sys.stderr)
            raise SystemExit(2) from None

    try:
        task()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1
    return 0


def plain(config) -> dict[str, Any]:
    """A composed config as resolved plain values."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        return OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise RequestError(f"the configuration can't be resolved: {str(error).splitlines()[0]}") from error


def check(arguments: list[str]) -> None:
    """Compose and plan every cell that these words ask for. Raises RequestError for the first that can't work."""
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    from sega.plan import plan

    multirun = bool({"-m", "--multirun"} & set(arguments))
    words = [word for word in arguments if word not in ("-m", "--multirun")]
    for word in words:
        _check_word(word)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        try:
            parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
            overrides = parser.parse_overrides(words)
        except HydraException as error:
            raise _request(error, words) from error
        swept = [item for item in overrides if item.is_sweep_override()]
        if swept and not multirun:
            raise RequestError(
                f"{swept[0].input_line} gives several values: add -m to run each of them, or quote a value with commas"
            )
        for cell in _cells(overrides):
            try:
                config = _compose(cell)
            except HydraException as error:
                raise _request(error, cell) from error
            plan(plain(config))


def _check_word(word: str) -> None:
    if word.startswith("-"):
        raise RequestError(f"unknown option {word}; settings are written key=value, such as res=512 (see --help)")
    if "=" not in word:
        raise RequestError(f"can't read {word!r}; settings are written key=value, such as res=512 (see --help)")
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


def _compose(words: list[str]):
    from hydra import compose

    return compose("config", overrides=[word for word in words if not word.startswith("hydra")])


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
