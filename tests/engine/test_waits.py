"""What a step waits for on a GPU, on one that is pretended."""

import copy
from unittest.mock import patch

import pytest
import torch
from pretended import PretendedGPU, moved

from sega import attach, load_method, load_pipeline
from sega.engine.clock import Clock
from sega.formulas import spectrum
from sega.models.flux_tables import rotary_table
from sega.models.qwen_tables import image_table, text_table
from sega.models.row_ids import image_ids

POSITIONS = ("vanilla", "pi", "ntk", "yarn", "dype", "sigma", "tasr", "vision_yarn", "sega", "ultraimage", "window")
DIRECT = (*POSITIONS, "resdit", "area")
TIMES = (0.9, 0.7, 0.4)
GRID = (30, 36)


@pytest.fixture(scope="module")
def transformer():
    return moved(copy.deepcopy(load_pipeline("tiny").transformer))


def call(transformer, time):
    generator, config = torch.Generator().manual_seed(0), transformer.config

    def random(*shape):
        return torch.randn(*shape, generator=generator).to("meta")

    return {
        "hidden_states": random(1, GRID[0] * GRID[1], config.in_channels),
        "encoder_hidden_states": random(1, 24, config.joint_attention_dim),
        "pooled_projections": random(1, config.pooled_projection_dim),
        "guidance": torch.full((1,), 3.5).to("meta"),
        "timestep": torch.full((1,), time).to("meta"),
    }


@pytest.mark.parametrize("name", DIRECT)
def test_a_step_waits_for_its_time_alone(transformer, name):
    attached = attach(transformer, load_method(name, "tiny"))
    # Some methods count the steps of a scheduler, which there is none of.
    with (
        patch.object(Clock, "sigmas", lambda self: TIMES),
        torch.no_grad(),
        PretendedGPU() as gpu,
        attached as attachment,
    ):
        ids = {"img_ids": image_ids(GRID, "meta"), "txt_ids": torch.zeros(24, 3).to("meta")}
        for number, time in enumerate(TIMES):
            given = call(transformer, time) | ids
            gpu.waits.clear()
            transformer(**given, return_dict=False)
            if number:  # the first call of a size reads the grid from the ids and moves tables of bins
                detail = name == "area" and number == 2  # windows are cut where the latent has little detail
                assert gpu.waits == ["aten._to_copy"] * (2 if detail else 1), name
        taken = [step.sigma for step in attachment.steps if "probe" not in step.details]
        assert taken == pytest.approx(TIMES)
        details = attachment.steps[-1].details
    if name == "sega":
        assert 0 < details["strength"] <= 1 and isinstance(details["flatness"], float)


@pytest.mark.parametrize("family", ["flux", "qwen"])
@pytest.mark.parametrize("name", POSITIONS)
def test_tables_made_there_are_those_made_here(name, family):
    method, tokens = load_method(name, family), torch.randn(96 * 72, 16, generator=torch.Generator().manual_seed(1))

    def tables(device):
        rope = method.positions((96, 72), 0.6, tokens.to(device))
        if family == "flux":
            return rotary_table(image_ids((96, 72), device), rope, method.geometry)
        return tuple(
            torch.view_as_real(table)
            for table in (
                image_table((96, 72), rope, method.geometry, device),
                text_table((96, 72), 7, rope, method.geometry, device),
            )
        )

    here = tables("cpu")
    with PretendedGPU():
        there = tables("meta")
    for own, other in zip(here, there, strict=True):
        assert other.device.type == "meta"
        torch.testing.assert_close(other.inner, own, rtol=0, atol=1e-6)


@pytest.mark.parametrize("grid", [(17, 40), (24, 24), (9, 13)])
def test_both_ways_to_add_a_bin(grid):
    u = torch.randn(grid, generator=torch.Generator().manual_seed(2))
    cpu = torch.device("cpu")
    for bins, values in (
        (spectrum._radial_bins(*grid, cpu), u.square().flatten()),
        (spectrum._axis_bins(grid[1], "reference", cpu), u[0, : grid[1] // 2 + 1]),
        (spectrum._axis_bins(grid[0], "exact", cpu), u[: grid[0] // 2 + 1, 0]),
    ):
        torch.testing.assert_close(bins.listed(values) / bins.counts, bins.mean(values), rtol=1e-6, atol=1e-6)


def test_the_pretended_gpu_finds_what_waits():
    with PretendedGPU() as gpu:
        x = torch.ones(4, 4).to("meta", non_blocking=True)
        assert gpu.waits == []
        x.cpu()
        float(x.sum())
        x[x > 0]
        x.unique()
        torch.ones(3, 3).to("meta")
        assert len(gpu.waits) >= 5, gpu.waits
        with pytest.raises(RuntimeError, match="two devices"):
            x + torch.ones(4, 4)
