"""Windows alone: what an attention pattern does by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from sega.formulas.work import Attended, dense
from sega.methods.base import Attention
from sega.methods.borrowed import Borrowing
from sega.methods.parameters import choice, count, flag, number
from sega.methods.types import AttentionCall, Step

from .kernels.flex import attend_flex, block_mask
from .kernels.tile_cost import tiles_attended, window_axis
from .kernels.tiled import attend_call, paste
from .kernels.windows import Rule, Shifts, windows

if TYPE_CHECKING:
    from torch import Tensor

    from sega.methods.types import Generation


class Windowed(Attention):
    """Image tokens attend to the text and to the window they are in."""

    def __init__(self, method: Window, shifts: Shifts):
        self.method, self.shifts = method, shifts
        self.mask: tuple[Any, Any] = (None, None)  # FlexAttention's, of one step

    def attend(self, call: AttentionCall) -> Tensor:
        method, grid = self.method, call.grid
        if max(grid) <= method.side:
            return super().attend(call)
        shift = self.shifts.of(call.step.index, method.side) if method.shift else (0, 0)
        tiles = windows(grid, method.side, shift, method.halo)
        q, k = call.rotate(call.q), call.rotate(call.k)
        if method.backend == "flex":
            drawn = (shift, grid, call.text, q.shape[1])
            if self.mask[0] != drawn:
                self.mask = drawn, block_mask(Rule(tiles, grid, call.text, device=q.device), q.shape[1], q.device)
            return attend_flex(q, k, call.v, self.mask[1])
        own = method.ids == "own"
        outputs = attend_call(call, q, k, tiles, own=own, others_ask=own, budget_mb=method.memory_mb)
        image, others = paste(outputs, grid, call.image(call.v))
        return call.join(others if own else call.dense(call.others(q), k, call.v), image)


@dataclass(frozen=True)
class Window(Borrowing):
    """Every image token attends to the text and to the tokens of its window; positions are the model's own.

    A control, no published method: it shows what attention patterns do without a change of positions. Windows lie side
    by side and cover the grid; `shift` moves their borders from step to step, the same in all layers of a step.

    `ids` "global": the position ids of the whole image; text keeps its place and attends to everything. "own": each
    window is numbered as an image of its size, its text with it; text outputs are the mean over windows.
    """

    side: int | None = count(None, doc="tokens of a window; null: the training side (FLUX: 64)")
    halo: int = count(0, low=0, doc="tokens that the keys of a window reach beyond it on each side")
    shift: bool = flag(True, doc="window borders move from step to step, by the seed of the image")
    ids: str = choice("global", "global", "own", doc="global: of the whole image; own: of each window, as if alone")
    backend: str = choice(
        "tiles", "tiles", "flex", doc="tiles: plain kernels on copies of the windows; flex: FlexAttention, ids=global"
    )
    memory_mb: float = number(1024.0, low=0, doc="of the copies of queries, keys, values and outputs made at a time")

    name: ClassVar[str] = "window"

    def settle(self) -> dict[str, Any]:
        return {"side": self.geometry.train_tokens}

    def check(self) -> None:
        from sega.errors import RequestError

        if self.backend == "flex" and self.ids != "global":
            raise RequestError("window: backend=flex has one place for the text; use ids=global or backend=tiles")

    def attended(self, step: Step, text: int, gpu: bool = False) -> Attended:
        if max(step.grid) <= self.side:
            return super().attended(step, text, gpu)
        own, length = self.ids == "own", step.grid[0] * step.grid[1] + text
        found = tiles_attended(
            *(window_axis(side, self.side, self.halo, self.shift) for side in step.grid), text, ask=own, own=own
        )
        if self.backend == "flex":
            return Attended(0, vectors=4 * length, flex=found.pairs + text * length)
        return found if own else found + dense(text, length)

    def attention(self, index: int, generation: Generation | None) -> Attention:
        return Windowed(self, Shifts(None if generation is None else generation.generator))
