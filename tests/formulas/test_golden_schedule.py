"""Time shifts against the schedulers of diffusers and the published codes."""

import re
from pathlib import Path

import numpy as np
import pytest

from sega.formulas.schedules import close, linear_grid, mu_for_tokens, shift_exponential, shift_static, stretch_terminal

VALUES = np.load(Path(__file__).parents[1] / "golden" / "schedule.npz")
SETTINGS = {"flux": (0.5, 1.15, 256, 4096), "qwen": (0.5, 0.9, 256, 8192)}
LISTS = sorted(key for key in VALUES.files if "/sigmas" in key)


@pytest.mark.parametrize("model", SETTINGS)
@pytest.mark.parametrize("rule", ["stock", "pinned"])
def test_mu(model, rule):
    actual = [mu_for_tokens(int(n), *SETTINGS[model], pinned=rule == "pinned") for n in VALUES["seq"]]
    np.testing.assert_allclose(actual, VALUES[f"{model}/mu_{rule}"], rtol=1e-9)


@pytest.mark.parametrize("key", LISTS)
def test_sigmas(key):
    family, name = key.split("/")
    steps, kind, value = re.fullmatch(r"sigmas_n(\d+)_(mu|shift)([\d.]+)", name).groups()
    value = float(value)
    if kind == "mu" and family == "qwen":
        # The names round mu to four places; the stored list has the full value.
        value = min(
            (float(mu) for rule in ("stock", "pinned") for mu in VALUES[f"qwen/mu_{rule}"]),
            key=lambda mu: abs(mu - value),
        )
    sigmas = (shift_exponential if kind == "mu" else shift_static)(linear_grid(int(steps)), value)
    if family == "qwen":
        sigmas = stretch_terminal(sigmas, 0.02)
    np.testing.assert_allclose(close(sigmas), VALUES[key], rtol=0, atol=1e-6)


def test_every_array_is_compared():
    compared = {"seq", *LISTS} | {f"{model}/mu_{rule}" for model in SETTINGS for rule in ("stock", "pinned")}
    assert set(VALUES.files) == compared
    assert {key.split("/")[0] for key in LISTS} == {"flux", "qwen", "imax", "hiflow"}
