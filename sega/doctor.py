"""`sega-bench doctor`: report what is installed, which devices there are, and what is missing for which purpose."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from functools import partial
from importlib import metadata
from pathlib import Path

from sega.errors import answer
from sega.home import CLONE, CONF

GENERATING = ("torch", "diffusers", "transformers", "accelerate", "safetensors", "hydra-core", "omegaconf")
OPTIONAL = {
    "eval": ("torchmetrics", "torchvision", "torch-fidelity", "open_clip_torch", "pyiqa", "timm", "matplotlib"),
    "track": ("wandb",),
    "cluster": ("hydra-joblib-launcher", "hydra-submitit-launcher"),
}
"""Packages of each extra, by the names they are installed by."""
HELP = """\
sega-bench doctor [store=results/runs]

Prints versions, devices, missing packages, and where weights are. Exit status 0 where images can be generated.
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
    missing = [name for name in GENERATING if version(name) is None]
    for name in GENERATING:
        print(f"{name:<13} {version(name) or 'MISSING: pip install sega-bench'}")
    for extra, names in OPTIONAL.items():
        lacking = [name for name in names if version(name) is None]
        mend = f"lacks {', '.join(lacking)}: pip install 'sega-bench[{extra}]'"
        print(f"[{extra}]".ljust(14) + (mend if lacking else "complete"))
    if "torch" not in missing:
        for line in devices():
            print(line)
    for line in weights():
        print(line)
    sound, line = store(place)
    print(line)
    return 0 if sound and not missing else 1


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


def store(path: Path) -> tuple[bool, str]:
    """Whether images can be written to a store, and a line that says so."""
    there = next(folder for folder in (path.resolve(), *path.resolve().parents) if folder.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            return True, f"store         {path} can be written"
    except OSError as error:
        return False, f"store         {path} can't be written: {error.strerror}; give store=<folder>"
