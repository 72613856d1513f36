"""Prompt embeddings kept on disk, so that a sweep encodes each sentence once and never holds encoders beside the model.

`<folder>/<digest>/<sha of the sentence>.safetensors`; the digest covers what the embedding depends on: the weights by
content or commit, their dtype, the length of the text. `encoder.json` beside the files says which.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sega.methods.families import family_named
from sega.methods.types import Stage
from sega.store import tensors
from sega.store.files import atomic, digest, locked, set_aside
from sega.store.names import text_sha

if TYPE_CHECKING:
    from sega.run.cell import Cell
    from sega.run.prompts import Prompt


class TextCache:
    """Embeddings of one model: `cache(sentence)` gives the pipeline's arguments for it."""

    def __init__(self, folder: str | Path, about: dict[str, Any]):
        self.about = about
        self.folder = Path(folder).expanduser() / digest(about)

    def path(self, sentence: str) -> Path:
        return self.folder / f"{text_sha(sentence)[:32]}.safetensors"

    def missing(self, sentences: Iterable[str]) -> list[str]:
        """Those that are not on disk, each once. A damaged file is set aside."""
        return [sentence for sentence in dict.fromkeys(sentences) if not self._is_intact(self.path(sentence))]

    def _is_intact(self, path: Path) -> bool:
        try:
            tensors.read(path)
        except FileNotFoundError:
            return False
        except tensors.DamagedError:
            set_aside(path, self.folder)
            return False
        return True

    def fill(self, sentences: list[str], encode: Callable[[str], dict[str, Any]]) -> None:
        """Encode these sentences one at a time, so that no embedding depends on its neighbours, and keep them."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with atomic(self.folder / "encoder.json") as scratch:
            scratch.write_text(json.dumps(self.about, indent=2) + "\n")
        for sentence in sentences:
            path = self.path(sentence)
            with locked(self.folder / ".locks" / path.name):
                if path.exists():
                    continue  # another worker was first
                tensors.write(path, encode(sentence), {"sentence": sentence})

    def __call__(self, sentence: str) -> dict[str, Any]:
        return tensors.read(self.path(sentence))[0]


def sentences(
    prompts: Iterable[str],
    stages: list[Stage],
    negative: str | None,
    guided: float | None,
    measured: tuple[str, ...] = (),
) -> list[str]:
    """Every sentence that images of these prompts need; the negative one where guidance above `guided` is by it.

    `measured` are those the method's measuring pass reads.
    """
    needed = [prompt + stage.suffix for prompt in prompts for stage in stages]
    unconditional = None not in (guided, negative) and any(stage.guidance > guided for stage in stages)
    return [*needed, *([negative] if unconditional else []), *measured]


def prepare(
    cell: Cell,
    items: Iterable[tuple[Prompt, int]],
    identity: dict[str, Any],
    device: str,
    mode: str,
    before: Callable[[], None],
) -> TextCache | None:
    """The embeddings of a cell's images, made where they are missing; None where the model keeps its encoders.

    `before` is called once when something has to be encoded: to make room on the device. The encoders are gone
    afterwards.
    """
    model, geometry = cell.model, cell.model["geometry"]
    if not model["text_cache"]:
        return None
    about = {"weights": identity["model"]["weights"], "dtype": model["dtype"]}
    cache = TextCache(model["text_cache"], about | {key: geometry[key] for key in ("family", "text_tokens")})
    prompts = (prompt.text for prompt, _ in items)
    negative, guided = model["negative_prompt"], family_named(geometry["family"]).guided
    needed = sentences(prompts, cell.stages, negative, guided, cell.method.sentences())
    missing = cache.missing(needed)
    if missing:
        import gc

        import torch

        before()
        _encode(cell, cache, missing, device, mode)
        gc.collect()
        if device.startswith("cuda"):
            torch.cuda.empty_cache()
    return cache


def _encode(cell: Cell, cache: TextCache, missing: list[str], device: str, mode: str) -> None:
    import torch

    from sega.loading.pipeline import load_text_encoders
    from sega.models import text_encoder_of

    pipe = load_text_encoders(cell.model, cell.weights, device, mode)
    encode, tokens = text_encoder_of(pipe), cell.model["geometry"]["text_tokens"]
    with torch.no_grad():
        cache.fill(missing, lambda sentence: encode(pipe, sentence, tokens))
    pipe.remove_all_hooks()
