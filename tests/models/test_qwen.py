"""Images of a small random Qwen-Image with and without methods."""

import sys
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from doubles import Watching
from method_table import METHODS

from sega import attach, load_method
from sega.engine.recorder import Observation
from sega.engine.sampling import generate, seeded
from sega.errors import RequestError
from sega.methods.base import Attention, Method, uniform_axis
from sega.methods.registry import build_method
from sega.models import adapter_for
from sega.testing.checks import state
from sega.testing.qwen import build_pipeline, small_geometry

PROMPT, LONGER, STEPS, GUIDANCE = "a red boat in the sea", "a photo of a house on the sand at night", 2, 4.0
GEOMETRY = small_geometry()
DIRECT = [row.name for row in METHODS if not row.staged]
STAGED = {row.name: row for row in METHODS if row.staged}


@pytest.fixture(scope="module")
def pipe():
    return build_pipeline()


def method(name, *overrides):
    """A method of the small geometry."""
    from omegaconf import OmegaConf

    return build_method({"name": name, **OmegaConf.from_dotlist(list(overrides))}, GEOMETRY)


def stock(pipe, size, guidance=GUIDANCE, prompt=PROMPT):
    """The stock pipeline as anybody would call it, with the noise of the harness."""
    noise = torch.randn((1, 4, size[1] // 8, size[0] // 8), generator=seeded(0, prompt, size))
    noise = pipe._pack_latents(noise[:, :, None], 1, 4, size[1] // 8, size[0] // 8)
    image = pipe(
        prompt,
        negative_prompt=" ",
        true_cfg_scale=guidance,
        width=size[0],
        height=size[1],
        latents=noise,
        num_inference_steps=STEPS,
    ).images[0]
    return np.asarray(image)


def made(pipe, method, size, guidance=GUIDANCE, **arguments):
    return generate(
        pipe, method, PROMPT, seed=0, size=size, steps=STEPS, guidance=guidance, negative_prompt=" ", **arguments
    )


def pixels(generated):
    return np.asarray(generated.image)


@pytest.mark.parametrize("shape", [(1, 1), (1, 0.6)], ids=str)
@pytest.mark.parametrize("name", DIRECT)
def test_up_to_the_training_size_a_method_is_the_stock_pipeline(pipe, name, shape):
    native = GEOMETRY.sega_train_tokens if name == "sega" else GEOMETRY.train_tokens
    size = tuple(int(native * side) * 16 for side in shape)
    done = made(pipe, method(name, "schedule=stock"), size)
    assert np.array_equal(pixels(done), stock(pipe, size))
    assert [(step.index, step.branch) for step in done.steps if "probe" not in step.details] == [
        (0, "cond"),
        (0, "uncond"),
        (1, "cond"),
        (1, "uncond"),
    ]


@pytest.mark.parametrize("name", STAGED)
def test_staged_methods_run(pipe, name):
    """At the training size the stock image; beyond it another one, whatever positions the later stages use."""
    quick = [*STAGED[name].quick, f"base_guidance={GUIDANCE}"]
    if name == "hrdit":
        quick.append("spa_steps=[1]")  # on these steps positions are the method's own
    shift = ["schedule=pinned"] if name == "imax" else []
    small = made(pipe, method(name, *quick, *shift), (160, 160))
    assert np.array_equal(pixels(small), pixels(made(pipe, method("vanilla"), (160, 160))))
    usual = made(pipe, method(name, *quick), (256, 256))
    assert pixels(usual).shape == (256, 256, 3)
    if name not in ("upsample", "pixelrush"):  # whose passes are all at the training size
        with_sega = made(pipe, method(name, *quick, "positions_of=sega"), (256, 256))
        assert not np.array_equal(pixels(with_sega), pixels(usual)) and with_sega.steps[-1].details["strength"] > 0


def test_guidance_of_a_stage_is_true_guidance(pipe):
    guided = made(pipe, method("hiflow", "base_steps=2", "steps=[2]", "guidance=[4.0]"), (320, 320))
    assert [step.branch for step in guided.steps if step.stage == 1] == ["cond", "uncond"] * 2
    plain = made(pipe, method("hiflow", "base_steps=2", "steps=[2]", "guidance=[1.0]"), (320, 320))
    assert [step.branch for step in plain.steps if step.stage == 1] == ["cond"] * 2
    with pytest.raises(RequestError, match="negative_prompt"):
        generate(pipe, method("vanilla"), PROMPT, seed=0, size=(128, 128), steps=STEPS, guidance=GUIDANCE)
    alone = generate(
        pipe, method("vanilla", "schedule=stock"), PROMPT, seed=0, size=(128, 128), steps=STEPS, guidance=1.0
    )
    assert alone.calls == STEPS and np.array_equal(pixels(alone), stock(pipe, (128, 128), guidance=1.0))


@pytest.mark.parametrize("name", DIRECT)
def test_attaching_changes_a_larger_image_and_removing_restores_it(pipe, name):
    before, untouched = state(pipe), stock(pipe, (256, 128))
    with attach(pipe, method(name)):
        attached = stock(pipe, (256, 128))
        assert np.array_equal(attached, stock(pipe, (256, 128)))
    assert state(pipe) == before
    assert np.array_equal(stock(pipe, (256, 128)), untouched)
    if name not in ("vanilla", "mix", "dype"):  # these differ by the shift alone, and not by it: tested below
        assert not np.array_equal(attached, untouched)


def test_the_shift_is_pinned_and_the_last_time_kept(pipe):
    from shifts import shift_exponential, stretch_terminal

    from sega.formulas.schedules import linear_grid, mu_for_tokens

    for schedule, mu in (("pinned", 0.9), ("stock", mu_for_tokens(400, 0.5, 0.9, 256, 8192))):
        done = made(pipe, method("vanilla", f"schedule={schedule}"), (320, 320), observe=Observation(exact_time=True))
        expected = stretch_terminal(shift_exponential(linear_grid(STEPS), mu))
        assert [step.sigma for step in done.steps[::2]] == pytest.approx(expected, abs=1e-6)
    assert done.steps[-1].sigma == pytest.approx(0.02, abs=1e-6)
    assert np.array_equal(pixels(done), stock(pipe, (320, 320)))


def test_dype_moves_with_time_only_as_described(pipe):
    """As published it stands still on this model; `time=sigma` fades. Nothing of either stays in the model."""
    untouched = stock(pipe, (256, 128))
    seen = {}
    for time in ("as_run", "sigma"):
        with attach(pipe, method("dype", f"time={time}")) as attachment:
            tables = seen[time] = []
            hook = attachment.transformer.pos_embed.register_forward_hook(lambda *a, to=tables: to.append(a[2][0]))
            stock(pipe, (256, 128))
            hook.remove()
    assert not torch.equal(seen["sigma"][0], seen["sigma"][2]) and torch.equal(seen["sigma"][0], seen["sigma"][1])
    torch.testing.assert_close(seen["as_run"][0], seen["as_run"][2], rtol=0, atol=1e-2)
    assert np.array_equal(stock(pipe, (256, 128)), untouched)


def test_sega_without_its_spectral_part_is_its_uniform_base(pipe):
    from sega.formulas.rope import base_frequencies

    @dataclass(frozen=True)
    class Uniform(Method):
        """r = 2 across, 1 down: the factor f of the width, 1 + (f - 1) / 2 for the height; magnitude 2^0.08."""

        def positions(self, grid, sigma=1.0, tokens=None):
            wide = 2 ** (2 * 56 / 54) / (1 + 0.1 * np.log(2))
            factors = (1 + (wide - 1) / 2, wide)
            return self.rope(*(uniform_axis(base_frequencies(56, 10000 * f), 2**0.08) for f in factors))

    with attach(pipe, method("sega", "amplitude=0")):
        without = stock(pipe, (256, 128))
    with attach(pipe, Uniform(GEOMETRY)):
        uniform = stock(pipe, (256, 128))
    with attach(pipe, method("sega")):
        assert not np.array_equal(stock(pipe, (256, 128)), uniform)
    assert np.array_equal(without, uniform)


def test_sega_ties_the_height_to_the_width(pipe):
    def magnitudes(size, *overrides):
        done = made(pipe, method("sega", *overrides), size, observe=Observation(("magnitudes",)))
        return [step.details["magnitudes"] for step in done.steps], pixels(done)

    tall, tied = magnitudes((128, 256))
    assert all((axis == 1).all() for pair in tall for axis in pair)
    free, untied = magnitudes((128, 256), "tie_axes=false")
    assert all((height > 1).any() and (width == 1).all() for height, width in free)
    assert not np.array_equal(tied, untied)
    wide, _ = magnitudes((256, 128))
    assert all(torch.equal(height, width) and (width > 1).any() for height, width in wide)


@torch.no_grad()
def inputs(pipe, prompts, size, padded=True):
    """Arguments of one transformer call for these prompts, as the pipeline makes them."""
    embeds, mask = pipe.encode_prompt(prompts)
    shape = (4, size[1] // 8, size[0] // 8)
    noise = torch.stack([torch.randn(shape, generator=seeded(0, prompt, size)) for prompt in prompts])
    return {
        "hidden_states": adapter_for(pipe).pack(noise),
        "encoder_hidden_states": embeds,
        "encoder_hidden_states_mask": mask,
        "timestep": torch.full((len(prompts),), 0.7),
        "img_shapes": [[(1, size[1] // 16, size[0] // 16)]] * len(prompts),
        "return_dict": False,
    }


@pytest.mark.parametrize("override", ["source=embedded", "source=latent"])
def test_a_batch_of_two_is_two_batches_of_one(pipe, override):
    """Prompts of two lengths: in a batch the pipeline pads and masks the shorter one."""
    transformer, batch = pipe.transformer, inputs(pipe, [PROMPT, LONGER], (256, 128))
    lengths = batch["encoder_hidden_states_mask"].sum(1).tolist()
    assert lengths[0] < lengths[1] == batch["encoder_hidden_states"].shape[1]
    # One at a time the same embeddings, which the text encoder rounds differently in another batch.
    single = [
        batch
        | {key: batch[key][i : i + 1] for key in ("hidden_states", "timestep", "img_shapes")}
        | {"encoder_hidden_states": batch["encoder_hidden_states"][i : i + 1, :length]}
        | {"encoder_hidden_states_mask": None}
        for i, length in enumerate(lengths)
    ]
    with torch.no_grad(), attach(transformer, method("sega", override)) as attachment:
        both = transformer(**batch)[0]
        assert len(attachment.steps) == 2 and attachment.steps[0].index == attachment.steps[1].index
        assert torch.equal(both, torch.cat([transformer(**one)[0] for one in single]))
    with torch.no_grad(), attach(transformer, method("sega", override, "batch=joint")) as attachment:
        joint = transformer(**batch)[0]
        assert len(attachment.steps) == 1 and not torch.equal(joint, both)
    with torch.no_grad(), attach(transformer, method("ntk")) as attachment:
        together = transformer(**batch)[0]
        assert len(attachment.steps) == 1
        apart = torch.cat([transformer(**one)[0] for one in single])
        torch.testing.assert_close(together, apart, rtol=1e-4, atol=1e-4)


def test_samples_of_a_batch_are_cut_apart(pipe):
    adapter = adapter_for(pipe)
    call = adapter.bind((), inputs(pipe, [PROMPT, LONGER], (128, 128))) | {
        "img_shapes": [[(1, 8, 8)]],
        "guidance": torch.tensor([1.0, 2.0]),
        "controlnet_block_samples": (torch.eye(2),),
    }
    first, second = adapter.samples(call)
    assert first["img_shapes"] == second["img_shapes"] == [[(1, 8, 8)]]
    assert second["guidance"].tolist() == [2.0] and second["controlnet_block_samples"][0].tolist() == [[0.0, 1.0]]
    assert first["timestep"].shape == (1,) and torch.equal(second["hidden_states"], call["hidden_states"][1:])
    assert first["encoder_hidden_states_mask"] is None and second["encoder_hidden_states_mask"] is None
    holes = call["encoder_hidden_states_mask"].clone()
    holes[:, 1] = 0
    first, _ = adapter.samples(call | {"encoder_hidden_states_mask": holes})
    assert torch.equal(first["encoder_hidden_states_mask"], holes[:1])
    assert first["encoder_hidden_states"].shape == call["encoder_hidden_states"][:1].shape


def test_latents_are_packed_and_decoded_as_in_the_pipelines(pipe):
    from diffusers import QwenImageImg2ImgPipeline

    adapter, latent = adapter_for(pipe), torch.randn(1, 4, 12, 20)
    packed = adapter.pack(latent)
    assert torch.equal(packed, pipe._pack_latents(latent[:, :, None], 1, 4, 12, 20))
    assert torch.equal(adapter.unpack(packed, (6, 10)), pipe._unpack_latents(packed, 96, 160, 8)[:, :, 0])
    assert adapter.latent_shape((160, 96)) == (1, 4, 12, 20)
    picture = adapter.decode(latent)
    assert picture.shape == (1, 3, 96, 160)
    with torch.no_grad():
        oracle = QwenImageImg2ImgPipeline(**pipe.components)
        drawn = oracle._encode_vae_image(picture[:, :, None], torch.Generator().manual_seed(3))[:, :, 0]
    torch.testing.assert_close(adapter.encode(picture, torch.Generator().manual_seed(3)), drawn)
    mode = adapter.encode(picture, None)
    assert torch.equal(mode, adapter.encode(picture, None)) and not torch.equal(mode, drawn)
    call = adapter.bind((), inputs(pipe, [PROMPT], (128, 128)))
    other = adapter.put_latent(call, latent)
    assert adapter.grid(other) == (6, 10) and torch.equal(other["hidden_states"], packed)


@pytest.mark.parametrize("name", ["vanilla", "yarn", "sega"])
def test_an_attention_part_that_changes_nothing_changes_no_bit(pipe, name, monkeypatch):
    plain, calls = made(pipe, method(name), (256, 128)), []

    monkeypatch.setattr(type(method(name)), "attention", lambda self, index, run: Watching(calls))
    watched = made(pipe, method(name), (256, 128))
    assert np.array_equal(pixels(watched), pixels(plain))
    assert {(call.layer, call.layers) for call in calls} == {(0, 2), (1, 2)}
    assert all(call.q.shape[1] - call.text == 8 * 16 and call.q.shape == call.v.shape for call in calls)
    monkeypatch.setattr(type(method(name)), "attention", lambda self, index, run: Sharper())
    assert not np.array_equal(pixels(made(pipe, method(name), (256, 128))), pixels(plain))


class Sharper(Attention):
    def factor(self, call):
        return 3.0


def test_what_does_not_fit_is_refused(pipe):
    transformer = pipe.transformer
    with pytest.raises(RequestError, match="name of this model"):
        attach(pipe, load_method("sega", "flux"))
    with pytest.raises(RequestError, match="text_duplication=false"):
        adapter_for(pipe).put_text({}, [(0, 0), (8, 0)])
    with torch.no_grad(), attach(transformer, method("ultraimage")), pytest.raises(RequestError, match="one prompt"):
        transformer(**inputs(pipe, [PROMPT, LONGER], (256, 128)))
    with pytest.raises(RequestError, match="steps=2 or more"), pytest.warns(RuntimeWarning, match="invalid value"):
        generate(pipe, method("vanilla"), PROMPT, seed=0, size=(128, 128), steps=1, guidance=1.0)
    call = inputs(pipe, [PROMPT], (128, 128))
    with attach(transformer, method("vanilla")), pytest.raises(RequestError, match="one frame"):
        transformer(**call | {"img_shapes": [[(4, 4, 4)]]})


def test_images_beyond_the_models_positions_are_refused(pipe):
    """The stock tables would silently end; 4096 positions are the last that fit."""
    adapter, text = adapter_for(pipe), torch.zeros(1, 96, 32)
    call = {"encoder_hidden_states": text, "hidden_states": torch.zeros(1, 1, 16), "timestep": torch.ones(1)}
    assert adapter.grid(call | {"img_shapes": [[(1, 8000, 4)]]}) == (8000, 4)
    for shapes in ([(1, 8002, 4)], [(1, 4, 8002)], [(1, 4, 4), (1, 4, 8002)]):
        with attach(pipe.transformer, method("vanilla")), pytest.raises(RequestError, match="need 4097 positions"):
            pipe.transformer(**call, img_shapes=[shapes])


def test_a_saved_pipeline_goes_through_the_runner(pipe, monkeypatch, capsys, tmp_path):
    from PIL import Image

    from sega.run.cli import main

    pipe.save_pretrained(tmp_path / "pipeline", safe_serialization=True)
    monkeypatch.setattr("sega.loading.weights.HASHES", tmp_path / "weights.json")
    words = [
        "model=qwen",
        f"model.path={tmp_path / 'pipeline'}",
        "model.dtype=float32",
        "model.geometry.train_tokens=10",
        "model.geometry.sega_train_tokens=8",
        "model.geometry.text_tokens=64",
        "model.vae_tiling=false",
        f"model.text_cache={tmp_path / 'text'}",
        f"store={tmp_path / 'runs'}",
        "steps=2",
        "device=cpu",
        f"prompts.text={PROMPT}",
        "res=256x128",
    ]
    for name, row in {"sega": None, "hiflow": STAGED["hiflow"]}.items():
        line = [*words, f"method={name}", *(f"method.{item}" for item in (row.quick if row else ()))]
        monkeypatch.setattr(sys, "argv", ["run.py", *line])
        assert main(line) == 0, capsys.readouterr().err
    files = sorted((tmp_path / "runs").glob("qwen/*/256x128/*/*.png"))
    assert [file.parts[-4] for file in files] == ["hiflow", "sega"]
    assert np.array_equal(np.asarray(Image.open(files[1])), pixels(made(pipe, method("sega"), (256, 128))))


def test_in_bfloat16(tmp_path, pipe):
    from diffusers import QwenImagePipeline

    pipe.save_pretrained(tmp_path, safe_serialization=True)
    half = QwenImagePipeline.from_pretrained(tmp_path, dtype=torch.bfloat16)
    half.set_progress_bar_config(disable=True)
    for name, overrides in (("sega", ["schedule=stock"]), ("hiflow", STAGED["hiflow"].quick)):
        same = made(half, method(name, *overrides), (128, 128), guidance=GUIDANCE)
        if name == "sega":
            assert np.array_equal(pixels(same), stock(half, (128, 128)))
        larger = made(half, method(name, *overrides), (256, 128))
        assert not np.array_equal(pixels(larger), stock(half, (256, 128)))
