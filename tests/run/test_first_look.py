"""What is told before Hydra is imported is what is told with it, and it is told without the imports."""

import subprocess
import sys
from pathlib import Path

import pytest
from test_wrong_words import WRONG

from sega.errors import RequestError
from sega.run import draft, first_look
from sega.run.hooks import NO_HOOKS
from sega.run.request import read_request

ROOT = Path(__file__).resolve().parents[2]
MORE = (
    ["metod=sega", "res=2x"],
    ["foo=1"],
    ["zzz=1", "res=2x"],
    ["model=zzz"],
    ["method=zzz"],
    ["eval=zzz"],
    ["prompts=zzz"],
    ["tracker=zzz"],
    ["experiment=zzz"],
    ["-m", "method=sega,zzz", "seeds=1,2"],
    ["method=segga", "stps=3"],
    ["stps=3", "model=flx"],
    ["method=segga", "model=flx"],
    ["method=sega", "method.kapa=1"],
    ["method=vanilla", "method.zzz=1"],
    ["method=hrdit", "method.grups=3", "res=2x"],
    ["res=big"],
    ["res=0x", "prompts.limit=two", "steps=many"],
    ["-m", "res=128x,256x256"],
    ["res=40x"],
)
RIGHT = (
    ["method=sega", "res=2x", "prompts.limit=1"],
    ["-m", "method=vanilla,sega", "res=512,2x"],
    ["experiment=null"],
    ["method=sega", "method.kappa=0.1"],
    ["seeds=1"],
    ["method.target=mine"],
    ["method=sega", "method.target=mine"],
    ["-m", "method=sega,hiflow", "method.base_steps=4"],
    ["res=null"],
    ["res=512x256", "method=vanilla"],
    ["method= pi"],
    ["-m", "method=pi, sega"],
)


def early(words):
    draft.check(first_look.check(words), NO_HOOKS)


def said(action, words):
    """The message about a line, None if nothing is wrong with it."""
    try:
        action(words)
    except RequestError as error:
        return str(error)
    return None


@pytest.mark.parametrize("words", [*(words for words, _ in WRONG), *MORE], ids=" ".join)
def test_it_says_what_hydra_would_say_or_nothing(words):
    words = words if any(word.startswith("model=") for word in words) else ["model=tiny", *words]
    first = said(early, words)
    assert first is None or first == said(read_request, words)


@pytest.mark.parametrize("words", MORE, ids=" ".join)
def test_it_does_say_something(words):
    assert said(early, words)


@pytest.mark.parametrize("words", RIGHT, ids=" ".join)
def test_a_right_line_passes(words):
    assert said(early, ["model=tiny", *words]) is None


@pytest.mark.parametrize("words", [["--help"], ["method=segga"], ["stps=3"]])
def test_neither_help_nor_a_slip_imports_much(words):
    code = (
        "import sys; from eval.hooks import HOOKS; from sega.run.cli import main; main(sys.argv[1:], HOOKS); "
        "print({'hydra', 'omegaconf', 'yaml', 'dataclasses', 'torch', 'sega.run.request'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "set()", done.stderr
