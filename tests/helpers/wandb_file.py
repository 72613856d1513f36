"""Reads the offline file of a W&B run: a LevelDB log of protocol-buffer records."""

import json
import struct
import time
from pathlib import Path

BLOCK = 32768
FIRST, MIDDLE, LAST = 2, 3, 4


def records(path: Path):
    """Every record of a `.wandb` file."""
    from wandb.proto.wandb_internal_pb2 import Record

    data = path.read_bytes()
    ident, magic, _ = struct.unpack("<4sHB", data[:7])
    assert (ident, magic) == (b":W&B", 0xBEE1)
    place, parts = 7, []
    while place + 7 <= len(data):
        if BLOCK - place % BLOCK < 7:  # the end of a block, too short for a header
            place += BLOCK - place % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        if place + 7 + length > len(data):  # still being written
            return
        parts.append(data[place + 7 : place + 7 + length])
        place += 7 + length
        if kind not in (FIRST, MIDDLE):
            record = Record()
            record.ParseFromString(b"".join(parts))
            parts = []
            yield record


def finished(path: Path) -> list:
    """Every record of a run that has ended; its writer is a process of its own and may take a while."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        found = list(records(path)) if path.stat().st_size > 7 else []
        if found and found[-1].WhichOneof("record_type") == "exit":
            return found
        time.sleep(0.1)
    raise AssertionError(f"{path} has no end: {[record.WhichOneof('record_type') for record in found]}")


class Offline:
    """What an offline run folder holds: run, config, history and summary as plain values, files of artifacts."""

    def __init__(self, folder: Path):
        self.folder, self.run = folder, None
        self.config, self.summary, self.history, self.artifacts = {}, {}, [], {}
        for record in finished(next(folder.glob("*.wandb"))):
            kind = record.WhichOneof("record_type")
            if kind == "run":
                self.run = record.run
                self._update(self.config, record.run.config.update)
            elif kind == "config":
                self._update(self.config, record.config.update)
            elif kind == "summary":
                self._update(self.summary, record.summary.update)
            elif kind == "artifact":
                self.artifacts |= {entry.path: Path(entry.local_path) for entry in record.artifact.manifest.contents}
            elif kind == "history":
                row = {}
                self._update(row, record.history.item)
                self.history.append(row)

    @staticmethod
    def _update(values, items):
        for item in items:
            *parents, name = list(item.nested_key) or [item.key]
            place = values
            for key in parents:
                place = place.setdefault(key, {})
            place[name] = json.loads(item.value_json)

    def table(self, key: str) -> dict:
        """A logged table."""
        path = next(row[key]["path"] for row in reversed(self.history) if key in row)
        return json.loads((self.folder / "files" / path).read_text())
