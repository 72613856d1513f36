"""TASR against values of Lumina-Next's code."""

from pathlib import Path

import numpy as np
import pytest
import torch

from sega import load_method
from sega.formulas import rope

VALUES = np.load(Path(__file__).parents[1] / "golden" / "tasr.npz")
CASES = sorted({key.rsplit("/", 1)[0] for key in VALUES.files if "/" in key})
TABLES = [f"d112/s{scale}/w0.3" for scale in ("1.5", "2.0", "4.0")]  # the cases whose tables are stored
THETA = 10000.0


@pytest.mark.parametrize("case", CASES)
def test_frequencies_branches_and_tables(case):
    head, scale, watershed = case.split("/")
    dim, scale, watershed = int(head[1:]) // 2, float(scale[1:]), float(watershed[1:])
    assert watershed in VALUES["watersheds"]
    base = rope.base_frequencies(dim, THETA)
    for index, time in enumerate(VALUES["times"]):
        ours = rope.tasr(dim, THETA, scale, float(time), watershed)
        np.testing.assert_allclose(ours, VALUES[f"{case}/freq"][index], rtol=1e-6)
        assert int(ours[0] == base[0]) == VALUES[f"{case}/branch"][index]
        if case not in TABLES:
            continue
        height, width = (torch.outer(torch.from_numpy(VALUES[name]).double(), ours) for name in ("rows", "cols"))
        phases = torch.stack([height, width], dim=-1).flatten(1)
        np.testing.assert_allclose(phases.cos(), VALUES[f"{case}/cis_re"][index], rtol=0, atol=1e-5)
        np.testing.assert_allclose(phases.sin(), VALUES[f"{case}/cis_im"][index], rtol=0, atol=1e-5)


def test_every_array_is_compared():
    keys = [key.split("/") for key in VALUES.files]
    for case in CASES:
        stored = {key[3] for key in keys if "/".join(key[:3]) == case}
        assert stored == {"freq", "branch"} | ({"cis_re", "cis_im"} if case in TABLES else set())
    assert {key[0] for key in keys if len(key) == 1} == {"times", "watersheds", "rows", "cols"}


@pytest.mark.parametrize("model, side", [("flux", 64), ("qwen", 83)])
def test_the_method_switches_by_lumina_time_with_the_ratio_of_areas(model, side):
    method = load_method("tasr", model)
    for grid, scale in (((2 * side, 2 * side), 2.0), ((side, 4 * side), 2.0), ((side, 2 * side), 2**0.5)):
        for sigma, rule in ((1.0, "pi"), (0.71, "pi"), (0.7, "base"), (0.0, "base")):
            expected = rope.base_frequencies(56, THETA) / scale
            if rule == "base":
                expected = rope.base_frequencies(56, THETA * scale)
            positions = method.positions(grid, sigma)
            for axis in (positions.height, positions.width):
                torch.testing.assert_close(axis.frequencies, expected, rtol=1e-12, atol=0)
                assert (axis.magnitudes == 1).all()


def test_the_watershed_moves_the_change():
    early, late = (load_method("tasr", overrides=[f"watershed={value}"]) for value in (0.0, 1.0))
    base = rope.base_frequencies(56, THETA)
    assert early.positions((128, 128), 1.0).height.frequencies[0] == base[0]
    assert late.positions((128, 128), 0.01).height.frequencies.equal(base / 2)
    assert load_method("tasr").positions((32, 64)).stock
