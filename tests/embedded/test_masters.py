"""Training in bfloat16 with float32 weights behind it."""

import copy

import pytest
import torch
from pretended import PretendedGPU, moved

from sega.embedded.model import build_text_encoders, build_transformer
from sega.embedded.training.flow import loss_of
from sega.embedded.training.masters import ADAM_LR, MUON_LR, TEXT_LR, Masters
from sega.embedded.training.precision import autocast


@pytest.fixture
def modules():
    torch.manual_seed(0)
    return torch.nn.ModuleList([build_transformer(heads=1, double=1, single=1), *build_text_encoders()])


def backward(masters):
    latents = torch.randn(2, 16, 32, generator=torch.Generator().manual_seed(1))
    ids = torch.randint(3, 20, (2, 24), generator=torch.Generator().manual_seed(2))
    loss = loss_of(masters.running, latents, ids, (4, 4), torch.Generator().manual_seed(3))
    loss.backward()
    return loss.item()


def test_a_step_moves_float32_weights_and_the_modules_that_run_are_their_bfloat16(modules):
    masters = Masters(modules, "cpu", dtype=torch.bfloat16)
    before = copy.deepcopy(masters.weights)
    backward(masters)
    assert all(p.grad is not None for p in masters.running.parameters())
    masters.step(1.0, 0.75)
    for old, new, run, mean in zip(
        *(part.parameters() for part in (before, masters.weights, masters.running, masters.average)), strict=True
    ):
        assert (new.dtype, run.dtype, mean.dtype) == (torch.float32, torch.bfloat16, torch.float32)
        assert torch.equal(run, new.bfloat16()) and run.grad is None
        torch.testing.assert_close(mean, 0.75 * old + 0.25 * new)
    assert not torch.equal(before[0].x_embedder.weight, masters.weights[0].x_embedder.weight)


def test_steps_too_small_for_bfloat16_add_up(modules):
    """A rate of 1e-5 a step changes no bfloat16 weight near 1; two hundred of them do."""
    masters = Masters(modules, "cpu", dtype=torch.bfloat16)
    norm = "transformer_blocks.0.attn.norm_q.weight"
    weights, running = (dict(part[0].named_parameters())[norm] for part in (masters.weights, masters.running))
    backward(masters)
    masters.step(1e-5 / ADAM_LR, 0.9)
    assert (running == 1).all() and (weights != 1).any()
    for _ in range(200):
        for parameter in masters.running.parameters():
            parameter.grad = torch.full_like(parameter, 0.01)
        masters.step(1e-4 / ADAM_LR, 0.9)
    assert (running < 1).any()


def test_the_loss_of_one_batch_falls(modules):
    masters = Masters(modules, "cpu")
    losses = []
    for _ in range(25):
        losses.append(backward(masters))
        masters.step(1.0, 0.9)
    assert losses[-1] < 0.8 * losses[0]


def test_muon_has_the_matrices_of_the_blocks_and_every_weight_one_optimizer(modules):
    masters = Masters(modules, "cpu", rate=0.4)
    muon, adam = masters.optimizers
    assert all(p.ndim == 2 for group in muon.param_groups for p in group["params"])
    held = [p for one in masters.optimizers for group in one.param_groups for p in group["params"]]
    assert len(held) == len({id(p) for p in held}) == len(list(masters.weights.parameters()))
    assert [rate for _, rate in masters.rates] == pytest.approx([0.4 * rate for rate in (MUON_LR, ADAM_LR, TEXT_LR)])
    backward(masters)
    masters.step(0.5, 0.9)
    assert [group["lr"] for group, _ in masters.rates] == pytest.approx([0.2 * r for r in (MUON_LR, ADAM_LR, TEXT_LR)])


def test_the_loss_mixes_no_devices_and_waits_for_no_gpu(modules):
    parts = moved(modules.bfloat16())
    with torch.no_grad(), PretendedGPU() as gpu:
        latents, ids = torch.randn(2, 16, 32).to("meta"), torch.randint(3, 20, (2, 24)).to("meta")
        for teacher in (None, parts):
            loss_of(parts, latents, ids, (4, 4), None, teacher)  # the first call moves the weights of the places
            gpu.waits.clear()
            loss_of(parts, latents, ids, (4, 4), None, teacher)
            assert gpu.waits == []


@pytest.mark.parametrize(("cpu", "dtype"), [("AVX2", torch.float32), ("AVX512", torch.bfloat16)])
def test_a_cpu_without_bfloat16_trains_in_float32(modules, monkeypatch, cpu, dtype):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: cpu)
    assert {p.dtype for p in Masters(modules, "cpu").running.parameters()} == {dtype}
    layer, x = torch.nn.Linear(2, 2), torch.ones(1, 2)
    with autocast("cpu"):
        assert layer(x).dtype == dtype
