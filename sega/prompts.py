"""Prompts and their names, from the `prompts` group of the configuration."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sega.errors import RequestError, near

SOURCES = ("embedded", "file", "items")


@dataclass(frozen=True)
class Prompt:
    """A sentence, and a name for files that is its own wherever it came from."""

    text: str
    id: str


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def named(text: str, label: str | None = None) -> Prompt:
    """The name is the label or the first words, and 8 digits of a hash of the sentence."""
    words = re.sub(r"[^a-z0-9]+", "-", (label or " ".join(text.split()[:4])).lower()).strip("-")[:40].strip("-")
    return Prompt(text, f"{words}-{sha(text)[:8]}" if words else sha(text)[:8])


def load_prompts(config: dict[str, Any]) -> list[Prompt]:
    """The prompts of a config, without repetitions, cut to `limit`."""
    for key in ("seed", "count", "limit"):
        value, least = config[key], 1 if key == "limit" else 0
        if not (value is None and key == "limit") and (isinstance(value, bool) or not isinstance(value, int)):
            raise RequestError(f"prompts.{key}={value} must be a whole number")
        if value is not None and value < least:
            raise RequestError(f"prompts.{key}={value} must be at least {least}")
    if config["source"] not in SOURCES:
        raise RequestError(f"prompts.source={config['source']} is unknown{near(config['source'], SOURCES)}")
    for key in ("count", "seed"):
        if config[key] and config["source"] != "embedded":
            mend = f"; prompts.limit={config[key]} takes the first of others" if key == "count" else ""
            raise RequestError(f"prompts.{key}={config[key]} is of prompts=embedded only, elsewhere it is 0{mend}")
    prompts = list(dict.fromkeys(_read(config)))
    if not prompts:
        raise RequestError("there are no prompts; give prompts.text='a sentence' or prompts.count=<number>")
    return prompts[: config["limit"]]


def _read(config: dict[str, Any]) -> list[Prompt]:
    # What is given counts, whatever the group: prompts of another source would be made in silence.
    if config["text"] is not None:
        return _sentences(config["text"], "prompts.text")
    if config["source"] == "file" or config["path"] is not None:
        return _from_file(config["path"])
    if config["source"] == "items" or config["items"]:
        return _sentences(config["items"], "prompts.items")
    from sega.embedded.world import prompts

    return [named(text) for text in prompts(config["seed"], config["count"])]


def _sentences(value: Any, key: str) -> list[Prompt]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or any(not isinstance(text, str) or not text.strip() for text in texts):
        raise RequestError(f"{key}={value} must be a sentence or a list of sentences")
    return [named(text.strip()) for text in texts]


def _from_file(name: Any) -> list[Prompt]:
    if not name or name == "???":
        raise RequestError("prompts=file needs prompts.path=<a .txt or .jsonl file>")
    path = Path(str(name)).expanduser()
    if not path.is_file():
        raise RequestError(f"prompts.path={path} is not a file")
    if path.suffix not in (".txt", ".jsonl"):
        raise RequestError(f"prompts.path={path} must end in .txt (a prompt a line) or .jsonl")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise RequestError(f"prompts.path={path} is not UTF-8 text ({error.reason} at byte {error.start})") from error
    rows = [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]
    return [_row(path, number, line) if path.suffix == ".jsonl" else named(line) for number, line in rows]


def _row(path: Path, number: int, line: str) -> Prompt:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise RequestError(f"{path}, line {number}: not JSON ({error})") from error
    text = row.get("prompt") if isinstance(row, dict) else None
    if not isinstance(text, str) or not text.strip():
        raise RequestError(f'{path}, line {number}: needs {{"prompt": "a sentence"}}')
    return named(text.strip(), str(row["id"]) if "id" in row else None)
