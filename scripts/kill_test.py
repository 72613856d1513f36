"""Kill workers of a sweep at random moments, and compare the store with that of an undisturbed sweep.

  python scripts/kill_test.py                                 50 kills, 2 workers, the embedded model
  python scripts/kill_test.py kills=5 workers=4 folder=/tmp/k
  python scripts/kill_test.py program=tests/helpers/fake_worker.py line="-m model=tiny method=ntk,sega steps=1"

All workers run the same command on one store. A killed worker is started again. If the store is complete before the
last kill, a new store is started. Times and peak memory may differ, in records and in the rows inside images. All else
must be equal: pixels, tensors, values of records, and the sha256 of each file. The exit status is 0 if nothing differs.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from sega.store.files import file_sha  # noqa: E402
from sega.store.png import carried  # noqa: E402

LINE = "-m model=tiny method=upsample,hrdit res=256x192 prompts.count=12 method.base_steps=3"
KEYS = {"kills": "50", "workers": "2", "seed": "0", "program": "run.py", "folder": "", "line": LINE, "longest": ""}
TIMES = {"seconds", "base_seconds", "peak_memory_mb", "finished", "created", "cost", "store"}


def start(options: dict[str, str], store: Path) -> subprocess.Popen:
    """Start a worker on a store. Its output is written to the log beside the store."""
    words = [sys.executable, options["program"], *options["line"].split(), f"store={store}"]
    with open(f"{store}.log", "a") as log:
        return subprocess.Popen(words, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)


def plain_files(store: Path, without: Iterable[str] = ()) -> dict[str, Any]:
    """Return the content of a store by relative path, without times: pixels, tensors, and values of records.

    Keys in `without` are left out of records too. Removed files (`.removed`) are ignored.
    """
    found = {}
    for path in sorted(store.rglob("*")):
        place = path.relative_to(store)
        if place.parts[0] == ".multirun" or ".removed" in place.parts:  # Hydra's note of the command holds the store
            continue
        if path.is_file():
            found[str(place)] = _content(path, TIMES | set(without))
        elif path.is_dir() and not any(path.iterdir()):
            found[str(place)] = "an empty folder"
    return found


def _content(path: Path, without: set[str]) -> Any:
    if path.suffix == ".json":
        return _plain(json.loads(path.read_text()), without)
    if path.suffix == ".jsonl":
        rows = [json.loads(line) for line in path.read_text().split("\n") if line]
        agree = [file_sha(path.parent / row["file"]) == row["sha256"] for row in rows if {"file", "sha256"} <= set(row)]
        return [_plain(row, without | {"sha256", "steps"}) for row in rows], agree
    if path.suffix == ".png":
        with Image.open(path) as image:
            return image.size, image.tobytes(), _plain(carried(path), without | {"steps"})
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            return {name: arrays[name].tolist() for name in arrays.files if name != "sha256"}
    content = path.read_bytes()
    if path.suffix == ".safetensors":  # the order of its metadata is not fixed, and its checksum covers times
        length = int.from_bytes(content[:8], "little")
        return _plain(json.loads(content[8 : 8 + length]), without | {"sha256"}), content[8 + length :]
    return content


def _plain(value: Any, without: set[str]) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item, without) for key, item in value.items() if key not in without}
    return [_plain(item, without) for item in value] if isinstance(value, list) else value


def differences(one: Path, other: Path) -> list[str]:
    """Return the paths at which two stores differ."""
    first, second = plain_files(one), plain_files(other)
    return sorted(name for name in first.keys() | second.keys() if first.get(name) != second.get(name))


def disturbed(options: dict[str, str], store: Path, kills: int, longest: float, rng: random.Random) -> tuple[int, int]:
    """Fill a store while workers are killed. Returns the number of kills, and of kills of a worker with a claim."""
    count = int(options["workers"])
    workers = [start(options, store) for _ in range(count)]
    killed = holding = 0
    while killed < kills and not _complete(workers):
        moment = time.monotonic() + rng.uniform(0, longest)
        while time.monotonic() < moment and not _complete(workers):
            time.sleep(0.005)
        place = rng.randrange(count)
        if workers[place].poll() is None:
            pid = workers[place].pid
            claims = [path for path in store.rglob(".claims/*") if f'"pid": {pid},' in _text(path)]
            os.kill(pid, signal.SIGKILL)
            workers[place].wait()
            killed, holding = killed + 1, holding + bool(claims)
            workers[place] = start(options, store)
    statuses = [worker.wait() for worker in workers]
    if any(statuses):
        raise SystemExit(f"workers that were not killed ended with status {statuses}; see {store}.log")
    return killed, holding


def _complete(workers: list[subprocess.Popen]) -> bool:
    # one that ends by itself has waited for the images of the others
    return any(worker.poll() is not None for worker in workers)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


def read_options(words: list[str], keys: dict[str, str]) -> dict[str, str] | None:
    """Return `keys` with the values of `key=value` words. None if a word is not one of the keys."""
    options = dict(keys)
    for word in words:
        key, equals, value = word.partition("=")
        if key not in options or not equals:
            return None
        options[key] = value
    return options


def main(words: list[str]) -> int:
    """Run the test; returns the exit status."""
    options = read_options(words, KEYS)
    if options is None:
        print(__doc__)
        return 2
    folder = Path(options["folder"] or tempfile.mkdtemp(prefix="kill-"))
    folder.mkdir(parents=True, exist_ok=True)
    rng, kills = random.Random(int(options["seed"])), int(options["kills"])
    begun = time.monotonic()
    if start(options, folder / "calm").wait():
        print(f"the undisturbed sweep failed; see {folder}/calm.log", file=sys.stderr)
        return 1
    took = time.monotonic() - begun
    longest = float(options["longest"] or 0.7 * took)
    print(f"undisturbed: {len(plain_files(folder / 'calm'))} files in {took:.1f} s", flush=True)
    killed = holding = rounds = 0
    wrong = []
    while killed < kills:
        rounds += 1
        store = folder / f"disturbed-{rounds}"
        more, held = disturbed(options, store, kills - killed, longest, rng)
        killed, holding = killed + more, holding + held
        wrong += [f"{store.name}: {name}" for name in differences(folder / "calm", store)]
        print(
            f"round {rounds}: {killed}/{kills} killed, {holding} of them with a claim, {len(wrong)} files differ",
            flush=True,
        )
    print("\n".join(wrong) or f"all {rounds} stores equal the undisturbed one, except for times")
    if not wrong and not options["folder"]:
        shutil.rmtree(folder)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
