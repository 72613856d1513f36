"""Install, run and test a fresh clone, and record the times: `python scripts/fresh_clone.py [folder=...]`.

  folder   a temporary one            folder of the clone
  steps    install,demo,again,test    without install: the clone in folder is updated and used

Clones the committed state of this repository, runs `make install`, `make demo` twice and `make test` there, and writes
`results/fresh-clone.json` here, which contains the times and the number of tests for the README. Values of steps that
are not run are kept. If a step fails, the last lines of its log are printed and nothing is written.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RECORD = ROOT / "results" / "fresh-clone.json"
STEPS = {"install": "install", "demo": "demo", "again": "demo", "test": "test"}
CLOSING = re.compile(r"(\d+) (passed|skipped|failed)")


def main(words: list[str]) -> int:
    options = {"folder": "", "steps": ",".join(STEPS)}
    for word in words:
        key, _, value = word.partition("=")
        if key not in options or not value:
            return _wrong(f"can't read {word!r}; options are folder=<new folder> and steps=install,demo,again,test")
        options[key] = value
    chosen = options["steps"].split(",")
    if unknown := [step for step in chosen if step not in STEPS]:
        return _wrong(f"unknown step {unknown[0]!r}; there are {', '.join(STEPS)}")
    folder = Path(options["folder"] or tempfile.mkdtemp(prefix="sega-bench-")) / "clone"
    record: dict[str, Any] = {}
    if "install" in chosen:
        if folder.exists():
            return _wrong(f"{folder} exists; give a folder that does not, or leave out the step install")
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    else:
        if not folder.exists() or not RECORD.exists():
            return _wrong("without the step install, folder must be one that an earlier call made and recorded")
        subprocess.run(["git", "-C", str(folder), "pull", "--quiet", "--ff-only"], check=True)
        record = json.loads(RECORD.read_text())
    if "demo" in chosen:
        shutil.rmtree(folder / "results" / "demo", ignore_errors=True)
    commit = subprocess.run(["git", "-C", str(folder), "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    record |= {
        "commit": commit.stdout.strip(),
        "cores": os.cpu_count(),
        "date": datetime.now(UTC).date().isoformat(),
        "python": sys.version.split()[0],
    }
    for step in chosen:
        log = folder.parent / f"{step}.log"
        print(f"make {STEPS[step]} in {folder} (log: {log})", flush=True)
        started = time.monotonic()
        with log.open("w") as file:
            status = subprocess.run(
                ["make", STEPS[step]],
                cwd=folder,
                stdout=file,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env={key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "PYTHONPATH")},
            ).returncode
        record[f"{step}_seconds"] = round(time.monotonic() - started, 1)
        text = log.read_text(errors="replace")
        if status:
            print("\n".join(text.splitlines()[-15:]), file=sys.stderr)
            print(f"fresh_clone.py: make {STEPS[step]} failed; nothing was written", file=sys.stderr)
            return 1
        if step == "demo":
            made = next(folder.glob("results/demo/runs/*/*/*/*/run.json"))
            record["demo_dtype"] = json.loads(made.read_text())["config"]["model"]["dtype"]
        if step == "test":
            counts = dict.fromkeys(("passed", "skipped"), 0)
            counts |= {word: int(count) for count, word in CLOSING.findall(text.splitlines()[-1])}
            record["tests"] = counts
        print(f"  {record[f'{step}_seconds']:.0f} s", flush=True)
    RECORD.write_text(json.dumps(record, indent=1) + "\n")
    print(RECORD.relative_to(ROOT))
    return 0


def _wrong(words: str) -> int:
    print(f"fresh_clone.py: {words}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
