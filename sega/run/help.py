"""The text of `run.py --help`, from the files of the configuration. Imports nothing heavy: it is there at once."""

from __future__ import annotations

from sega.home import CONF

GROUPS = ("model", "method", "prompts", "eval", "tracker", "speed", "experiment")
GLOBAL = ("speed", "experiment")
"""Groups without keys of their own: they set those of others."""
EXAMPLES = """\
  python run.py model=tiny method=sega res=2x
  python run.py -m model=tiny method=vanilla,ntk,sega res=1.5x,2x,384x192 prompts.limit=2
  python run.py method=sega res=4096 model.path=/models/FLUX.1-dev
  python run.py method=dype method.base=ntk res=4096 prompts.text='a lighthouse at dawn'
  python run.py model=tiny prompts=file prompts.path=my_prompts.txt seeds=[0,1,2]"""


def help_text() -> str:
    """What `--help` prints: groups, keys with their comments, examples."""
    lines = [
        "python run.py [-m] [group=option ...] [key=value ...]",
        "",
        "Generates images into the run store; what is there is not made again.",
        "-m runs every combination of the listed values.",
    ]
    lines += ["", "Groups (options; their keys are group.key, explained in conf/<group>/<option>.yaml)"]
    lines += [f"  {group:<11} {', '.join(options(group))}" for group in GROUPS]
    lines += ["", "Keys"]
    for setting, comment in keys():
        lines.append(f"  {setting.replace(': ', '='):<22} {comment}")
    return "\n".join([*lines, "", "Examples", EXAMPLES])


def options(group: str) -> list[str]:
    """The options of a group: its files."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def option_keys(group: str, option: str) -> list[str] | None:
    """The keys of an option whose file is a flat list of them; None for any other."""
    path = CONF / group / f"{option}.yaml"
    lines = path.read_text().splitlines() if path.is_file() else []
    settings = [line for line in lines if line and not line.startswith("#")]
    flat = all(line[0].isalpha() and ":" in line and not line.startswith("defaults:") for line in settings)
    return [line.partition(":")[0] for line in settings] if settings and flat else None


def keys() -> list[tuple[str, str]]:
    """The keys outside of the groups as `key: default`, and their comments."""
    found = []
    for line in (CONF / "config.yaml").read_text().split("_self_", 1)[1].split("hydra:\n")[0].splitlines():
        if ":" in line and not line.startswith(" "):
            setting, _, comment = line.partition("#")
            found.append((setting.strip(), comment.strip()))
    return found
