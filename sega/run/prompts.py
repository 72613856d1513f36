"""Prompts and their names, from the `prompts` group of the configuration.

Files are UTF-8, with or without a byte-order mark; only a line feed, alone or after a carriage return, ends a line.
`.txt` has a prompt a line; `.jsonl`, `.csv` and `.tsv` have a column for the prompt and may have an id and a seed.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sega.errors import RequestError, near, shortened
from sega.store.names import prompt_id

if TYPE_CHECKING:
    from sega.run.schema import PromptsConfig

SOURCES = ("embedded", "file", "items")
MOST = 100_000
"""Prompts that prompts.count may ask of the embedded world."""
COLUMNS = {
    "prompt": ("prompt", "prompts", "caption", "captions", "text"),
    "id": ("id", "prompt_id", "prompt id"),
    "seed": ("seed",),
}
"""Names of the columns of a file of prompts, in any case; the first that is there counts."""


@dataclass(frozen=True)
class Prompt:
    """A sentence, and a name for files that is its own wherever it came from."""

    text: str
    id: str
    seed: int | None = None  # of its own, in place of the seeds of the cell


def named(text: str, label: str | None = None, seed: int | None = None) -> Prompt:
    """Return a prompt with its id (`sega.store.names.prompt_id`)."""
    return Prompt(text, prompt_id(text, label), seed)


def load_prompts(config: PromptsConfig) -> list[Prompt]:
    """Load the prompts of a config, without repetitions, cut to `limit`."""
    for key in ("seed", "count", "limit"):
        value, least = config[key], 1 if key == "limit" else 0
        if not (value is None and key == "limit") and (isinstance(value, bool) or not isinstance(value, int)):
            raise RequestError(f"prompts.{key}={value} must be a whole number")
        if value is not None and value < least:
            raise RequestError(f"prompts.{key}={value} must be at least {least}")
    if config["count"] > MOST:
        raise RequestError(f"prompts.count={config['count']} must be at most {MOST}")
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


def _read(config: PromptsConfig) -> list[Prompt]:
    # What is given counts, whatever the group: prompts of another source would be made in silence.
    if config["text"] is not None:
        return _sentences(config["text"], "prompts.text")
    if config["source"] == "file" or config["path"] is not None:
        return _from_file(config["path"])
    if config["source"] == "items" or config["items"]:
        return _sentences(config["items"], "prompts.items")
    from sega.embedded.captions import captions

    return [named(text) for text in captions(config["seed"], config["count"])]


def _sentences(value: Any, key: str) -> list[Prompt]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or any(not isinstance(text, str) or not text.strip() for text in texts):
        raise RequestError(f"{key}={value} must be a sentence or a list of sentences")
    return [named(_checked(text, key)) for text in texts]


def _checked(text: str, where: str) -> str:
    """A prompt without the space around it; RequestError for one that UTF-8 can't hold (half a surrogate pair)."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise RequestError(f"{where}: half a character at {error.start} of the prompt is no text") from error
    return text.strip()


def _from_file(name: Any) -> list[Prompt]:
    if not name or name == "???":
        raise RequestError("prompts=file needs prompts.path=<a .txt, .jsonl, .csv or .tsv file>")
    path = Path(str(name)).expanduser()
    if not path.is_file():
        raise RequestError(f"prompts.path={path} is not a file")
    readers = {".txt": _sentence_lines, ".jsonl": _json_lines, ".csv": _table, ".tsv": _table}
    if path.suffix not in readers:
        raise RequestError(f"prompts.path={path} must end in .txt (a prompt a line), .jsonl, .csv or .tsv (a header)")
    return readers[path.suffix](path, read_text(path, f"prompts.path={path}"))


def read_text(path: Path, what: str) -> str:
    """The text of a UTF-8 file without its byte-order mark, its ends of lines as they are; RequestError for others."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RequestError(f"{what} is not UTF-8 text ({error.reason} at byte {error.start})") from error


def numbered_lines(text: str) -> list[tuple[int, str]]:
    """Lines with their numbers, without those that are empty."""
    return [(number, line.strip()) for number, line in enumerate(text.split("\n"), 1) if line.strip()]


def _sentence_lines(path: Path, text: str) -> list[Prompt]:
    return [named(line) for _, line in numbered_lines(text)]


def _json_lines(path: Path, text: str) -> list[Prompt]:
    found = []
    for number, line in numbered_lines(text):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise RequestError(f"{path}, line {number}: not JSON ({error})") from error
        if not isinstance(row, dict):
            raise RequestError(f'{path}, line {number}: needs {{"prompt": "a sentence"}}')
        found.append(_row(row, f"{path}, line {number}"))
    return found


def _table(path: Path, text: str) -> list[Prompt]:
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter="\t" if path.suffix == ".tsv" else ",")
    try:
        header = [name for name in reader.fieldnames or () if name]
        if not _column(header, "prompt"):
            raise RequestError(f"{path}: the header has no column {', '.join(COLUMNS['prompt'])}; it has {header[:9]}")
        return [_row(row, f"{path}, line {reader.line_num}") for row in reader if any(row.values())]
    except csv.Error as error:
        raise RequestError(f"{path} can't be read as a table: {error}") from error


def _column(names: Iterable[str], key: str) -> str | None:
    """Which of the names of a row stands for `prompt`, `id` or `seed`."""
    lower = {str(name).strip().lower(): name for name in names if name is not None}
    return next((lower[known] for known in COLUMNS[key] if known in lower), None)


def _row(row: dict[str, Any], where: str) -> Prompt:
    found = {key: row.get(_column(row, key)) for key in COLUMNS}
    text, label, seed = found["prompt"], found["id"], found["seed"]
    if not isinstance(text, str) or not text.strip():
        raise RequestError(f'{where}: needs {{"prompt": "a sentence"}}, or a sentence in the column of the prompt')
    if seed in (None, ""):
        seed = None
    elif isinstance(seed, bool) or not re.fullmatch(r"[0-9]{1,18}", str(seed).strip()):
        raise RequestError(f"{where}: seed {shortened(seed)} is no whole number of at least 0")
    return named(
        _checked(text, where),
        None if label in (None, "") else _checked(str(label), where),
        None if seed is None else int(seed),
    )
