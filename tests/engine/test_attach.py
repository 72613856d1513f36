"""Control tests: at the training size a method is the stock pipeline, and taken off it leaves nothing behind."""

import numpy as np
import pytest
import torch
from method_table import METHODS
from small import GEOMETRY, PROMPT, load

from sega import attach, load_method
from sega.engine.sampling import generate, seeded
from sega.errors import RequestError
from sega.methods.registry import METHODS as NAMES
from sega.testing.checks import Small, state, stock_image

OTHER = "a blue plain cone in the middle standing on sand under a night sky with light from the left"
GUIDANCE = {PROMPT: 1.5, OTHER: 4.0}
DIRECT = [row for row in METHODS if not row.staged]


def noise(pipe, size, prompt=PROMPT):
    from sega.models import adapter_for

    adapter = adapter_for(pipe)
    return adapter.pack(torch.randn(adapter.latent_shape(size), generator=seeded(0, prompt, size)))


def stock(pipe, size=(128, 128), steps=2):
    """The stock pipeline as anybody would call it."""
    return stock_image(Small(pipe, GEOMETRY, {"guidance_scale": 3.5, "max_sequence_length": 24}), size, steps)


def test_the_table_has_a_row_for_every_method():
    assert [row.name for row in METHODS] == [row.name for row in {row.name: row for row in METHODS}.values()]
    assert {row.name for row in METHODS} == set(NAMES)


@pytest.mark.parametrize("row", METHODS, ids=lambda row: row.name)
def test_at_the_training_size_every_method_is_the_stock_pipeline(tiny_pipe, row):
    method = load(row.name, *row.quick, *row.same_shift)
    made = generate(tiny_pipe, method, PROMPT, seed=0, size=(128, 128), steps=2, guidance=3.5)
    assert np.array_equal(np.asarray(made.image), stock(tiny_pipe))
    assert made.calls == 2


@pytest.mark.parametrize("row", DIRECT, ids=lambda row: row.name)
def test_attaching_changes_a_larger_image_and_removing_restores_it(tiny_pipe, row):
    before, untouched = state(tiny_pipe), stock(tiny_pipe, (256, 128))
    with attach(tiny_pipe, load(row.name)):
        attached = stock(tiny_pipe, (256, 128))
        assert np.array_equal(attached, stock(tiny_pipe, (256, 128)))
    assert not np.array_equal(attached, untouched)
    assert state(tiny_pipe) == before
    assert np.array_equal(stock(tiny_pipe, (256, 128)), untouched)


def test_pinning_is_all_that_vanilla_does(tiny_pipe):
    with attach(tiny_pipe, load("vanilla", "schedule=stock")):
        attached = stock(tiny_pipe, (256, 256))
    assert np.array_equal(attached, stock(tiny_pipe, (256, 256)))


def test_sega_without_its_spectral_part_is_its_uniform_base(tiny_pipe):
    from dataclasses import dataclass

    from sega.formulas.rope import base_frequencies
    from sega.methods.base import Method, uniform_axis

    @dataclass(frozen=True)
    class Uniform(Method):
        """theta r^(2D/(D-2)) / (1 + 0.1 ln r) on both axes, magnitude r^0.08, written out."""

        def positions(self, grid, sigma=1.0, tokens=None):
            r = max(grid) / 16
            factor = r ** (56 / 26) / (1 + 0.1 * np.log(r))
            axis = uniform_axis(base_frequencies(28, 100 * factor), r**0.08)
            return self.rope(axis, axis)

    method = load("sega", "amplitude=0")
    with attach(tiny_pipe, method):
        without = stock(tiny_pipe, (256, 128))
    with attach(tiny_pipe, Uniform(method.geometry)):
        uniform = stock(tiny_pipe, (256, 128))
    with attach(tiny_pipe, load("sega")):
        assert not np.array_equal(stock(tiny_pipe, (256, 128)), uniform)
    assert np.array_equal(without, uniform)


def inputs(pipe, prompts, size):
    """Arguments of one transformer call for these prompts."""
    with torch.no_grad():
        encoded = [pipe.encode_prompt(prompt, prompt, max_sequence_length=24) for prompt in prompts]
        ids = pipe._prepare_latent_image_ids(1, size[1] // 8, size[0] // 8, "cpu", torch.float32)
    return {
        "hidden_states": torch.cat([noise(pipe, size, prompt) for prompt in prompts]),
        "encoder_hidden_states": torch.cat([item[0] for item in encoded]),
        "pooled_projections": torch.cat([item[1] for item in encoded]),
        "guidance": torch.tensor([GUIDANCE[prompt] for prompt in prompts]),
        "timestep": torch.full((len(prompts),), 0.7),
        "txt_ids": encoded[0][2],
        "img_ids": ids,
        "return_dict": False,
    }


@pytest.mark.parametrize("override", ["source=embedded", "source=latent", "frequencies=dype"])
def test_a_batch_of_two_is_two_batches_of_one(tiny_pipe, override):
    method = load("sega", override)
    with torch.no_grad(), attach(tiny_pipe.transformer, method) as attachment:
        both = tiny_pipe.transformer(**inputs(tiny_pipe, [PROMPT, OTHER], (256, 128)))[0]
        assert len(attachment.steps) == 2 and attachment.steps[0].index == attachment.steps[1].index
        single = [tiny_pipe.transformer(**inputs(tiny_pipe, [prompt], (256, 128)))[0] for prompt in (PROMPT, OTHER)]
    assert torch.equal(both, torch.cat(single))
    with torch.no_grad(), attach(tiny_pipe.transformer, load("sega", "batch=joint")) as attachment:
        joint = tiny_pipe.transformer(**inputs(tiny_pipe, [PROMPT, OTHER], (256, 128)))[0]
        assert len(attachment.steps) == 1
    assert not torch.equal(joint, both)


@pytest.mark.parametrize("name", ["area", "window", "resdit"])
def test_a_batch_of_prompts_under_an_attention_pattern(tiny_pipe, name):
    """Windows that follow the latent are made for each sample."""
    size, options = (256, 128), {"num_inference_steps": 4, "max_sequence_length": 24, "output_type": "latent"}

    def final(prompts, start):
        return tiny_pipe(prompts, width=size[0], height=size[1], latents=start, **options).images

    start = torch.cat([noise(tiny_pipe, size), -noise(tiny_pipe, size)])
    with attach(tiny_pipe, load(name)) as attachment:
        both = final([PROMPT, OTHER], start.clone())
        assert len(attachment.steps) == (8 if name == "area" else 4)
        single = [final([text], start[i : i + 1].clone()) for i, text in enumerate((PROMPT, OTHER))]
    torch.testing.assert_close(both, torch.cat(single), rtol=0, atol=1e-3)


def test_steps_record_what_every_call_saw(tiny_pipe):
    method = load("sega")
    with attach(tiny_pipe, method, record=["profiles", "magnitudes", "latent"]) as attachment:
        stock(tiny_pipe, (256, 128), steps=3)
        stock(tiny_pipe, (256, 128), steps=3)
        steps = attachment.steps
    assert [step.index for step in steps] == [0, 1, 2] and {step.grid for step in steps} == {(16, 32)}
    times = tiny_pipe.scheduler.sigmas[:3].tolist()
    assert [step.sigma for step in steps] == pytest.approx(times, abs=1e-6) and all(step.seconds > 0 for step in steps)
    assert all(step.sigmas == tuple(times) for step in steps)
    # What the method says of this latent is what was recorded.
    rope = method.positions((16, 32), steps[0].sigma, _embedded(tiny_pipe, steps[0].latent))
    assert torch.equal(steps[0].details["magnitudes"][1], rope.width.magnitudes)
    assert steps[0].details["strength"] == rope.details["strength"]
    assert len(steps[0].details["profile_width"]) == 16
    with attach(tiny_pipe, method) as attachment:
        stock(tiny_pipe, (256, 128), steps=1)
    assert "profile_width" not in attachment.steps[0].details and attachment.steps[0].latent is None


@torch.no_grad()
def _embedded(pipe, latent):
    return pipe.transformer.x_embedder(latent[None])[0].float()


def test_positions_are_exact_in_bfloat16(tiny_pipe):
    """bfloat16 ids collapse beyond 256; what reaches the method and the table must not."""
    from sega.models.flux import FluxAdapter
    from sega.models.row_ids import grid_of_rows, image_ids

    adapter = FluxAdapter(tiny_pipe)
    exact = image_ids((300, 7), "cpu")
    rounded = exact.to(torch.bfloat16)
    assert not torch.equal(rounded.float(), exact) and grid_of_rows(rounded) == (300, 7)
    text = torch.zeros(4, 3, dtype=torch.bfloat16)
    call = adapter.bind((), {"img_ids": rounded, "txt_ids": text, "hidden_states": None})
    assert torch.equal(call["img_ids"], exact) and call["txt_ids"].dtype == torch.float32
    for grid in ((1, 1), (1, 9), (9, 1), (3, 4)):
        assert grid_of_rows(image_ids(grid, "cpu")) == grid


@pytest.mark.parametrize("name", ["sega", "hiflow"])
def test_in_bfloat16_too(tiny_folder, name):
    from diffusers import FluxPipeline

    from sega.loading.pipeline import set_theta

    pipe = FluxPipeline.from_pretrained(tiny_folder, dtype=torch.bfloat16)
    pipe.set_progress_bar_config(disable=True)
    set_theta(pipe.transformer, GEOMETRY.theta)
    (row,) = [row for row in METHODS if row.name == name]
    method = load(name, *row.quick)
    made = generate(pipe, method, PROMPT, seed=0, size=(128, 128), steps=2, guidance=3.5)
    assert np.array_equal(np.asarray(made.image), stock(pipe))
    made = generate(pipe, method, PROMPT, seed=0, size=(192, 128), steps=2, guidance=3.5)
    assert not np.array_equal(np.asarray(made.image), stock(pipe, (192, 128)))


def test_guided_calls_of_a_step_share_its_index(tiny_pipe):
    with attach(tiny_pipe, load("sega")) as attachment:
        tiny_pipe(
            PROMPT,
            negative_prompt=OTHER,
            true_cfg_scale=2.0,
            width=256,
            height=128,
            num_inference_steps=2,
            latents=noise(tiny_pipe, (256, 128)),
            max_sequence_length=24,
            output_type="latent",
        )
        seen = [(step.index, step.branch) for step in attachment.steps]
    assert seen == [(0, "cond"), (0, "uncond"), (1, "cond"), (1, "uncond")]


def test_what_can_not_be_attached_is_refused(tiny_pipe):
    sega = load("sega")
    with attach(tiny_pipe, sega), pytest.raises(RequestError, match="already attached"):
        attach(tiny_pipe, sega)
    with pytest.raises(RequestError, match="name of this model"):
        attach(tiny_pipe, load_method("sega", "flux"))
    with pytest.raises(RequestError, match="no adapter for Linear"):
        attach(torch.nn.Linear(2, 2), sega)
    with pytest.raises(RequestError, match="several stages"):
        attach(tiny_pipe, load("hiflow"))
    with pytest.raises(RequestError, match="exact_time"):
        attach(tiny_pipe.transformer, sega, exact_time=True)
    with pytest.raises(RequestError, match="record='spectra'"):
        attach(tiny_pipe, sega, record=["spectra"])
    assert "forward" not in vars(tiny_pipe.transformer)


def test_removing_twice_and_after_an_error_is_harmless(tiny_pipe):
    before = state(tiny_pipe)
    handle = attach(tiny_pipe, load("ntk"))
    handle.remove()
    handle.remove()
    with pytest.raises(ZeroDivisionError), attach(tiny_pipe, load("ntk")):
        1 / 0  # noqa: B018
    assert state(tiny_pipe) == before


def test_a_forward_that_was_already_replaced_comes_back(tiny_pipe):
    transformer = tiny_pipe.transformer
    original = transformer.forward
    transformer.forward = mine = lambda *args, **kwargs: original(*args, **kwargs)
    try:
        with attach(tiny_pipe, load("ntk")):
            stock(tiny_pipe, steps=1)
        assert transformer.forward is mine
    finally:
        del transformer.forward
