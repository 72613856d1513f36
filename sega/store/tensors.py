"""Tensors in safetensors files with a checksum, since their own format has none: a changed bit must not pass.

The sha256 of tensors and metadata stands in the metadata. Files of earlier versions have none and are read as they are.
"""

from __future__ import annotations

import errno
import hashlib
import json
from pathlib import Path
from typing import Any

from sega.store.files import atomic


class DamagedError(Exception):
    """A file that can't be read; the message says why."""


def write(path: Path, tensors: dict[str, Any], about: dict[str, str]) -> None:
    """Write CPU tensors by rename, with `about` as metadata. An OSError names the file."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with atomic(path) as scratch:
        try:
            save_file(tensors, scratch, metadata=about | {"sha256": _sha(tensors, about)})
        except SafetensorError as error:
            raise OSError(errno.EIO, str(error), str(path)) from error


def read(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Tensors and metadata. Raises DamagedError; FileNotFoundError where there is no file."""
    from safetensors import SafetensorError, safe_open

    if not path.exists():
        raise FileNotFoundError(errno.ENOENT, "No such file", str(path))
    try:
        with safe_open(path, "pt") as file:
            about = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
    except (SafetensorError, OSError) as error:
        raise DamagedError(str(error).splitlines()[0]) from error
    if about.pop("sha256", None) not in (None, _sha(tensors, about)):
        raise DamagedError("its checksum is another")
    return tensors, about


def about(path: Path) -> dict[str, str]:
    """The metadata of a file alone, without its tensors."""
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        return dict(file.metadata() or {})


def _sha(tensors: dict[str, Any], about: dict[str, str]) -> str:
    import torch

    total = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name in sorted(tensors):
        total.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)};".encode())
        total.update(tensors[name].reshape(-1).view(torch.uint8).numpy())
    return total.hexdigest()
