"""Read and write scores: `scores.json` (a block per protocol), `scores.jsonl` (a row per image), and features.

`eval/records/schema.py` explains every key. Files are renamed to their final name when they are complete.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from sega.home import command_line
from sega.store.files import read_record
from sega.store.rows import read_rows

from .files import digest, write_arrays, write_text
from .runs import warn
from .schema import ScoreBlock, ScoreFile, ScoreRow, Seal

SCHEMA = 1
SCORE_KEYS = ("protocol", "prompt_id", "seed", "sha256", "values")


def read_blocks(folder: Path) -> dict[str, ScoreBlock]:
    """Return the valid blocks of `scores.json` by protocol. Prints a warning for each damaged block."""
    path = folder / "scores.json"
    if not path.exists():
        return {}
    record = read_record(path)
    blocks = record.get("protocols") if record else None
    if not record or not isinstance(blocks, dict):
        warn(f"{path} is damaged; run {command_line('eval')} to score the cell again")
        return {}
    if record.get("schema") != SCHEMA:
        return {}
    sound = {name: block for name, block in blocks.items() if _is_sound(block)}
    for name in blocks.keys() - sound.keys():
        warn(f"{path} is damaged in the block of protocol {name}; run {command_line('eval')} to score it again")
    return sound


def _is_sound(block: Any) -> bool:
    kinds = {"n": int, "damaged": list, "metrics": dict}
    if not isinstance(block, dict) or not all(isinstance(block.get(key), kind) for key, kind in kinds.items()):
        return False
    return "seal" not in block or _sealed(block["seal"], "block") == _seal(block, [])["block"]


def _sealed(seal: Any, what: str) -> Any:
    """Return a hash of the seal of a block, None if the seal itself is damaged."""
    return seal.get(what) if isinstance(seal, dict) else None


def _seal(block: Mapping[str, Any], rows: list[ScoreRow]) -> Seal:
    """Return the hashes of a block and of its rows in `scores.jsonl`. They show any changed digit."""
    content = json.loads(json.dumps([{key: value for key, value in block.items() if key != "seal"}, rows]))
    return {"block": digest(content[0]), "rows": digest(content[1])}


def read_scores(folder: Path, protocol: str) -> ScoreBlock | None:
    """Return the block of one protocol in `scores.json`, None if it is missing or does not match its rows."""
    block = read_blocks(folder).get(protocol)
    return block if block and are_rows_sound(folder, protocol, block) else None


def are_rows_sound(folder: Path, protocol: str, block: ScoreBlock) -> bool:
    """Return whether the rows in `scores.jsonl` belong to a block. Prints a warning if they do not."""
    rows = score_rows(folder, protocol)
    sound = _sealed(block["seal"], "rows") == _seal({}, rows)["rows"] if "seal" in block else len(rows) >= block["n"]
    if not sound:
        warn(f"{folder / 'scores.jsonl'} is damaged; run {command_line('eval')} to score the cell again")
    return sound


def score_rows(folder: Path, protocol: str) -> list[ScoreRow]:
    """Return the rows of one protocol in `scores.jsonl`."""
    rows, _ = read_rows(folder / "scores.jsonl", SCORE_KEYS)
    return [cast(ScoreRow, row) for row in rows if row["protocol"] == protocol]


def write_scores(folder: Path, protocol: str, block: ScoreBlock, rows: list[ScoreRow], arrays: dict[str, Any]) -> None:
    """Replace the records of one protocol and keep those of the others. `scores.json` is written last."""
    others = {name: kept for name, kept in read_blocks(folder).items() if name != protocol}
    kept = [row for row in read_rows(folder / "scores.jsonl", SCORE_KEYS)[0] if row["protocol"] in others]
    lines = [json.dumps(row, sort_keys=True) for row in [*kept, *rows]]
    write_arrays(folder / f"features-{protocol}.npz", arrays)
    write_text(folder / "scores.jsonl", "".join(line + "\n" for line in lines))
    sealed: ScoreBlock = {**block, "seal": _seal(block, rows)}
    record: ScoreFile = {"schema": SCHEMA, "protocols": {**others, protocol: sealed}}
    write_text(folder / "scores.json", json.dumps(record, indent=1, sort_keys=True) + "\n")


def cut_notes(block: ScoreBlock) -> list[str]:
    """Return a line for each limit on the length of prompts that some are above, with the metrics it holds for."""
    names: dict[tuple[int, int, int], list[str]] = {}
    for measure, found in block.get("cut", {}).items():
        if found["cut"]:
            cell = block["metrics"].get(measure)
            title = cell["title"] if cell else measure
            names.setdefault((found["cut"], found["prompts"], found["tokens"]), []).append(title)
    return [
        f"{cut} of {prompts} prompts {'is' if cut == 1 else 'are'} longer than the {tokens} tokens of "
        f"{' and '.join(filter(None, [', '.join(titles[:-1]), titles[-1]]))} and {'was' if cut == 1 else 'were'} cut"
        for (cut, prompts, tokens), titles in names.items()
    ]
