"""The CI script runs the tests whether or not a browser can be had."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / ".ci" / "run"


def ci(folder: Path, **programs: str) -> subprocess.CompletedProcess:
    """The script with only these programs on the path; `make` says what it was asked for."""
    for name in ("bash", "dirname", "env", "timeout", "id"):
        (folder / name).symlink_to(shutil.which(name))
    for name, body in {"make": 'echo "make $*"', **programs}.items():
        (folder / name).write_text(f"#!{shutil.which('bash')}\n{body}\n")
        (folder / name).chmod(0o755)
    return subprocess.run([SCRIPT], env={"PATH": str(folder)}, capture_output=True, text=True)


@pytest.mark.parametrize(
    "programs, told, asked",
    [
        ({}, "Chromium can't be installed here", ""),
        ({"apt-get": 'echo "$@" >> "$0.log"; exit 100'}, "Chromium can't be installed here", "update"),
        ({"apt-get": 'echo "$@" >> "$0.log"'}, "", "install -y --no-install-recommends chromium"),
        ({"apt-get": 'echo "$@" >> "$0.log"', "chromium": ""}, "", ""),
    ],
)
def test_the_tests_run_with_and_without_a_browser(tmp_path, programs, told, asked):
    if os.geteuid() and "apt-get" in programs:
        programs = programs | {"sudo": 'shift; "$@"'}
    done = ci(tmp_path, **programs)
    assert done.returncode == 0 and done.stdout.endswith("make test\n")
    assert told in done.stderr and bool(told) == ("Chromium" in done.stderr)
    log = tmp_path / "apt-get.log"
    assert asked in (log.read_text() if log.exists() else "") and log.exists() == bool(asked)
