"""The sigmas that stages run with, through the stock scheduler, against those of the published codes."""

import re
from pathlib import Path

import numpy as np
import pytest
from diffusers import FlowMatchEulerDiscreteScheduler

from sega.engine.timeshift import stage_sigmas
from sega.formulas.schedules import mu_for_tokens
from sega.methods.types import Stage

VALUES = np.load(Path(__file__).parents[1] / "golden" / "schedule.npz")
SETTINGS = {"flux": (0.5, 1.15, 256, 4096), "qwen": (0.5, 0.9, 256, 8192)}
LISTS = sorted(key for key in VALUES.files if "/sigmas" in key)


def scheduler(family):
    """The scheduler of the published model; I-Max and HiFlow run on FLUX."""
    base, largest, few, many = SETTINGS.get(family, SETTINGS["flux"])
    return FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True,
        base_shift=base,
        max_shift=largest,
        base_image_seq_len=few,
        max_image_seq_len=many,
        shift_terminal=0.02 if family == "qwen" else None,
    )


@pytest.mark.parametrize("model", SETTINGS)
def test_mu_of_the_stock_pipelines(model):
    actual = [mu_for_tokens(int(n), *SETTINGS[model]) for n in VALUES["seq"]]
    np.testing.assert_allclose(actual, VALUES[f"{model}/mu_stock"], rtol=1e-9)


@pytest.mark.parametrize("key", LISTS)
def test_sigmas(key):
    family, name = key.split("/")
    steps, kind, value = re.fullmatch(r"sigmas_n(\d+)_(mu|shift)([\d.]+)", name).groups()
    model = family if family in SETTINGS else "flux"
    if kind == "shift":
        ways = [(float(value), 65536)]  # a static shift, whatever the size
    elif np.allclose(float(value), VALUES[f"{model}/mu_pinned"]):
        ways = [("pinned", int(tokens)) for tokens in VALUES["seq"]]
    else:
        found = np.isclose(float(value), VALUES[f"{model}/mu_stock"], atol=1e-4)
        ways = [("stock", int(tokens)) for tokens in VALUES["seq"][found]]
    assert ways
    for schedule, tokens in ways:
        stage = Stage((0, 0), int(steps), 3.5, schedule)
        np.testing.assert_allclose(stage_sigmas(scheduler(family), stage, tokens), VALUES[key], rtol=0, atol=1e-6)


def test_every_array_is_compared():
    compared = {"seq", *LISTS} | {f"{model}/mu_{rule}" for model in SETTINGS for rule in ("stock", "pinned")}
    assert set(VALUES.files) == compared
    assert {key.split("/")[0] for key in LISTS} == {"flux", "qwen", "imax", "hiflow"}
