"""Damage each file of a store in turn. Check that all commands handle it and that the next run repairs the store.

  python scripts/damage_test.py                                  every file, five ways, on the embedded model
  python scripts/damage_test.py ways=empty,folder files=images.jsonl,run.json per=case
  python scripts/damage_test.py program=tests/helpers/fake_worker.py     with a fake instead of the denoiser

A way is `empty`, `cut` (half of the file is left), `garble` (16 bytes in the middle change), `delete` or `folder` (a
folder with the name of the file). After each, on a copy of the store, the commands `sega.store ls`, `verify` and `gc
apply=true`, the evaluation and the report run, then `run.py`, the evaluation and the report. With `verify=true`,
`verify apply=true` runs before `run.py`.

A case is right if

  answered   no command ended in a traceback, or in a status besides 0, 1 and 2
  named      a command reported the file or its cell; for a deleted file, the run may report it. No record lists the
             files of `base`, so a deleted one is not reported
  kept       no other file of the store changed before the repair
  healed     at the end the store was as before, except for times. Base latents are read only if an image is made, so
             their images are deleted first

The exit status is 0 if all cases are right in all four.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import random
import shutil
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

from kill_test import plain_files, read_options  # noqa: E402

MARKS = ("answered", "named", "kept", "healed")
LINES = "method=sega res=64 record=[magnitudes,attention]; method=upsample res=256x192 method.base_steps=1"
KEYS = {
    "ways": "empty,cut,garble,delete,folder",
    "files": "",
    "lines": LINES,
    "program": "",
    "folder": "",
    "seed": "0",
    "common": "model=tiny prompts.count=3 steps=1 device=cpu",
    "per": "way",
    "verify": "false",
}
SCORES = ("scores.json", "scores.jsonl", "features-plain.npz")
CHANGES = ("device", "files", "identity", "seal", "code")
"""Keys that depend on the time at which a record was written. The identity of a cell is in its name."""


class Store:
    """A store, and the commands that run on it in this process."""

    def __init__(self, options: dict[str, str], folder: Path):
        self.maker = None
        if options["program"]:
            spec = importlib.util.spec_from_file_location("program", ROOT / options["program"])
            program = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(program)
            self.maker = program.Fake()
        self.options, self.folder, self.said, self.wrong = options, folder, "", []

    def call(self, main: Callable[[list[str]], int], *words: str) -> None:
        """Run a command. Stores its output, and an error if it ended in a wrong way."""
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            try:
                status = main(list(words))
            except Exception:  # noqa: BLE001  (whatever comes up is what this test looks for)
                traceback.print_exc(file=out)
                status = None
        self.said += out.getvalue()
        if status not in (0, 1, 2) or "Traceback" in out.getvalue():
            self.wrong.append(f"{main.__module__} {' '.join(words)}: status {status}\n{out.getvalue()}")

    def run(self) -> None:
        """Generate what is missing."""
        from sega.run import cli

        def run(words: list[str]) -> int:
            return cli.main(words, maker=self.maker)

        for line in self.options["lines"].split(";"):
            self.call(run, *self.options["common"].split(), *line.split(), f"store={self.folder}")

    def score(self) -> None:
        """Evaluate and report."""
        import eval.report.command
        import eval.scoring.command

        beside = self.folder.parent
        self.call(
            eval.scoring.command.main,
            f"store={self.folder}",
            f"cache={beside / 'cache'}",
            "eval=plain",
            "metrics=[piqe]",
            "workers=0",
            "bootstrap.samples=20",
        )
        self.call(
            eval.report.command.main,
            f"store={self.folder}",
            f"cache={beside / 'cache'}",
            "parts=tables",
            f"out={beside / 'report'}",
            "workers=1",
        )

    def look_after(self, *words: str) -> None:
        """`python -m sega.store` with these words."""
        from sega.store.__main__ import main as upkeep

        self.call(upkeep, *words, f"store={self.folder}")


def damage(path: Path, way: str, rng: random.Random) -> bool:
    """Damage a file. Returns False if this way does not change it."""
    content = path.read_bytes()
    if way in ("empty", "cut", "garble") and not content:
        return False
    if way == "garble":
        start = max(0, len(content) // 2 - 8)
        path.write_bytes(content[:start] + rng.randbytes(16) + content[start + 16 :])
    elif way in ("empty", "cut"):
        path.write_bytes(content[: len(content) // 2 if way == "cut" else 0])
    else:
        path.unlink()
        if way == "folder":
            path.mkdir()
    return True


def tried(options: dict[str, str], sound: Path, place: str, way: str, rng: random.Random) -> dict[str, str]:
    """Return what is wrong after one file was damaged in one way, by mark. {} if all is right."""
    folder = sound.parent / "damaged"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(sound, folder)
    if not damage(folder / place, way, rng):
        return {}
    store, wrong = Store(options, folder), {}
    before = _bytes(folder, place)
    for words in (["ls"], ["verify"], ["gc", "apply=true"]):
        store.look_after(*words)
    store.score()
    after = _bytes(folder, place)
    if changed := [name for name in before if after.get(name) != before[name]]:
        wrong["kept"] = ", ".join(changed)
    if way == "delete":  # of some files only the next run knows that they were there
        store.run()
    unlisted = way == "delete" and "base" in Path(place).parts
    if not unlisted and not any(str(path) in store.said for path in (folder / place, (folder / place).parent)):
        wrong["named"] = store.said
    for path in folder.rglob("*.png") if "base" in Path(place).parts else ():
        if path.is_file():  # only images that are to be made look at what they are made from
            path.unlink()
    if options["verify"] == "true":
        store.look_after("verify", "apply=true")
    store.run()
    store.score()
    try:
        one, other = (plain_files(path, CHANGES) for path in (sound, folder))
        if changed := sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name)):
            wrong["healed"] = ", ".join(changed)
    except (ValueError, KeyError, OSError) as error:  # a record that still can't be read
        wrong["healed"] = repr(error)
    if store.wrong:
        wrong["answered"] = "\n".join(store.wrong)
    return wrong


def _bytes(store: Path, besides: str) -> dict[str, bytes]:
    """Return the contents of a store by path, without one file and without scores, which depend on the images."""
    files = {str(path.relative_to(store)): path for path in store.rglob("*") if path.is_file()}
    return {
        place: path.read_bytes()
        for place, path in files.items()
        if place != besides and path.name not in SCORES and ".removed" not in path.parts
    }


def main(words: list[str]) -> int:
    """Run the test; returns the exit status."""
    options = read_options(words, KEYS)
    if options is None or not set(options["ways"].split(",")) <= set(KEYS["ways"].split(",")):
        print(__doc__)
        return 2
    os.chdir(ROOT)
    folder = Path(options["folder"] or tempfile.mkdtemp(prefix="damage-"))
    if (folder / "sound").exists():
        print(f"folder={folder} contains a store of an earlier test; give another folder", file=sys.stderr)
        return 2
    sound = Store(options, folder / "sound")
    sound.run()
    sound.score()
    if sound.wrong or not sound.folder.is_dir():
        print(f"the undisturbed store could not be made:\n{sound.said}", file=sys.stderr)
        return 1
    rng, counts, right = random.Random(int(options["seed"])), Counter(), Counter()
    wanted = set(options["files"].split(",")) - {""}
    places = sorted(str(path.relative_to(sound.folder)) for path in sound.folder.rglob("*") if path.is_file())
    for place in (place for place in places if not wanted or wanted & {Path(place).name, Path(place).suffix}):
        for way in options["ways"].split(","):
            wrong = tried(options, sound.folder, place, way, rng)
            counts[way] += 1
            right.update((way, mark) for mark in MARKS if mark not in wrong)
            if wrong or options["per"] == "case":
                told = "; ".join(f"not {mark}: {what.strip()}" for mark, what in wrong.items())
                print(f"{place} {way}: {told or 'right'}", flush=True)
    total: Any = sum(counts.values())
    for way, count in counts.items():
        print(f"{way:<7} {count:4d} files: " + ", ".join(f"{right[way, mark]} {mark}" for mark in MARKS))
    perfect = sum(right.values())
    print(f"{total} cases, {100 * perfect / max(1, total * len(MARKS)):.1f} % right")
    if perfect == total * len(MARKS) and not options["folder"]:
        shutil.rmtree(folder)
    return int(perfect < total * len(MARKS))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
