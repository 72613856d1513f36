"""Write the command line that makes the images of a run again, from its record."""

from __future__ import annotations

import json
import re
import shlex
from functools import cache
from pathlib import PurePath
from typing import Any

from sega.errors import RequestError
from sega.home import command_line

from ..records.rows import flatten
from ..records.runs import Run

KEYS = ("model", "method", "prompts", "seeds", "steps", "guidance", "exact_time")
"""Blocks and keys of the configuration that change pixels; the size has a word of its own."""
PATHS = ("model.path", "model.text_cache", "method.weights", "prompts.path")
"""Keys whose values are files: of an absolute path, which is that of one machine, only the last part is shown."""


def command_of(run: Run) -> str:
    """Return `python run.py model=... method=... res=...` with every key that is not the default; "" if unknown.

    A store grows by several requests, so the number of captions of the embedded world is that of the images.
    """
    config = run.config
    try:
        words = (f"model={config['model']['name']}", f"method={config['method']['name']}")
        words += (f"prompts={config['prompts']['name']}",)
        plain = _defaults(words)
    except (KeyError, TypeError, RequestError):  # of another tool, or of a method that is not installed here
        return ""
    if plain["prompts"] == _defaults(words[:2])["prompts"]:
        words = words[:2]
    wanted = flatten({key: config.get(key) for key in KEYS})
    if wanted.get("prompts.source") == "embedded":
        wanted["prompts.count"] = len({image.prompt_id for image in run.images})
    default = flatten({key: plain.get(key) for key in KEYS})
    changed = [_word(key, value) for key, value in wanted.items() if key in default and default[key] != value]
    return " ".join([command_line("run"), *words, f"res={run.width}x{run.height}", *changed])


@cache
def _defaults(words: tuple[str, ...]) -> dict[str, Any]:
    from sega.run.request import compose_all

    # A method of another package may need more to be composed than its name: then there is no command.
    return dict(compose_all([*words, *(["prompts.path=x"] if "prompts=file" in words else [])])[1][0])


def _word(key: str, value: Any) -> str:
    if key in PATHS and value and PurePath(str(value)).is_absolute():
        value = PurePath(str(value)).name
    return shlex.quote(f"{key}={_value(value)}")


def _value(value: Any) -> str:
    """A value in the language of Hydra's command line."""
    if isinstance(value, list | tuple):
        return f"[{','.join(_value(item) for item in value)}]"
    if isinstance(value, str) and not re.fullmatch(r"[\w./:@-]+", value):
        return json.dumps(value, ensure_ascii=False)
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
