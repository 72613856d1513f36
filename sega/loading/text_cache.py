"""Prompt embeddings kept on disk, so that a sweep encodes each sentence once and never holds encoders beside the model.

`<folder>/<digest>/<sha of the sentence>.safetensors`; the digest covers what the embedding depends on: the weights by
content or commit, their dtype, the length of the text. `encoder.json` beside the files says which.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
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

    def fill(
        self,
        sentences: list[str],
        encode: Callable[[str], dict[str, Any]],
        cut: Callable[[str], list[str]] = lambda sentence: [],
    ) -> None:
        """Encode these sentences one at a time, so that no embedding depends on its neighbours, and keep them.

        `cut` names the encoders that read a sentence only in part.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with atomic(self.folder / "encoder.json") as scratch:
            scratch.write_text(json.dumps(self.about, indent=2) + "\n")
        for sentence in sentences:
            path = self.path(sentence)
            with locked(self.folder / ".locks" / path.name):
                if path.exists():
                    continue  # another worker was first
                about = {"sentence": sentence} | ({"cut": "; ".join(names)} if (names := cut(sentence)) else {})
                tensors.write(path, encode(sentence), about)

    def cut(self, sentences: Iterable[str]) -> str | None:
        """A line on sentences that an encoder reads only in part; None if it reads all of them."""
        chosen = list(dict.fromkeys(sentences))
        found = [cut for sentence in chosen if (cut := tensors.about(self.path(sentence)).get("cut"))]
        if not found:
            return None
        names = Counter(name for cut in found for name in cut.split("; "))
        readers = ", ".join(f"{count} by {name}" for name, count in names.items())
        return f"{len(found)} of {len(chosen)} prompts are read only in part: {readers}"

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


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings that print each sentence that is too long; `TextCache.cut` tells it in one line."""
    before = {logger: logger.level for logger in map(logging.getLogger, ("diffusers", "transformers"))}
    for logger in before:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in before.items():
            logger.setLevel(level)


def _encode(cell: Cell, cache: TextCache, missing: list[str], device: str, mode: str) -> None:
    import torch

    from sega.loading.pipeline import load_text_encoders
    from sega.models import text_adapter

    pipe = load_text_encoders(cell.model, cell.weights, device, mode)
    adapter, tokens = text_adapter(pipe), cell.model["geometry"]["text_tokens"]
    with torch.no_grad(), _quiet():
        cache.fill(
            missing,
            lambda sentence: adapter.encode_text(pipe, sentence, tokens),
            lambda sentence: adapter.cut_text(pipe, sentence, tokens),
        )
    pipe.remove_all_hooks()
