"""The attention processors that stand in for the model's own while the transformer runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor

from sega.compat import attention_backend
from sega.engine.recorder import AttentionWatch
from sega.engine.running import RunningCall
from sega.methods.base import Attention
from sega.methods.types import AttentionCall, Rope
from sega.models.base import Adapter
from sega.models.parts import in_parts


class Processors:
    """Brings the attention layers of a transformer to the attention part of a method."""

    def __init__(
        self,
        adapter: Adapter,
        attention: Attention,
        watch: AttentionWatch | None,
        running: Callable[[], RunningCall],
    ):
        """`running` gives the call that is running. Raises RequestError for a processor whose work would be lost."""
        self.adapter, self.attention, self.watch, self.running = adapter, attention, watch, running
        self._made: dict[int, tuple[Any, Any]] = {}  # layer -> the model's processor and the one that stands in for it
        for layer, module in enumerate(adapter.attention_layers()):
            self._stand_in(layer, module)

    @contextmanager
    def installed(self) -> Iterator[None]:
        """All layers have their stand-ins; afterwards the processors they had."""
        with ExitStack() as undo:
            for layer, module in enumerate(self.adapter.attention_layers()):
                undo.callback(module.set_processor, module.processor)
                module.set_processor(self._stand_in(layer, module))
            yield

    def _stand_in(self, layer: int, module: Any) -> Any:
        """What stands in for the processor that the layer has now; others may have replaced it since the last call."""
        stock, made = self._made.get(layer, (None, None))
        if made is None or stock is not module.processor:
            stock = module.processor
            made = self.adapter.processor(self._attend(layer, stock), stock)
            self._made[layer] = (stock, made)
        return made

    def _attend(self, layer: int, stock: Any) -> Callable[..., Tensor]:
        """The attention of a layer, by the method."""
        layers = len(self.adapter.attention_layers())

        def attend(q: Tensor, k: Tensor, v: Tensor, table: Any, dispatch: Callable[..., Tensor]) -> Tensor:
            running = self.running()
            # Blocks may lie on other devices than the inputs.
            own_ids = self.adapter.ids(running.call).to(q.device)

            def rotate(x: Tensor, ids: Tensor = own_ids, rope: Rope | None = None) -> Tensor:
                if ids is own_ids and rope is None:
                    return in_parts(lambda part: self.adapter.rotate(part, table), x)
                # Not every `pos_embed` takes ids, so the model's own module is not asked, even where it would know.
                other = running.table(ids, rope)
                return in_parts(lambda part: self.adapter.rotate(part, other), x)

            def text_ids(place: tuple[int, int], size: tuple[int, int]) -> Tensor:
                return self.adapter.text_ids(running.call, place, size).to(q.device)

            def dense(
                q: Tensor, k: Tensor, v: Tensor, scale: float | None = None, mask: Tensor | None = None
            ) -> Tensor:
                # Without the call: one that holds a function that holds the call would live until garbage is collected.
                if self.watch is not None:
                    self.watch.see(joint, text, step.grid, q, k, scale)
                running.saved -= q.shape[0] * q.shape[1] * k.shape[1] // joint[0]
                # With a mask by torch's own choice of kernel: most of the others take none.
                backend = attention_backend(stock) if mask is None else "native"
                return dispatch(q, k, v, attn_mask=mask, scale=scale, backend=backend)

            joint, step = q.shape, running.step
            text = joint[1] - running.image_length
            running.saved += joint[1] ** 2  # less what `dense` computes
            call = AttentionCall(q, k, v, text, step.grid, layer, layers, step, own_ids, rotate, text_ids, dense)
            return self.attention.attend(call)

        return attend
