"""Record small arrays of transformer calls for figures. Recording never changes a value of the call.

This module does not import torch before something is recorded, so that an `Observation` costs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sega.errors import RequestError
from sega.methods.types import Rope, Step

if TYPE_CHECKING:
    from torch import Size, Tensor

    from sega.models.base import Adapter

DETAILS = ("profiles", "magnitudes", "tokens", "latent", "spectrum", "attention")


@dataclass(frozen=True)
class Observation:
    """What to record of a generation besides its image. Raises RequestError for an unknown name in `record`."""

    record: tuple[str, ...] = ()
    """What the records of `steps` hold besides the usual; any of DETAILS."""
    query: tuple[float, float] = (0.5, 0.5)
    """Place (x, y) of the token whose attention is recorded, as fractions of the image."""
    exact_time: bool = False
    """Whether a method sees the sigma of the scheduler, not the one that the transformer receives in its dtype."""

    def __post_init__(self) -> None:
        for item in self.record:
            if item not in DETAILS:
                raise RequestError(f"record={item!r} is unknown; it can be any of {', '.join(DETAILS)}")


class Recorder:
    """Keeps in each Step what an Observation asks for."""

    def __init__(self, observation: Observation, adapter: Adapter):
        self.record, self.adapter = observation.record, adapter
        self.watch = AttentionWatch(observation.query) if "attention" in self.record else None

    def begin(self) -> None:
        """A transformer call begins."""
        if self.watch is not None:
            self.watch.clear()

    def keep(self, step: Step, rope: Rope, call: dict[str, Any], out: Any) -> None:
        """Reduce a step to what is recorded of it, after its call with the positions `rope` gave `out`."""
        if "spectrum" in self.record:
            self._keep_spectra(step, call, out)
        for key, value in rope.details.items():
            if "profiles" in self.record or not _is_array(value):
                step.details[key] = value
        if "magnitudes" in self.record:
            step.details["magnitudes"] = (rope.height.magnitudes, rope.width.magnitudes)
        if self.watch is not None:
            step.details |= self.watch.found()
        if "latent" not in self.record:
            step.latent = None

    def _keep_spectra(self, step: Step, call: dict[str, Any], out: Any) -> None:
        """The spectra of the latent and of the clean prediction x - sigma v."""
        latent = self.adapter.latent(call, step.grid)
        clean = latent.float() - step.sigma * self.adapter.velocity(out, step.grid).float()
        step.details["spectrum"] = latent_spectrum(self.adapter.unpack(latent, step.grid))
        step.details["spectrum_clean"] = latent_spectrum(self.adapter.unpack(clean, step.grid))


def read(value: Any) -> Any:
    """A detail of a step as it is read: tensors on the CPU, and those of one number as the number."""
    import torch

    if isinstance(value, tuple):
        return tuple(read(item) for item in value)
    if isinstance(value, torch.Tensor):
        return value.cpu() if value.dim() else value.item()
    return value


def _is_array(value: Any) -> bool:
    """Whether a detail is a tensor of more than one number."""
    import torch

    return isinstance(value, torch.Tensor) and value.dim() > 0


def latent_spectrum(latent: Tensor) -> Tensor:
    """Power of a latent [B, C, h, w] by radial frequency, float32 [max(h, w) // 2 + 1] on the CPU.

    |FFT|^2 / (h w), so that white noise of variance 1 gives 1 in every ring; mean over samples, channels and the lines
    of a ring. Ring k holds the lines nearest to k cycles over the longer side; corners beyond the last ring are left
    out.
    """
    import torch

    height, width = latent.shape[-2:]
    side = max(height, width)
    power = torch.fft.fft2(latent.detach().float().cpu()).abs().square().mean(dim=(0, 1)) / (height * width)
    fy, fx = torch.fft.fftfreq(height, dtype=torch.float64), torch.fft.fftfreq(width, dtype=torch.float64)
    ring = (torch.hypot(fy[:, None], fx[None]) * side + 0.5).floor().long()
    inside = ring <= side // 2
    count = torch.bincount(ring[inside], minlength=side // 2 + 1)
    return torch.zeros(side // 2 + 1).index_add_(0, ring[inside], power[inside]) / count.clamp(min=1)


class AttentionWatch:
    """The attention of one image token in the layers of one call, where a layer attends densely."""

    def __init__(self, query: tuple[float, float]):
        """`query` is a place (x, y) as fractions of the image."""
        self.query = query
        self.clear()

    def clear(self) -> None:
        """Forget the last call."""
        self.total: Tensor | None = None  # [H, W], sum over layers
        self.distance: list[float] = []
        self.text: list[float] = []

    def token(self, grid: tuple[int, int]) -> tuple[int, int]:
        """Row and column of the query."""
        (height, width), (x, y) = grid, self.query
        return min(int(y * height), height - 1), min(int(x * width), width - 1)

    def see(
        self, joint: Size, text: int, grid: tuple[int, int], q: Tensor, k: Tensor, scale: float | None = None
    ) -> None:
        """Add one layer from its rotated q and k [B, S, heads, d]; ignored where they are not the joint sequence.

        That has the shape `joint`: `text` tokens of text, then those of the image `grid`.
        """
        import torch

        if q.shape != joint or k.shape[1] != q.shape[1]:
            return
        height, width = grid
        row, column = self.token(grid)
        place, scale = text + row * width + column, q.shape[-1] ** -0.5 if scale is None else scale
        weights = torch.zeros(k.shape[1], device=k.device)
        for sample in range(len(q)):
            for head in range(q.shape[2]):  # one head at a time, so that large images need no copy of k
                logits = k[sample, :, head].float() @ (q[sample, place, head].float() * scale)
                weights += logits.softmax(0)
        weights = (weights / (len(q) * q.shape[2])).cpu()
        image = weights[text : text + height * width].reshape(height, width)
        rows, columns = torch.arange(height)[:, None] - row, torch.arange(width)[None] - column
        away = torch.hypot(rows.float(), columns.float())
        self.distance.append(float((image * away).sum() / image.sum()))
        self.text.append(float(weights[:text].sum()))
        self.total = image if self.total is None else self.total + image

    def found(self) -> dict[str, Any]:
        """`attention` [H, W], mean over heads and layers; for each layer the mean distance in tokens of what the query
        attends to in the image, and the share that goes to the text. Nothing where no layer attends densely."""
        if self.total is None:
            return {}
        return {
            "query": self.token((self.total.shape[0], self.total.shape[1])),
            "attention": self.total / len(self.distance),
            "attention_distance": self.distance,
            "attention_text": self.text,
        }
