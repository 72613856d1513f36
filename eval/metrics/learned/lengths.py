"""Count the tokens of prompts for text encoders that read no more than a given number of them.

Each function takes the options of a protocol and returns how many tokens the encoder takes, special ones included, and
a function that counts those of a prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ..types import Measure
from .weights import find

Limit = tuple[int, Callable[[str], int]]


def clip(config: dict[str, Any]) -> Limit:
    """Return the limit of `clip.model`: of the embedded scorer, or of any model of open_clip."""
    if config["clip"]["model"] != "embedded":
        return open_clip_limit(config["clip"]["model"])
    from sega.embedded.model import TEXT_TOKENS, build_tokenizer

    tokenizer = build_tokenizer()
    return TEXT_TOKENS, lambda prompt: len(tokenizer(prompt, verbose=False).input_ids)


def hps(config: dict[str, Any]) -> Limit:
    """Return the limit of CLIP ViT-H/14, whose text encoder HPSv2 and PickScore have."""
    from .rewards import HPS_MODEL

    return open_clip_limit(HPS_MODEL)


def imagereward(config: dict[str, Any]) -> Limit:
    """Return the limit of ImageReward, in tokens of BERT."""
    from tokenizers import BertWordPieceTokenizer

    from .rewards import IMAGEREWARD_TOKENS

    tokenizer = BertWordPieceTokenizer(str(find("bert-vocabulary", config["weights"])[0]), lowercase=True)
    return IMAGEREWARD_TOKENS, lambda prompt: len(tokenizer.encode(prompt).ids)


def open_clip_limit(model: str) -> Limit:
    """Return the limit of a model of open_clip, with CLIP's tokenizer or one of transformers."""
    import open_clip

    tokenizer = open_clip.get_tokenizer(model)
    if isinstance(tokenizer, open_clip.SimpleTokenizer):
        return tokenizer.context_length, lambda prompt: len(tokenizer.encode(prompt)) + 2  # begin and end
    inner, clean = tokenizer.tokenizer, tokenizer.clean_fn
    return tokenizer.context_length, lambda prompt: len(inner(clean(prompt), verbose=False).input_ids)


def cut(measure: Measure, config: dict[str, Any], prompts: Iterable[str]) -> tuple[int, int]:
    """Return how many tokens the text encoder of a measure takes, and how many of the prompts are longer."""
    limit, count = measure.function(measure.tokens)(config)
    return limit, sum(count(prompt) > limit for prompt in prompts)
