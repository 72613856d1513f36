"""Images of small random FLUX.2 and Z-Image with and without methods."""

import itertools
import sys

import numpy as np
import pytest
import torch
from doubles import Watching
from method_table import METHODS
from relatives_tiny import BUILD, small_geometry

from sega import attach
from sega.engine.sampling import generate, seeded
from sega.errors import RequestError
from sega.methods.base import Attention
from sega.methods.registry import build_method
from sega.methods.stepping import PLAIN, Late, Progressive, Stepping
from sega.models import adapter_for
from sega.testing.checks import state

PROMPT, LONGER, STEPS, TEXT = "a red boat in the sea", "a photo of a house on the sand at night " * 4, 2, 96
GUIDANCE = {"flux2": 4.0, "zimage": 0.0}
DIRECT = [row.name for row in METHODS if not row.staged]
STAGED = {row.name: row for row in METHODS if row.staged}
FAMILIES = tuple(BUILD)
LATE = Late("window", 0.5, 0.9)


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def pipe(family):
    return BUILD[family]()


def method(family, name, *overrides):
    from omegaconf import OmegaConf

    return build_method({"name": name, **OmegaConf.from_dotlist(list(overrides))}, small_geometry(family))


def stock(pipe, family, size, guidance=None):
    """The stock pipeline as anybody would call it, with the noise of the harness."""
    noise = torch.randn((1, 4, size[1] // 8, size[0] // 8), generator=seeded(0, PROMPT, size))
    image = pipe(
        prompt=PROMPT,
        width=size[0],
        height=size[1],
        num_inference_steps=STEPS,
        max_sequence_length=TEXT,
        latents=pipe._patchify_latents(noise) if family == "flux2" else noise,
        guidance_scale=GUIDANCE[family] if guidance is None else guidance,
    ).images[0]
    return np.asarray(image)


def made(pipe, family, method, size, guidance=None, **arguments):
    guidance = GUIDANCE[family] if guidance is None else guidance
    return generate(pipe, method, PROMPT, seed=0, size=size, steps=STEPS, guidance=guidance, **arguments)


def pixels(generated):
    return np.asarray(generated.image)


def test_stock_frequencies_give_the_stock_table(pipe, family):
    geometry, adapter = small_geometry(family), adapter_for(pipe)
    rope = method(family, "vanilla").positions((8, 8))
    if family == "flux2":
        ids = torch.tensor([[0, 3, 5, 0], [0, 0, 0, 7], [10, 2, 1, 0]])
        for ours, theirs in zip(adapter.table(rope, geometry, ids), pipe.transformer.pos_embed(ids), strict=True):
            torch.testing.assert_close(ours, theirs)
    else:
        ids = torch.tensor([[33, 3, 5], [7, 0, 0], [0, 0, 0]])
        torch.testing.assert_close(adapter.table(rope, geometry, ids), pipe.transformer.rope_embedder(ids))


def test_latents_are_packed_encoded_and_decoded_as_in_the_pipeline(pipe, family):
    adapter, latent = adapter_for(pipe), torch.randn(1, 4, 12, 20)
    assert adapter.latent_shape((160, 96)) == (1, 4, 12, 20)
    assert torch.equal(adapter.unpack(adapter.pack(latent), (6, 10)), latent)
    picture = adapter.decode(latent)
    assert picture.shape == (1, 3, 96, 160)
    if family == "flux2":
        tokens = pipe._pack_latents(pipe._patchify_latents(latent))
        assert torch.equal(adapter.pack(latent), tokens)
        with torch.no_grad():
            theirs = pipe._unpatchify_latents(pipe._encode_vae_image(picture, None))
        torch.testing.assert_close(adapter.encode(picture, None), theirs)


@pytest.mark.parametrize("name", DIRECT)
def test_up_to_the_training_size_a_method_is_the_stock_pipeline(pipe, family, name):
    size = (128, 80)
    done = made(pipe, family, method(family, name, "schedule=stock"), size)
    assert np.array_equal(pixels(done), stock(pipe, family, size)) and done.calls == STEPS


@pytest.mark.parametrize("name", DIRECT)
def test_attaching_changes_a_larger_image_and_removing_restores_it(pipe, family, name):
    before, untouched = state(pipe), stock(pipe, family, (192, 128))
    with attach(pipe, method(family, name, "schedule=stock")) as attachment:
        attached = stock(pipe, family, (192, 128))
        assert [step.index for step in attachment.steps if "probe" not in step.details] == [0, 1]
        assert attachment.steps[0].sigma == pytest.approx(1.0) and attachment.steps[0].grid == (8, 12)
    assert state(pipe) == before
    assert np.array_equal(stock(pipe, family, (192, 128)), untouched)
    assert np.array_equal(attached, untouched) == (name in ("vanilla", "mix"))


@pytest.mark.parametrize("name", STAGED)
def test_staged_methods_run(pipe, family, name):
    quick = [*STAGED[name].quick, f"base_guidance={GUIDANCE[family]}"]
    if family == "flux2" and name in ("imax", "hiflow"):  # its pipeline cuts the velocity to the size asked for
        with pytest.raises(RequestError, match="shift_windows=false"):
            made(pipe, family, method(family, name, *quick), (256, 256))
        quick.append("shift_windows=false")
    usual = made(pipe, family, method(family, name, *quick), (256, 256))
    assert pixels(usual).shape == (256, 256, 3)


@pytest.mark.parametrize("name", ["vanilla", "sega"])
def test_an_attention_part_that_changes_nothing_changes_no_bit(pipe, family, name, monkeypatch):
    plain, calls = made(pipe, family, method(family, name), (192, 128)), []

    class Sharper(Attention):
        def factor(self, call):
            return 3.0

    monkeypatch.setattr(type(method(family, name)), "attention", lambda self, index, run: Watching(calls))
    assert np.array_equal(pixels(made(pipe, family, method(family, name), (192, 128))), pixels(plain))
    assert {(call.layer, call.layers) for call in calls} == {(0, 2), (1, 2)}
    assert all(call.q.shape[1] - call.text == 8 * 12 for call in calls)
    monkeypatch.setattr(type(method(family, name)), "attention", lambda self, index, run: Sharper())
    assert not np.array_equal(pixels(made(pipe, family, method(family, name), (192, 128))), pixels(plain))


def test_the_shift_is_that_of_the_training_size():
    """mu of FLUX.2 falls at 4300 tokens: only a look-up tells larger sizes from smaller ones."""
    from diffusers.pipelines.flux2.pipeline_flux2 import compute_empirical_mu

    from sega.models.flux2 import EmpiricalLine

    line = EmpiricalLine({}, 4096)
    for steps in (2, 28, 50):
        assert line.pinned(steps) == compute_empirical_mu(4096, steps)
        sizes = (1, 17, 256, 1000, 4095, 4096, 4097, 4225, 4356, 6400, 7000, 8100, 9216, 16384, 65536)
        assert [n for n in sizes if line.beyond(compute_empirical_mu(n, steps), steps)] == [
            n for n in sizes if n > 4096
        ]


@pytest.mark.parametrize("family", ["flux2"], indirect=True)
@pytest.mark.parametrize("name", ["vanilla", "sega"])
def test_embedded_guidance_is_read_as_given(pipe, family, name):
    """One call a step; the image is the stock pipeline's at that guidance, and no two of a sweep are equal."""
    seen = []
    reader = pipe.transformer.time_guidance_embed
    hook = reader.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1].item() / 1000))
    try:
        sweep = [made(pipe, family, method(family, name), (192, 128), guidance=value) for value in (1.0, 2.0, 3.5)]
    finally:
        hook.remove()
    assert seen == pytest.approx([value for value in (1.0, 2.0, 3.5) for _ in range(STEPS)])
    assert all([step.branch for step in done.steps] == ["cond"] * STEPS == ["cond"] * done.calls for done in sweep)
    for one, other in itertools.combinations(sweep, 2):
        assert not np.array_equal(pixels(one), pixels(other))
    for value in (1.0, 3.5):
        small = made(pipe, family, method(family, name), (128, 128), guidance=value)
        assert np.array_equal(pixels(small), stock(pipe, family, (128, 128), guidance=value))


@pytest.mark.parametrize("family", ["zimage"], indirect=True)
def test_guidance_in_one_call(pipe, family):
    """Z-Image runs a prompt and its negative together; methods that read the content one after the other."""
    small = made(pipe, family, method(family, "sega"), (128, 128), guidance=2.0)
    assert np.array_equal(pixels(small), stock(pipe, family, (128, 128), guidance=2.0)) and small.calls == 2 * STEPS
    large = made(pipe, family, method(family, "sega"), (192, 128), guidance=2.0)
    assert [(step.index, step.branch) for step in large.steps] == [
        (0, "cond"),
        (0, "uncond"),
        (1, "cond"),
        (1, "uncond"),
    ] and large.calls == 2 * STEPS
    focus = made(pipe, family, method(family, "ultraimage"), (192, 128), guidance=2.0)
    assert {step.branch for step in focus.steps} == {"cond", "uncond"}
    assert not np.array_equal(pixels(large), stock(pipe, family, (192, 128), guidance=2.0))


@torch.no_grad()
def test_counted_operations_are_those_that_torch_counts(pipe, family):
    from torch.utils.flop_counter import FlopCounterMode

    from sega.formulas.flops import call_flops

    transformer = pipe.transformer
    if family == "flux2":
        call = {
            "hidden_states": torch.randn(1, 96, 16),
            "encoder_hidden_states": torch.randn(1, 40, 48),
            "timestep": torch.ones(1),
            "guidance": torch.ones(1),
            "img_ids": torch.zeros(96, 4),
            "txt_ids": torch.zeros(40, 4),
        }
    else:
        call = {"x": [torch.randn(4, 1, 16, 24)], "t": torch.zeros(1), "cap_feats": [torch.randn(40, 16)]}
    with FlopCounterMode(display=False) as counter:
        transformer(**call)
    config = {"_class_name": type(transformer).__name__, **transformer.config}
    assert call_flops(config, 96, 40) == counter.get_total_flops()


def test_what_does_not_fit_is_refused(pipe, family):
    with pytest.raises(RequestError, match="text_duplication=false"):
        adapter_for(pipe).put_text({}, [(0, 0), (8, 0)])
    with pytest.raises(RequestError, match="text_duplication"):
        method(family, "imax", "text_duplication=true")
    other = next(item for item in FAMILIES if item != family)
    with pytest.raises(RequestError, match="name of this model"):
        attach(pipe, method(other, "sega"))
    if family == "flux2":
        with pytest.raises(RequestError, match="negative_prompt=null"):
            made(pipe, family, method(family, "vanilla"), (128, 128), negative_prompt="blur")


def test_a_saved_pipeline_goes_through_the_runner(pipe, family, monkeypatch, capsys, tmp_path):
    from sega.run.cli import main

    pipe.save_pretrained(tmp_path / "pipeline", safe_serialization=True)
    monkeypatch.setattr("sega.loading.weights.HASHES", tmp_path / "weights.json")
    words = [
        f"model={family}",
        f"model.path={tmp_path / 'pipeline'}",
        "model.dtype=float32",
        "model.geometry.train_tokens=8",
        "model.geometry.sega_train_tokens=8",
        f"model.geometry.text_tokens={512 if family == 'flux2' else TEXT}",
        f"model.text_cache={tmp_path / 'text'}",
        f"store={tmp_path / 'runs'}",
        "steps=2",
        "device=cpu",
        f"prompts.text={PROMPT}",
        "res=192x128",
    ]
    for name in ("sega", "ultraimage"):
        monkeypatch.setattr(sys, "argv", ["run.py", *words, f"method={name}"])
        assert main([*words, f"method={name}"]) == 0, capsys.readouterr().err
    assert len(sorted((tmp_path / "runs").glob(f"{family}/*/192x128/*/*.png"))) == 2


@pytest.mark.parametrize("keys", [{"solver": "heun", "progressive": Progressive(0.05)}, {"late_attention": LATE}])
def test_steps_that_are_not_the_schedulers_own(pipe, family, keys):
    size, adapter = (256, 384), adapter_for(pipe)
    exact = generate(pipe, method(family, "sega"), PROMPT, size=size, steps=4, guidance=GUIDANCE[family])
    adapter.stepping = Stepping(**keys)
    try:
        found = generate(pipe, method(family, "sega"), PROMPT, size=size, steps=4, guidance=GUIDANCE[family])
    finally:
        adapter.stepping = PLAIN
    grids, whole = [step.grid for step in found.steps], exact.steps[0].grid
    if "progressive" in keys:
        assert grids[0] == (whole[0] // 2, whole[1] // 2) and found.calls == 2 * exact.calls - 1
    assert grids[-1] == whole and found.full_calls < found.calls
    assert not np.array_equal(np.asarray(found.image), np.asarray(exact.image))
