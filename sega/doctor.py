"""`sega-bench doctor`: report what is installed, which devices there are, and what is missing for which purpose."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
import tomllib
from functools import partial
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from sega.errors import answer
from sega.home import CLONE, CONF

EXTRAS = ("eval", "upscale", "lite0", "track", "search", "cluster")
HELP = """\
sega-bench doctor [store=results/runs]

Prints versions, devices, missing packages, where weights are, and which model and size fits on which card with which
model.memory. Exit status 0 where images can be generated.
"""


def main(words: list[str]) -> int:
    """Run the command line; returns the exit status."""
    options = dict(word.partition("=")[::2] for word in words)
    if {"-h", "--help", "help"} & set(words) or set(options) - {"store"}:
        print(HELP)
        return 0 if {"-h", "--help", "help"} & set(words) else 2
    return answer("sega-bench doctor", partial(_report, Path(options.get("store", "results/runs"))))


def _report(place: Path) -> int:
    print(f"sega-bench    {version('sega-bench') or 'not installed'}, {f'clone {CLONE}' if CLONE else 'wheel'}")
    print(f"python        {platform.python_version()}, {sys.executable}")
    print(f"configuration {CONF}")
    needed = requirements()
    wrong = [name for name, allowed in needed[""].items() if problem(name, allowed)]
    for name, allowed in needed[""].items():
        print(f"{name:<13} {problem(name, allowed) or version(name)}")
    if wrong:
        print("              pip install sega-bench")
    for extra in EXTRAS:
        lacking = [f"{name} ({what})" for name, allowed in needed[extra].items() if (what := problem(name, allowed))]
        mend = f"pip install 'sega-bench[{extra}]': {', '.join(lacking)}"
        print(f"[{extra}]".ljust(14) + (mend if lacking else "complete"))
    if version("torch"):
        for line in devices():
            print(line)
    for line in weights():
        print(line)
    for line in fits():
        print(line)
    sound, line = store(place)
    print(line)
    return 0 if sound and not wrong else 1


def requirements() -> dict[str, dict[str, SpecifierSet]]:
    """The versions of each package that are allowed, by extra, "" for what every use needs.

    Those of pyproject.toml in a clone, whose installation may be an older one; else those of the wheel.
    """
    if CLONE:
        project = tomllib.loads((CLONE / "pyproject.toml").read_text())["project"]
        lines = {"": project["dependencies"], **project["optional-dependencies"]}
        found = {extra: [Requirement(line) for line in lines[extra]] for extra in ("", *EXTRAS)}
    else:
        every = [Requirement(line) for line in metadata.requires("sega-bench") or ()]
        found = {"": [item for item in every if item.marker is None]}
        for extra in EXTRAS:
            found[extra] = [item for item in every if item.marker and item.marker.evaluate({"extra": extra})]
    return {extra: {item.name: item.specifier for item in items} for extra, items in found.items()}


def problem(name: str, allowed: SpecifierSet) -> str:
    """Why a package can't be used, "" where it can."""
    installed = version(name)
    if installed is None:
        return "missing"
    return "" if allowed.contains(installed, prereleases=True) else f"{installed}, needs {allowed}"


def version(name: str) -> str | None:
    """The version of an installed package; None without it."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def devices() -> list[str]:
    """A line for each GPU, and one for the CPU."""
    import torch

    found = []
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        free, total = torch.cuda.mem_get_info(index)
        name = torch.cuda.get_device_name(index)
        found.append(f"cuda:{index}        {name}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free")
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return [*(found or ["cuda          none"]), f"cpu           {os.cpu_count()} cores, {pages:.0f} GiB"]


def weights() -> list[str]:
    """A line for each model: where its weights are, or that they are not here."""
    from sega.errors import RequestError
    from sega.loading.known import model_config
    from sega.loading.weights import find_weights
    from sega.methods.geometry import models

    found = []
    for name in models():
        try:
            place = str(find_weights(model_config(name) | {"download": False}).folder)
        except RequestError:
            place = "not here; give model.path=<folder>, or model.download=true"
        found.append(f"model={name}".ljust(20) + place)
    return found


def fits() -> list[str]:
    """A table of what fits on common cards and on the GPUs here, by the memory plan."""
    from sega.loading.fits import CARDS, table
    from sega.loading.memory import GB

    cards = {f"{card} GB": float(card) for card in CARDS} | {name: free / GB for name, free in gpus().items()}
    about = "model.memory and its GB on a card, for one image, by the plan (model.quantize=8bit|4bit takes less):"
    return [f"what fits     {about}", *table(cards)]


def gpus() -> dict[str, float]:
    """Free bytes of each GPU by its name, such as cuda:0."""
    if not version("torch"):
        return {}
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return {f"cuda:{index}": float(torch.cuda.mem_get_info(index)[0]) for index in range(count)}


def store(path: Path) -> tuple[bool, str]:
    """Whether images can be written to a store, and a line that says so."""
    there = next(folder for folder in (path.resolve(), *path.resolve().parents) if folder.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            return True, f"store         {path} can be written"
    except OSError as error:
        return False, f"store         {path} can't be written: {error.strerror}; give store=<folder>"
