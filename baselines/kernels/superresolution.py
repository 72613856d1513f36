"""Super-resolution networks: a file through spandrel, and an image through a network, tile by tile."""

from __future__ import annotations

import math
import pickle
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sega.errors import RequestError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

OVERLAP = 64  # px of the input that two tiles share at least
UNUSED = 24  # px at a border inside the image, whose surroundings a tile lacks, that are dropped
FADE = OVERLAP - 2 * UNUSED  # px over which a tile fades into the next


def load_network(path: Path, device: torch.device) -> Any:
    """The network of a file, as spandrel describes it, on a device; the last one stays loaded.

    Raises RequestError for what spandrel can't read, and for a network that doesn't enlarge RGB.
    """
    stat = path.stat()
    return _loaded(path, stat.st_size, stat.st_mtime_ns, device)


@lru_cache(maxsize=1)
def _loaded(path: Path, size: int, time: int, device: torch.device) -> Any:
    from safetensors import SafetensorError
    from spandrel import MAIN_REGISTRY, ArchSupport, ModelLoader, UnsupportedModelError

    from .rdn import RDNArch

    registry = MAIN_REGISTRY.copy()
    registry.add(ArchSupport.from_architecture(RDNArch()))
    try:
        network = ModelLoader(registry=registry).load_from_file(path)
    except UnsupportedModelError as error:
        raise RequestError(f"{path} holds no network that spandrel knows") from error
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise RequestError(f"{path} can't be read: {str(error).splitlines()[0] or type(error).__name__}") from error
    kind, into, out = network.architecture.name, network.input_channels, network.output_channels
    if network.purpose != "SR" or network.scale < 2 or (into, out) != (3, 3):
        what = f"{kind} for {network.purpose}, {into} to {out} channels, {network.scale}x"
        raise RequestError(f"{path} holds {what}; upsample needs super-resolution of RGB images, 2x or more")
    return network.to(device).eval()


def enlarge(network: Any, image: Tensor, tile: int | None) -> Tensor:
    """An image [1, 3, H, W] in 0..1, float32, at `network.scale` times its size.

    Tiles have `tile` px of the input on an axis that is longer; None: the whole image at once. They are equally long,
    share `OVERLAP` px or more, and fade linearly into each other in the middle of it, so that no pixel is taken that is
    nearer than `UNUSED` px to a border where its tile ends and the image does not.
    """
    import torch

    rows, columns = (spans(side, tile) for side in image.shape[-2:])
    scale, (height, width) = network.scale, image.shape[-2:]
    total = image.new_zeros(1, 3, height * scale, width * scale)
    weight = image.new_zeros(height * scale, width * scale)
    exact = torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)
    with torch.no_grad(), exact, torch.random.fork_rng([image.device] if image.is_cuda else []):
        torch.manual_seed(0)  # some networks draw noise
        for top, bottom in rows:
            for left, right in columns:
                part = network(image[..., top:bottom, left:right])
                down, across = (
                    ramp(first, last, side, scale).to(image)
                    for first, last, side in ((top, bottom, height), (left, right, width))
                )
                share = down[:, None] * across
                place = (..., slice(top * scale, bottom * scale), slice(left * scale, right * scale))
                total[place] += part * share
                weight[place] += share
    return total / weight


def spans(side: int, tile: int | None) -> list[tuple[int, int]]:
    """First px and the one after the last of the tiles on an axis of `side` px."""
    if tile is None or tile >= side:
        return [(0, side)]
    n = math.ceil((side - OVERLAP) / (tile - OVERLAP))
    starts = [round(i * (side - tile) / (n - 1)) for i in range(n)]
    return [(start, start + tile) for start in starts]


def ramp(first: int, last: int, side: int, scale: int) -> Tensor:
    """Weights in 0..1 of the px `first`..`last` - 1 of an axis, each `scale` times, float64."""
    import torch

    at = first + (torch.arange((last - first) * scale, dtype=torch.float64) + 0.5) / scale
    weight = torch.ones_like(at)
    if first > 0:
        weight *= ((at - first - UNUSED) / FADE).clamp(0, 1)
    if last < side:
        weight *= ((last - at - UNUSED) / FADE).clamp(0, 1)
    return weight
