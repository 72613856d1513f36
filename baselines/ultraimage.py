"""UltraImage (thu-ml/DiT-Extrapolation): one stretched pair against repetition, sharper heads against blur.

Arithmetic first, then the method. Joint sequences are text first, then image; h is the entropy of a head, lambda the
factor on its logits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from baselines.staged import ProportionalAttention
from sega.errors import RequestError
from sega.geometry import Geometry
from sega.method import Axis, Method, Rope, base_axis, check_grid, check_sigma, uniform_axis
from sega.parts import Attention, Call, Point, Request, Stage

if TYPE_CHECKING:
    from torch import Tensor

    from baselines.imax import IMax
    from sega.method import Step
    from sega.sampling import Run

PAIRS = {"flux": (64, (9,)), "qwen": (83, (8, 9))}
"""Training side of the published model, and the pairs its code corrects."""

LARGEST = {"flux": (225 * 225, 6.0), "qwen": (256 * 256, 6.25)}
"""Image tokens at which the code was published, and its largest entropy there."""


def dominant_pairs(geometry: Geometry) -> tuple[int, ...]:
    """0-based indices of the pairs whose period matches the training side, the same on both axes.

    The published sets for the published models: {9} on FLUX (whose own training side is then 2048 px) and {8, 9} on
    Qwen-Image, where the second was found by looking at what still repeated. Any other geometry gets
    k* = argmin_i |T_i - N| with T_i = 2 pi theta^(2i/D) and N its training side in tokens.
    """
    family, dim = geometry.family, geometry.axes[1]
    side, pairs = PAIRS.get(family, (0, ()))
    if (dim, geometry.theta, geometry.train_tokens) == (56, 10000, side):
        return pairs
    distance = [abs(2 * math.pi * geometry.theta ** (2 * i / dim) - geometry.train_tokens) for i in range(dim // 2)]
    return (distance.index(min(distance)),)


def stretched(base: Tensor, pairs: tuple[int, ...], period: float) -> Tensor:
    """Frequencies [K] with `pairs` turning once in `period` tokens: 2 pi / period (paper: period = tokens of the
    axis; FLUX code: that over 0.85)."""
    frequencies = base.clone()
    frequencies[list(pairs)] = 2 * math.pi / period
    return frequencies


def interpolated(base: Tensor, pairs: tuple[int, ...], factor: float) -> Tensor:
    """Frequencies [K] with `pairs` divided by `factor` (Qwen-Image code: tokens of the axis * 16 / 1328)."""
    frequencies = base.clone()
    frequencies[list(pairs)] /= factor
    return frequencies


def attention_rows(q: Tensor, k: Tensor, block: int, budget_mb: float, scale: float | None = None) -> Iterator[Tensor]:
    """softmax(q k^T scale) of one head in row chunks, float32 [rows, S'], from the first row to the last.

    q and k are [S, d]. Rows and columns are padded with zero queries and keys to S', a multiple of `block`, as in the
    published kernel; `scale` is 1/sqrt(d) by default. A chunk holds whole blocks, as many as keep the logits and one
    copy of them below `budget_mb`, at least one; the S x S map never exists.
    """
    import torch.nn.functional as F

    length, dim = q.shape
    padding = -length % block
    k = F.pad(k.float(), (0, 0, 0, padding))
    step = block * max(1, int(budget_mb * 2**20 / (2 * 4 * block * len(k))))
    scale = dim**-0.5 if scale is None else scale
    for start in range(0, len(k), step):
        rows = q[start : start + step].float()
        rows = F.pad(rows, (0, 0, 0, min(step, len(k) - start) - len(rows)))
        yield (rows * scale @ k.T).softmax(dim=-1)


def block_attention(rows: Tensor, block: int) -> Tensor:
    """p_IJ = (1/block) sum_{i in I, j in J} P_ij of attention rows [r block, c block]; [r, c], rows sum to 1."""
    return rows.unflatten(1, (-1, block)).sum(-1).unflatten(0, (-1, block)).mean(1)


def head_entropies(q: Tensor, k: Tensor, block: int, kind: str = "block", budget_mb: float = 256.0) -> Tensor:
    """Entropy of each head, float32 [heads], from rotated queries and keys [heads, S, d] of the joint sequence.

    "block" (the code): h_I = -sum_J p_IJ ln p_IJ over blocks of `block` tokens, mean over I. "token" (the paper): the
    same with single tokens, unpadded.
    """
    import torch

    size = block if kind == "block" else 1
    return torch.stack([_entropies(*head, size, budget_mb).mean() for head in zip(q, k, strict=True)])


def block_entropies(q: Tensor, k: Tensor, block: int, budget_mb: float = 256.0) -> Tensor:
    """h_I of each block of rows, float32 [heads, ceil(S / block)]; arguments as in `head_entropies`."""
    import torch

    return torch.stack([_entropies(*head, block, budget_mb) for head in zip(q, k, strict=True)])


def _entropies(q: Tensor, k: Tensor, block: int, budget_mb: float) -> Tensor:
    import torch

    parts = []
    for rows in attention_rows(q, k, block, budget_mb):
        p = block_attention(rows, block) if block > 1 else rows
        parts.append(-torch.special.xlogy(p, p).sum(-1))
    return torch.cat(parts)


def focus_factor(
    entropy: Tensor,
    low: float,
    high: float,
    h_min: float | Tensor,
    h_max: float | Tensor,
    power: float = 2.0,
    clip: bool = True,
) -> Tensor:
    """lambda = low + (high - low) (1 - (h - h_min)/(h_max - h_min))^power, elementwise.

    `clip` keeps the fraction in [0, 1]; the code does not, so that with power 2 an entropy above h_max raises lambda
    again.
    """
    import torch

    fraction = (entropy - h_min) / torch.as_tensor(h_max - h_min).clamp(min=1e-12)
    return low + (high - low) * (1 - (fraction.clamp(0, 1) if clip else fraction)) ** power


class Focus(Attention):
    """Measures the entropy of every head in one pass before the first step, then sharpens each by its own factor.

    Factors belong to one image and one branch of classifier-free guidance.
    """

    def __init__(self, method: UltraImage):
        self.method, self.proportional = method, ProportionalAttention(method.geometry)
        self.entropies: dict[str, list[Tensor]] = {}  # branch -> per layer [B, heads]
        self.factors: dict[str, list[Tensor]] = {}

    def rehearse(self, step: Step) -> bool:
        if not self.method.beyond(step.grid):
            return False
        if step.index == 0:
            self.entropies[step.branch] = []
            self.factors.pop(step.branch, None)
        return step.index == 0

    def factor(self, call: Call) -> Tensor | None:
        if not self.method.beyond(call.grid):
            return None
        branch = call.step.branch
        if branch not in self.factors:
            self.factors[branch] = self.method.factors(self.entropies[branch], call.grid, call.q.shape[1])
        factor = self.factors[branch][call.layer]
        return factor * self.proportional.factor(call) if self.method.proportional_attention else factor

    def attend(self, call: Call) -> Tensor:
        if "rehearsal" not in call.step.details:
            return super().attend(call)
        import torch

        q, k = call.rotate(call.q), call.rotate(call.k)
        samples = zip(q.transpose(1, 2), k.transpose(1, 2), strict=True)
        method = self.method
        heads = [head_entropies(*sample, method.block, method.entropy, method.memory_mb) for sample in samples]
        self.entropies[call.step.branch].append(torch.stack(heads))
        return call.dense(q, k, call.v)


@dataclass(frozen=True)
class UltraImage(Method):
    """Dominant frequency correction and entropy-guided focus.

    Positions. `pairs` (default: `dominant_pairs`) of both axes turn slower; all others keep the base. `correction`:
    "code" is margin * 2 pi / n on FLUX and base * N0 / n on Qwen-Image, n the tokens of the axis and N0 those of the
    training side; "paper" is 2 pi / n on both; "none" leaves the frequencies alone. An axis no longer than N0 keeps
    the base (the code of Qwen-Image would raise its frequencies), and on FLUX so does an image of no more than N0^2
    tokens in all.

    Attention. With `focus` the logits of each head are multiplied by `focus_factor` of its entropy in one measuring
    pass at the first step, separately for the passes of classifier-free guidance. `constants` "code": lambda from
    `lambda_min` 1.1 on FLUX, 1.0 on Qwen-Image to `lambda_max` 1.3, h from `h_min` 0.44 or 0.04 to `h_max`, which is
    the code's 6.0 or 6.25 at the sizes it was made for and ln(number of blocks) elsewhere; "paper": lambda from 1.0,
    h between the extremes found over all heads. `entropy` is that of blocks (code) or of tokens (paper). `block`
    is 128 tokens at FLUX's training length of 4608 and in proportion elsewhere, so that the number of blocks, and
    with it the range of h, is the same for all models.

    `mode` "direct" is one stage of fresh noise at the target with a static `shift`, 30 steps and guidance 7 on FLUX;
    "auto" steps and guidance are those of the run on Qwen-Image, "run" makes them so on FLUX. "guided" is the
    published FLUX run: I-Max's two stages with cosine_decay and shifted windows, without copies of the text, with
    these positions in place of clipped NTK; `base_steps`, `base_guidance` and `base_shift` are those of its first
    stage. `proportional_attention` (null: only in guided mode without focus, as in the code) multiplies all logits.
    """

    mode: str = "direct"
    schedule: str = "own"
    shift: float = 6.0
    steps: int | str = "auto"
    guidance: float | str = "auto"
    correction: str = "code"
    margin: float = 0.85
    pairs: tuple[int, ...] | None = None
    focus: bool = True
    constants: str = "code"
    lambda_min: float | None = None
    lambda_max: float = 1.3
    h_min: float | None = None
    h_max: float | None = None
    power: float = 2.0
    entropy: str = "block"
    block: int | None = None
    memory_mb: float = 256.0
    proportional_attention: bool | None = None
    base_steps: int = 30
    base_guidance: float = 3.5
    base_shift: float = 3.0

    name: ClassVar[str] = "ultraimage"
    CHOICES: ClassVar[dict[str, tuple[str, ...]]] = {
        "mode": ("direct", "guided"),
        "schedule": ("own", "pinned", "stock"),
        "correction": ("code", "paper", "none"),
        "constants": ("code", "paper"),
        "entropy": ("block", "token"),
    }
    NUMBERS: ClassVar[dict[str, tuple[float, float]]] = {
        "shift": (0.01, math.inf),
        "margin": (0.01, 1),
        "lambda_min": (0.01, 100),
        "lambda_max": (0.01, 100),
        "h_min": (0, math.inf),
        "h_max": (0, math.inf),
        "power": (0.01, 100),
        "block": (1, math.inf),
        "memory_mb": (0, math.inf),
        "base_guidance": (0, math.inf),
        "base_shift": (0.01, math.inf),
    }
    OPTIONAL: ClassVar[tuple[str, ...]] = ("h_min", "h_max")
    FLAGS: ClassVar[tuple[str, ...]] = ("focus", "proportional_attention")

    def __post_init__(self) -> None:
        geometry, flux = self.geometry, self.geometry.family == "flux"
        code = self.constants == "code"
        native = geometry.train_tokens**2 + geometry.text_tokens
        defaults = {
            "pairs": dominant_pairs(geometry),
            "lambda_min": 1.1 if flux and code else 1.0,
            "h_min": (0.44 if flux else 0.04) if code else None,
            "block": max(1, round(128 * native / 4608)) if flux else 128,
            "proportional_attention": self.mode == "guided" and not self.focus,
        }
        for key, value in defaults.items():
            if getattr(self, key) is None:
                object.__setattr__(self, key, value)
        for key, own in {"steps": 30, "guidance": 7.0}.items():
            if getattr(self, key) == "auto":
                object.__setattr__(self, key, own if flux else "run")
        count, pairs = geometry.axes[1] // 2, self.pairs
        pairs = (pairs,) if isinstance(pairs, int) else tuple(pairs)
        if not all(isinstance(pair, int) and 0 <= pair < count for pair in pairs):
            raise RequestError(f"{self.name}: pairs={list(pairs)} must be whole numbers from 0 to {count - 1}")
        object.__setattr__(self, "pairs", pairs)
        super().__post_init__()
        for key in ("steps", "block", "base_steps"):
            value = getattr(self, key)
            if not (key == "steps" and value == "run") and not (isinstance(value, int) and value >= 1):
                raise RequestError(f"{self.name}: {key}={value} must be a whole number of at least 1")
        if self.guidance != "run" and not (isinstance(self.guidance, int | float) and self.guidance >= 0):
            raise RequestError(f"{self.name}: guidance={self.guidance} must be a number of at least 0, auto or run")

    @property
    def staged(self) -> bool:
        return self.mode == "guided"

    def beyond(self, grid: tuple[int, int]) -> bool:
        """Whether a grid is larger than the training size; the method does nothing where it isn't."""
        native = self.geometry.train_tokens
        return max(grid) > native if self.geometry.family == "qwen" else grid[0] * grid[1] > native**2

    def positions(self, grid: tuple[int, int], sigma: float = 1.0, tokens: Tensor | None = None) -> Rope:
        sides, _ = check_grid(grid), check_sigma(sigma)
        dims, beyond = self.geometry.axes[1:], self.beyond(sides)
        return self.rope(
            *(
                self.axis(dim, side, sigma) if beyond else base_axis(dim, self.geometry.theta)
                for dim, side in zip(dims, sides, strict=True)
            )
        )

    def stretch(self, dim: int, scale: float, sigma: float) -> Axis:
        base, length = base_axis(dim, self.geometry.theta), round(scale * self.geometry.train_tokens)
        if self.correction == "none":
            return base
        if self.correction == "paper":
            return uniform_axis(stretched(base.frequencies, self.pairs, length))
        if self.geometry.family == "qwen":
            return uniform_axis(interpolated(base.frequencies, self.pairs, scale))
        return uniform_axis(stretched(base.frequencies, self.pairs, length / self.margin))

    def factors(self, entropies: list[Tensor], grid: tuple[int, int], length: int) -> list[Tensor]:
        """Factors [B, heads] of every layer from the entropies [B, heads] of all layers."""
        import torch

        all_heads = torch.stack(entropies)  # [layers, B, heads]
        h_min, h_max = self.h_min, self.h_max
        if h_min is None:
            h_min = all_heads.amin(dim=(0, 2), keepdim=True)
        if h_max is None:
            largest = all_heads.amax(dim=(0, 2), keepdim=True)
            h_max = largest if self.constants == "paper" else self.largest_entropy(grid, length)
        return list(focus_factor(all_heads, self.lambda_min, self.lambda_max, h_min, h_max, self.power))

    def largest_entropy(self, grid: tuple[int, int], length: int) -> float:
        """The code's h_max at the size it was published for, else ln of the number of blocks (or tokens) of a joint
        sequence of `length` tokens, which it comes close to there."""
        tokens, value = LARGEST.get(self.geometry.family, (0, 0.0))
        size = self.block if self.entropy == "block" else 1
        return value if (grid[0] * grid[1], size) == (tokens, 128) else math.log(math.ceil(length / size))

    def hand_schedule(self, beyond: bool) -> str | float:
        if self.schedule != "own":
            return self.schedule
        flux = self.geometry.family == "flux"
        return (self.shift if beyond else "pinned") if flux else "stock"

    def guided(self, request: Request) -> IMax:
        """I-Max's stages and flow with the parameters of this method."""
        from baselines.imax import IMax

        steps, guidance = self.steps_and_guidance(request)
        return IMax(
            self.geometry, schedule=self.schedule, base_steps=self.base_steps, base_guidance=self.base_guidance,
            base_shift=self.base_shift, steps=steps, guidance=guidance, shift=self.shift, projection="cosine_decay",
            text_duplication=False, shift_windows=True,
        )  # fmt: skip

    def steps_and_guidance(self, request: Request) -> tuple[int, float]:
        return (
            request.steps if self.steps == "run" else self.steps,
            request.guidance if self.guidance == "run" else self.guidance,
        )

    def stages(self, request: Request) -> list[Stage]:
        if self.staged:
            return self.guided(request).stages(request)
        beyond = self.beyond(tuple(side // self.geometry.token_pixels for side in reversed(request.size)))
        steps, guidance = self.steps_and_guidance(request) if beyond else (request.steps, request.guidance)
        return [Stage(request.size, steps, guidance, self.hand_schedule(beyond))]

    def attention(self, index: int, run: Run | None) -> Attention | None:
        if self.focus:
            return Focus(self)
        return ProportionalAttention(self.geometry) if self.proportional_attention else None

    def flow(self, index: int, run: Run) -> Callable[[Point], Tensor] | None:
        return self.guided(run.request).flow(index, run) if self.staged else None
