"""Store base stages: one record for each prompt and seed, shared by every method that starts from it.

`<store>/<model>/base/<W>x<H>/<hash>/<prompt id>-<seed>.safetensors` holds the final latent and the clean prediction
at each time, `base.json` beside it what determines them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired, Protocol, TypedDict

from sega.store import tensors
from sega.store.claims import LEASE, Claim, Claims
from sega.store.files import atomic, digest, read_record
from sega.store.names import prompt_id, text_sha

if TYPE_CHECKING:
    from torch import Tensor


class BaseStage(Protocol):
    """The attributes of a stage that the store uses; `sega.methods.types.Stage` has them."""

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in px."""
        ...

    def identity(self) -> dict[str, Any]:
        """All values that determine the pixels of the stage, as plain values."""
        ...


class Base(TypedDict):
    """A base stage that is done."""

    latent: Tensor  # [1, C, h, w], at the end of the stage
    predictions: dict[float, Tensor]  # sigma -> clean prediction [1, C, h, w]
    seconds: float
    calls: int  # of the transformer
    full_calls: NotRequired[float]  # `calls`, each as the share of its operations that ran


class BaseFolder:
    """Base stages of one model in one store. `common` is what determines their pixels besides the stage itself."""

    def __init__(
        self,
        store: str | Path,
        model: str,
        common: dict[str, Any],
        warn: Callable[[str], None] = print,
        lease: float = LEASE,
    ):
        self.root, self.common, self.warn, self.lease = Path(store) / model / "base", common, warn, lease
        self._claims: dict[Path, Claims] = {}

    def path(self, stage: BaseStage, prompt: str, seed: int) -> Path:
        identity = self.common | {"stage": stage.identity()}
        folder = self.root / f"{stage.size[0]}x{stage.size[1]}" / digest(identity)
        if folder not in self._claims:
            self._claims[folder] = Claims(folder, self.lease)
            self._describe(folder, identity)
        return folder / f"{prompt_id(prompt)}-{seed}.safetensors"

    def _describe(self, folder: Path, identity: dict[str, Any]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        record = folder / "base.json"
        there = read_record(record)
        if there is None or digest(there) != folder.name:
            with self._claims[folder].hold(record.name, wait=True), atomic(record) as scratch:
                scratch.write_text(json.dumps(identity, indent=2) + "\n")

    def load(self, stage: BaseStage, prompt: str, seed: int) -> Base | None:
        """Load what `save` stored, or None. A damaged file is reported and treated as missing."""
        path = self.path(stage, prompt, seed)
        try:
            found, about = tensors.read(path)
            if about["prompt_sha"] != text_sha(prompt):
                return None
            times, cost = json.loads(about["sigmas"]), json.loads(about["cost"])
            predictions = {sigma: found["predictions"][i : i + 1] for i, sigma in enumerate(times)}
            full = cost.get("full_calls", cost["calls"])  # older bases had no caches
            seconds, calls = cost["seconds"], cost["calls"]
            return Base(latent=found["latent"], predictions=predictions, seconds=seconds, calls=calls, full_calls=full)
        except FileNotFoundError:
            return None
        except (tensors.DamagedError, KeyError, ValueError, TypeError) as error:
            self.warn(f"{path} is damaged ({error}); made again")
            return None

    def save(self, stage: BaseStage, prompt: str, seed: int, base: Base) -> None:
        import torch

        path = self.path(stage, prompt, seed)
        stacked = {"latent": base["latent"], "predictions": torch.cat(list(base["predictions"].values()))}
        about = {
            "prompt_sha": text_sha(prompt),
            "sigmas": json.dumps(list(base["predictions"])),
            "cost": json.dumps({key: base[key] for key in ("seconds", "calls", "full_calls") if key in base}),
        }
        tensors.write(path, stacked, about)

    def claim(self, stage: BaseStage, prompt: str, seed: int) -> AbstractContextManager[Claim | None]:
        """Hold one base against other workers while it is made."""
        path = self.path(stage, prompt, seed)
        return self._claims[path.parent].hold(path.name, wait=True)

    def settle(self) -> None:
        """Remove the leftovers of dead workers."""
        for claims in self._claims.values():
            claims.sweep()
