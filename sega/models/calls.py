"""What adapters share about the arguments of a transformer call: dividing a batch, and what has to be refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from sega.compat import tensor_version
from sega.errors import RequestError


def shared_sigma(sigmas: Tensor) -> float:
    """The sigma [B] that all samples of a call share, within [0, 1], or NaN.

    It is the one value that a call waits for, before anything of the call is queued on a GPU.
    """
    first, *others = sigmas.float().cpu().tolist()
    if any(str(other) != str(first) for other in others):  # as text, since NaN differs from itself
        raise RequestError("the samples of a batch must share their time; call the transformer once per time")
    return min(max(first, 0.0), 1.0)


class Remembered:
    """A function of tensors that gives its last result again while the very same tensors come in, unchanged.

    A pipeline hands the same position ids to all of its calls, and what is read from them would be waited for.
    """

    def __init__(self, function: Callable[..., Any]):
        self.function = function
        self.seen: list[tuple[Tensor, int]] = []
        self.result: Any = None

    def __call__(self, *tensors: Tensor) -> Any:
        now = [(x, tensor_version(x)) for x in tensors]
        same = len(now) == len(self.seen) and all(
            x is y and changes == before for (x, changes), (y, before) in zip(now, self.seen, strict=True)
        )
        if not same:
            self.seen, self.result = now, self.function(*tensors)
        return self.result


def one_sample(value: Any, index: int, batch: int) -> Any:
    """An argument of a batch as that of one sample; unchanged where it has no entry for each sample."""
    if isinstance(value, list | tuple):
        return [one_sample(item, index, batch) for item in value]
    return value[index : index + 1] if value is not None and value.dim() and len(value) == batch else value


def check_processor(stock: Any, *carried: type) -> None:
    """Refuse an attention processor whose work is not known here, so that it is not dropped in silence."""
    if type(stock) not in carried:
        raise RequestError(
            f"attention goes through {type(stock).__name__} here, whose work would be lost where a method changes "
            "attention or record=attention watches it; restore the model's own processors, or use a method that "
            "changes positions only"
        )


def check_shared(options: dict[str, Any] | None, name: str) -> None:
    """Refuse tensors among the options of attention where a batch runs one sample at a time.

    Nothing says whether such a tensor belongs to all samples or holds one entry for each.
    """
    for key, value in (options or {}).items():
        if _holds_tensor(value):
            raise RequestError(
                f"{name}[{key!r}] holds tensors, which can't be divided over a batch; give one prompt at a time"
            )


def _holds_tensor(value: Any) -> bool:
    if isinstance(value, dict):
        value = list(value.values())
    return isinstance(value, Tensor) or (isinstance(value, list | tuple) and any(map(_holds_tensor, value)))
