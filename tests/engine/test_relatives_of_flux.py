"""Direct methods on other pipelines of FLUX (ControlNet, inpainting, from an image, Kontext) and Qwen-Image (editing).

Small random weights and stock classes. At the training size every method is the stock pipeline bit for bit; beyond it
each changes the latent, and taken off it leaves nothing behind.
"""

from dataclasses import dataclass

import diffusers
import numpy as np
import pytest
import torch
from beside import OTHER, PROMPT, fresh_pipe
from method_table import METHODS
from PIL import Image

from sega import attach, load_method
from sega.engine.sampling import seeded
from sega.errors import RequestError
from sega.methods.base import Method
from sega.methods.registry import build_method
from sega.testing import qwen as qwen_tiny
from sega.testing.checks import state

DIRECT = [row.name for row in METHODS if not row.staged]
ATTENTION = [row.name for row in METHODS if row.attention]
NATIVE, LARGE, REFERENCE = (192, 192), (256, 256), (96, 128)


def image(size, seed=0):
    values = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(values)


def controlnet(pipe):
    net = diffusers.FluxControlNetModel.from_transformer(
        pipe.transformer, num_layers=1, num_single_layers=1, num_attention_heads=2, attention_head_dim=64
    )
    net.pos_embed = pipe.transformer.pos_embed
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        for parameter in net.parameters():
            parameter.data += 0.05 * torch.randn_like(parameter)
    return net.eval()


def made(name, pipe):
    """A pipeline of that class with the parts of `pipe`."""
    cls = getattr(diffusers, name)
    given = {"controlnet": controlnet(pipe)} if name == "FluxControlNetPipeline" else {}
    pipe = (
        cls.from_pipe(pipe, **given)
        if not given
        else cls(
            **{k: v for k, v in pipe.components.items() if k not in ("image_encoder", "feature_extractor")}, **given
        )
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def extra(name, size):
    if name == "FluxControlNetPipeline":
        return {"control_image": image(size)}
    if name == "FluxKontextPipeline":
        return {"image": image(REFERENCE), "max_area": size[0] * size[1], "_auto_resize": False}
    given = {"image": image(size), "strength": 0.5}
    return given | ({"mask_image": image(size, 1)} if "Inpaint" in name else {})


def latent(pipe, name, size, prompt=PROMPT, **options):
    return pipe(
        prompt=prompt,
        width=size[0],
        height=size[1],
        num_inference_steps=2,
        max_sequence_length=24,
        output_type="latent",
        generator=seeded(0, PROMPT, size),
        **extra(name, size) | options,
    ).images


PIPELINES = ["FluxControlNetPipeline", "FluxInpaintPipeline", "FluxImg2ImgPipeline", "FluxKontextPipeline"]


@pytest.fixture(scope="module", params=PIPELINES)
def named(request):
    return request.param, made(request.param, fresh_pipe())


@pytest.mark.parametrize("method", DIRECT)
def test_a_direct_method_on_a_relative_of_flux(named, method):
    name, pipe = named
    native, large, before = latent(pipe, name, NATIVE), latent(pipe, name, LARGE), state(pipe)
    with attach(pipe, load_method(method, "tiny")) as attachment:
        assert torch.equal(latent(pipe, name, NATIVE), native)
        changed = latent(pipe, name, LARGE)
        steps = [step for step in attachment.steps if "probe" not in step.details]
    assert [step.index for step in steps] == list(range(1 if "strength" in extra(name, LARGE) else 2))
    assert {step.grid for step in steps} == {(32, 32)}  # a reference does not count
    assert torch.equal(latent(pipe, name, LARGE), large) and state(pipe) == before
    if method == "vanilla":
        with attach(pipe, load_method(method, "tiny", ["schedule=stock"])):
            assert torch.equal(latent(pipe, name, LARGE), large)
    assert (changed - large).abs().max() > 1e-3


@pytest.mark.parametrize("name", PIPELINES)
def test_sega_analyses_the_image_alone(name):
    """Not the tokens of a reference behind it: those of a latent embedded by itself."""
    pipe = made(name, fresh_pipe())
    with attach(pipe, load_method("sega", "tiny"), record=["tokens", "latent"]) as attachment:
        latent(pipe, name, LARGE)
        step = attachment.steps[0]
    with torch.no_grad():
        expected = pipe.transformer.x_embedder(step.latent[None])[0].float()
    assert step.tokens.shape == (1024, 128)
    torch.testing.assert_close(step.tokens, expected, rtol=1e-5, atol=1e-5)


def test_a_batch_beside_a_controlnet_is_divided_with_its_samples():
    name = "FluxControlNetPipeline"
    pipe = made(name, fresh_pipe())
    start = torch.randn(2, 1024, 32, generator=torch.Generator().manual_seed(0))
    pictures = [image(LARGE, 1), image(LARGE, 2)]

    @dataclass(frozen=True)
    class Divided(Method):
        """Stock positions, one sample at a time."""

        def needs(self):
            return {"tokens"}

    both = latent(pipe, name, LARGE, [PROMPT, OTHER], control_image=pictures, latents=start)
    with attach(pipe, Divided(load_method("vanilla", "tiny").geometry, "stock")) as attachment:
        divided = latent(pipe, name, LARGE, [PROMPT, OTHER], control_image=pictures, latents=start)
        assert [(step.index, step.samples) for step in attachment.steps] == [(0, 1), (0, 1), (1, 1), (1, 1)]
    torch.testing.assert_close(divided, both, rtol=1e-4, atol=1e-4)
    assert (both[0] - both[1]).abs().max() > 1e-2


@pytest.mark.parametrize("name", ["FluxFillPipeline", "FluxControlPipeline"])
def test_channels_besides_the_latent_are_not_its_spectrum(name):
    """These hand further channels to the input projection; what is recorded and analysed is the latent."""
    pipe, cls = fresh_pipe(), getattr(diffusers, name)
    plain = pipe.transformer
    channels = 32 + (32 + 4 * 4**2 if name == "FluxFillPipeline" else 32)  # a masked image and its mask, or an image
    wide = diffusers.FluxTransformer2DModel.from_config(plain.config, in_channels=channels, out_channels=32)
    wide.pos_embed = plain.pos_embed
    parts = {k: v for k, v in pipe.components.items() if k not in ("image_encoder", "feature_extractor")}
    pipe = cls(**parts | {"transformer": wide.eval()})
    pipe.set_progress_bar_config(disable=True)
    given = {"control_image": image(LARGE)}
    if name == "FluxFillPipeline":
        given = {"image": image(LARGE), "mask_image": image(LARGE, 1)}
    start = torch.randn(1, 1024, 32, generator=torch.Generator().manual_seed(0))
    record = ["latent", "spectrum"]
    with attach(pipe, load_method("sega", "tiny", ["source=latent"]), record=record) as attachment:
        pipe(
            PROMPT,
            width=256,
            height=256,
            num_inference_steps=1,
            max_sequence_length=24,
            output_type="latent",
            latents=start,
            **given,
        )
        step = attachment.steps[0]
    assert torch.equal(step.latent, start[0]) and step.details["strength"] > 0
    assert len(step.details["spectrum_clean"]) == 33


def test_the_ids_of_a_reference_are_exact_in_bfloat16_too():
    from sega.models.row_ids import exact_ids, image_ids

    frame = torch.tensor([1.0, 0.0, 0.0])
    exact = torch.cat([image_ids((7, 300), "cpu"), image_ids((300, 5), "cpu") + frame])
    rounded = exact.to(torch.bfloat16)
    assert not torch.equal(rounded.float(), exact) and torch.equal(exact_ids(rounded), exact)


QWEN = qwen_tiny.small_geometry()


@pytest.fixture(scope="module")
def editing():
    pipe = qwen_tiny.build_pipeline()
    pipe = diffusers.QwenImageEditPipeline(pipe.scheduler, pipe.vae, None, None, None, pipe.transformer)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def edited(pipe, size):
    draw = torch.Generator().manual_seed(0)
    words, others = (torch.randn(1, count, 32, generator=draw) for count in (7, 5))
    return pipe(
        image(REFERENCE),
        prompt_embeds=words,
        negative_prompt_embeds=others,
        true_cfg_scale=2.0,
        width=size[0],
        height=size[1],
        num_inference_steps=2,
        output_type="latent",
        generator=draw,
    ).images


@pytest.fixture
def small_reference(monkeypatch):
    """The pipeline enlarges every reference to a megapixel."""
    module = "diffusers.pipelines.qwenimage.pipeline_qwenimage_edit"
    monkeypatch.setattr(f"{module}.calculate_dimensions", lambda area, ratio: (96, 128, None))


@pytest.mark.parametrize("method", DIRECT)
def test_a_direct_method_on_the_editing_pipeline_of_qwen_image(editing, small_reference, method):
    method = build_method({"name": method, "schedule": "stock"}, QWEN)
    native, large, before = edited(editing, (128, 128)), edited(editing, (256, 128)), state(editing)
    if method.name in ATTENTION:
        with attach(editing, method), pytest.raises(RequestError, match="reference images"):
            edited(editing, (256, 128))
    else:
        with attach(editing, method) as attachment:
            assert torch.equal(edited(editing, (128, 128)), native)
            changed = edited(editing, (256, 128))
            seen = [(step.index, step.branch, step.grid) for step in attachment.steps]
        assert seen == [(i, branch, (8, 16)) for i in (0, 1) for branch in ("cond", "uncond")]
        assert torch.equal(changed, large) == (method.name in ("vanilla", "mix"))
    assert torch.equal(edited(editing, (256, 128)), large) and state(editing) == before
