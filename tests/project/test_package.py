"""The wheel, as somebody gets it: built, installed into an environment of its own, and used from an empty folder."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest

from sega.command import COMMANDS, main

ROOT = Path(__file__).resolve().parents[2]
RUN = ("run", "model=tiny", "method=sega", "res=1x", "steps=2", "prompts.count=1", "device=cpu")


def run(*words, cwd, check=True, **more):
    done = subprocess.run([str(word) for word in words], cwd=cwd, capture_output=True, text=True, timeout=600, **more)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """`sega-bench` of the built wheel, in an environment that has the other packages of this one but not this clone."""
    folder = tmp_path_factory.mktemp("wheel")
    tree = folder / "tree"  # a build leaves folders behind
    ignored = shutil.ignore_patterns(".git", ".venv", "results", "__pycache__", "build", "*.egg-info")
    shutil.copytree(ROOT, tree, ignore=ignored)
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, tree, cwd=folder)
    (wheel,) = folder.glob("*.whl")
    place = folder / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", place, cwd=folder)
    site = next((place / "lib").glob("python*")) / "site-packages"
    # Lines of a .pth are not followed in the folders that it names, so the editable install of this clone is not seen.
    (site / "outer.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = [sys.executable, "-m", "pip", "--python", place / "bin" / "python", "install", "--quiet", "--no-deps"]
    run(*pip, wheel, cwd=folder)
    return place / "bin" / "sega-bench"


@pytest.fixture
def elsewhere(tmp_path):
    """A folder with packages that have the names of ours."""
    for name in ("eval", "baselines", "conf"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise AssertionError('not ours')\n")
    return tmp_path


def test_every_package_of_the_tree_is_declared():
    declared = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    found = {"sega_bench.conf"}
    for top, prefix in (("sega", "sega"), ("baselines", "sega_bench.baselines"), ("eval", "sega_bench.eval")):
        for path in (ROOT / top).rglob("__init__.py"):
            found.add(".".join([prefix, *path.parent.relative_to(ROOT / top).parts]))
    assert declared == found


@pytest.mark.slow
def test_images_scores_and_a_report_from_any_folder(installed, elsewhere):
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    for words in (RUN, ("eval", "workers=0"), ("report", "parts=tables"), ("store", "ls"), ("doctor",)):
        run(installed, *words, cwd=elsewhere, env=environment)
    assert len(list(elsewhere.glob("results/runs/tiny/sega/192x192/*/*.png"))) == 1
    assert "sega" in (elsewhere / "results" / "report" / "table.csv").read_text()
    for words in (
        ("figures", "grid"),
        ("gallery",),
        ("answer",),
        ("published", "paper=sega"),
        ("fetch",),
        ("catalogue",),
    ):
        run(installed, *words, cwd=elsewhere, env=environment)
    assert all((elsewhere / "results" / name / "index.html").is_file() for name in ("gallery", "answer"))
    assert list(elsewhere.glob("results/report/grid-*.png"))
    python = installed.parent / "python"
    where = run(python, "-c", "import sega, sega.home; print(sega.__file__, sega.home.CONF)", cwd=elsewhere).stdout
    assert str(ROOT) not in where and where.count(str(installed.parents[1])) == 2


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name, capsys):
    assert main([name, "--help"]) == 0
    assert capsys.readouterr().out.count("\n") > 1


@pytest.mark.slow
def test_a_wheel_names_no_command_of_a_clone(installed, elsewhere):
    for name in COMMANDS:
        told = run(installed, name, "--help", cwd=elsewhere).stdout
        assert not re.search(r"\brun\.py|python -m|scripts/", told), told
    done = run(installed, "report", cwd=elsewhere, check=False)
    assert done.returncode == 2 and "sega-bench run" in done.stderr and "sega-bench eval" in done.stderr


@pytest.mark.slow
def test_a_command_that_is_not_there_is_one_line(installed, tmp_path):
    done = run(installed, "gallry", cwd=tmp_path, check=False)
    assert done.returncode == 2 and done.stderr == "sega-bench: unknown command 'gallry'; did you mean 'gallery'?\n"
    done = run(installed, "run", "model=tiny", "method=sgea", cwd=tmp_path, check=False)
    assert done.returncode == 2 and done.stderr.startswith("sega-bench run: unknown method 'sgea'; did you mean 'sega'")


BLOCK = """
import sys

for name in {names}:
    sys.modules[name] = None  # as where it is not installed: an import fails, and find_spec finds nothing
"""
EXTRAS = (
    "torchvision",
    "torchmetrics",
    "torch_fidelity",
    "open_clip",
    "timm",
    "pyiqa",
    "cv2",
    "matplotlib",
    "spandrel",
    "wandb",
    "wandb_workspaces",
    "hydra_plugins",
    "scipy",
    "tqdm",
)


def test_generating_needs_none_of_the_extras(tmp_path):
    code = BLOCK.format(names=set(EXTRAS) - {"tqdm"}) + (
        f"from sega.command import main\nsys.exit(main({[*RUN, f'store={tmp_path}']!r}))\n"
    )
    run(sys.executable, "-c", code, cwd=ROOT)
    assert len(list(tmp_path.glob("tiny/sega/192x192/*/*.png"))) == 1


def test_a_missing_extra_is_named(tmp_path):
    run_words = [*RUN, f"store={tmp_path / 'runs'}"]
    assert run(sys.executable, "run.py", *run_words[1:], cwd=ROOT)
    code = BLOCK.format(names={"torchmetrics", "open_clip"}) + (
        f"from sega.command import main\nsys.exit(main(['eval', 'store={tmp_path / 'runs'}', 'workers=0']))\n"
    )
    done = run(sys.executable, "-c", code, cwd=ROOT, check=False)
    assert done.returncode == 2 and "pip install 'sega-bench[eval]'" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
