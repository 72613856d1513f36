"""The package works under another name, as an installed one does (`sega_bench.eval`)."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

SCRIPT = """
import importlib, pkgutil, sys
import other.scores
for module in pkgutil.walk_packages(other.scores.__path__, "other.scores."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
from other.scores.metrics.registry import measures
for name, measure in measures().items():
    assert measure.function().__module__.startswith("other.scores."), name
assert not [name for name in sys.modules if name.partition(".")[0] == "eval"]
"""


def test_nothing_in_it_needs_its_own_name(tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "scores").symlink_to(ROOT / "eval")
    (tmp_path / "sega").symlink_to(ROOT / "sega")
    (tmp_path / "baselines").symlink_to(ROOT / "baselines")
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-P", "-c", SCRIPT], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
