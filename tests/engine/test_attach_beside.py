"""Methods beside IP-Adapters, LoRAs, other schedulers, compilers and pipelines that start from an image."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from beside import OTHER, PROMPT, SIZE, Adapted, fresh_pipe, images, latent, load_ip_adapter, noise
from doubles import Watching
from PIL import Image

from sega import attach, load_method
from sega.engine.sampling import seeded
from sega.errors import RequestError
from sega.methods.base import Method
from sega.models import adapter_for
from sega.testing.checks import state

NATIVE = (192, 192)


@pytest.fixture
def pipe():
    return fresh_pipe()


@dataclass(frozen=True)
class Divided(Method):
    """Stock positions, one sample at a time."""

    def needs(self):
        return {"tokens"}


@torch.no_grad()
def test_an_ip_adapter_gives_each_sample_of_a_batch_its_own_image(pipe):
    load_ip_adapter(pipe)
    one, two = arguments(pipe, 0.7), arguments(pipe, 0.7, OTHER) | {"hidden_states": noise(seed=5)}
    shared = ("txt_ids", "img_ids", "return_dict")
    both = {key: value if key in shared else torch.cat([value, two[key]]) for key, value in one.items()}
    first, second = (images(seed=seed)["ip_adapter_image_embeds"][0] for seed in (1, 2))

    def answer(call, *given):
        return pipe.transformer(**call, joint_attention_kwargs={"ip_adapter_image_embeds": [torch.cat(given)]})[0]

    with attach(pipe.transformer, load_method("sega", "tiny")):
        together = answer(both, first, second)
        assert torch.equal(together, torch.cat([answer(one, first), answer(two, second)]))
        assert (together - answer(both, second, first)).abs().max() > 1e-2  # the images matter
    # Two images a sample are dealt out as the processor of diffusers deals them.
    stock = answer(both, first, second, second, first)
    with attach(pipe.transformer, Divided(load_method("vanilla", "tiny").geometry)) as attachment:
        torch.testing.assert_close(answer(both, first, second, second, first), stock, rtol=1e-4, atol=1e-4)
        assert len(attachment.steps) == 2


def test_the_images_of_a_pipeline_reach_every_sample(pipe):
    load_ip_adapter(pipe)
    start = noise(2)
    with attach(pipe, load_method("sega", "tiny")):
        together = latent(pipe, [PROMPT, OTHER], start=start, **images())
        alone = [latent(pipe, prompt, start=start[i : i + 1], **images()) for i, prompt in enumerate((PROMPT, OTHER))]
    assert torch.equal(together, torch.cat(alone))


@torch.no_grad()
def test_what_can_not_be_divided_over_a_batch_is_refused(pipe):
    load_ip_adapter(pipe)
    call = arguments(pipe, 0.7)
    both = {k: v if k in ("txt_ids", "img_ids", "return_dict") else torch.cat([v, v]) for k, v in call.items()}
    given = images()["ip_adapter_image_embeds"]
    with attach(pipe.transformer, load_method("sega", "tiny")):
        with pytest.raises(RequestError, match="1 images for a batch of 2; give each sample as many"):
            pipe.transformer(**both, joint_attention_kwargs={"ip_adapter_image_embeds": given})
        with pytest.raises(RequestError, match=r"joint_attention_kwargs\['mask'\] holds tensors"):
            pipe.transformer(**both, joint_attention_kwargs={"mask": [torch.zeros(2)]})
        pipe.transformer(**call, joint_attention_kwargs={"ip_adapter_image_embeds": given, "scale": 1.0})


@pytest.mark.parametrize("how", ["before", "while attached"])
def test_an_ip_adapter_is_carried_where_a_method_replaces_processors(pipe, how):
    """What changes nothing changes no bit, UltraImage at the training size too; beyond it both have a say."""
    if how == "before":
        load_ip_adapter(pipe)
    seen = []
    with attach(pipe, watched(seen)):
        if how != "before":
            load_ip_adapter(pipe)
        through = latent(pipe, **images())
        processors = [type(p).__name__ for p in pipe.transformer.attn_processors.values()]
    assert torch.equal(through, latent(pipe, **images())) and len(seen) == 4
    assert processors == ["FluxIPAdapterAttnProcessor", "FluxAttnProcessor"]
    native, large = latent(pipe, size=NATIVE, **images()), latent(pipe, size=(256, 256), **images())
    with attach(pipe, load_method("ultraimage", "tiny", ["schedule=stock"])):
        assert torch.equal(latent(pipe, size=NATIVE, **images()), native)
        beyond = latent(pipe, size=(256, 256), **images())
        other = latent(pipe, size=(256, 256), **images(seed=9))
    assert (beyond - other).abs().max() > 1e-2 and (beyond - large).abs().max() > 1e-3


def watched(seen):
    """A method that changes nothing, through the seam of attention; its calls are noted in `seen`."""

    @dataclass(frozen=True)
    class Watched(Method):
        def attention(self, index, run):
            return Watching(seen)

    return Watched(load_method("vanilla", "tiny").geometry, schedule="stock")


def test_an_ip_adapter_without_an_image_is_refused(pipe):
    load_ip_adapter(pipe)
    with attach(pipe, load_method("ultraimage", "tiny")), pytest.raises(RequestError, match="unload_ip_adapter"):
        latent(pipe)


class Foreign:
    """An attention processor nobody here knows."""

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, image_rotary_emb=None):
        return hidden_states


def test_a_foreign_processor_is_refused_where_it_would_be_dropped(pipe):
    attn = pipe.transformer.single_transformer_blocks[0].attn
    stock, foreign = attn.processor, Foreign()
    attn.set_processor(foreign)
    before = state(pipe)
    with pytest.raises(RequestError, match="attention goes through Foreign"):
        attach(pipe, load_method("ultraimage", "tiny"))
    with pytest.raises(RequestError, match="attention goes through Foreign"):
        attach(pipe, load_method("ntk", "tiny"), record=["attention"])
    assert state(pipe) == before
    with attach(pipe, load_method("sega", "tiny")):  # changes positions only: nothing is replaced
        latent(pipe, steps=1)
    attn.set_processor(stock)
    with attach(pipe, load_method("ultraimage", "tiny")):
        attn.set_processor(foreign)
        with pytest.raises(RequestError, match="attention goes through Foreign"):
            latent(pipe)
        assert attn.processor is foreign
    assert attn.processor is foreign


def image(size):
    values = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(values)


@pytest.mark.parametrize("name", ["FluxImg2ImgPipeline", "FluxInpaintPipeline"])
def test_exact_times_of_pipelines_that_start_from_an_image(pipe, name):
    import diffusers

    pipe = getattr(diffusers, name).from_pipe(pipe)
    pipe.set_progress_bar_config(disable=True)
    given = {"mask_image": image(SIZE)} if "Inpaint" in name else {}
    with attach(pipe, load_method("dype", "tiny"), exact_time=True) as attachment:
        pipe(
            PROMPT,
            image=image(SIZE),
            width=SIZE[0],
            height=SIZE[1],
            strength=0.5,
            num_inference_steps=6,
            max_sequence_length=24,
            output_type="latent",
            generator=seeded(0, PROMPT, SIZE),
            **given,
        )
        steps = attachment.steps
    assert [step.index for step in steps] == [0, 1, 2]
    assert [step.sigma for step in steps] == pipe.scheduler.sigmas[3:6].tolist()
    assert steps[0].sigma < 1


def test_two_calls_in_a_step_are_two_branches_though_the_pipeline_says_nothing(pipe):
    import diffusers

    pipe = diffusers.FluxImg2ImgPipeline.from_pipe(pipe)
    pipe.set_progress_bar_config(disable=True)
    with attach(pipe, load_method("dype", "tiny"), exact_time=True) as attachment:
        pipe(
            PROMPT,
            negative_prompt=OTHER,
            true_cfg_scale=2.0,
            image=image(SIZE),
            width=SIZE[0],
            height=SIZE[1],
            strength=0.5,
            num_inference_steps=4,
            max_sequence_length=24,
            output_type="latent",
            generator=seeded(0, PROMPT, SIZE),
        )
        steps = attachment.steps
    assert [(step.index, step.branch) for step in steps] == [(0, "cond"), (0, "uncond"), (1, "cond"), (1, "uncond")]
    assert [step.sigma for step in steps[::2]] == pipe.scheduler.sigmas[2:4].tolist()


def test_a_scheduler_that_is_swapped_while_attached_is_refused(pipe):
    own = pipe.scheduler
    with attach(pipe, load_method("ntk", "tiny")):
        expected = latent(pipe)
        pipe.scheduler = type(own).from_config(own.config)
        with pytest.raises(RequestError, match="the scheduler of the pipeline was replaced while ntk was attached"):
            latent(pipe)
        pipe.scheduler = own
        assert torch.equal(latent(pipe), expected)
    pipe.scheduler = type(own).from_config(own.config)
    with attach(pipe, load_method("ntk", "tiny")):
        assert torch.equal(latent(pipe), expected)
    assert "set_timesteps" not in vars(own) and "set_timesteps" not in vars(pipe.scheduler)


def test_two_pipelines_with_one_scheduler_are_refused(pipe):
    other = fresh_pipe()
    other.scheduler = pipe.scheduler
    with attach(pipe, load_method("ntk", "tiny")):
        with pytest.raises(RequestError, match="another pipeline with this scheduler.*from_config"):
            attach(other, load_method("pi", "tiny"))
        other.scheduler = other.scheduler.from_config(other.scheduler.config)
        attach(other, load_method("pi", "tiny")).remove()


def test_a_transformer_that_is_swapped_while_attached_is_refused(pipe):
    own = pipe.transformer
    with attach(pipe, load_method("ntk", "tiny")):
        pipe.transformer = fresh_pipe().transformer
        with pytest.raises(RequestError, match="the transformer of the pipeline was replaced while ntk"):
            latent(pipe)
        pipe.transformer = own
        latent(pipe, steps=1)


def spectrum(pipe, change):
    """What SEGA analyses in the first step after `change` was made to an attached pipeline."""
    with attach(pipe, load_method("sega", "tiny"), record=["tokens"]) as attachment:
        change()
        latent(pipe, steps=1)
        return attachment.steps[0].tokens


def put(pipe):
    pipe.transformer.x_embedder = Adapted(pipe.transformer.x_embedder)


def hidden(pipe):
    """A forward replaced on the layer itself."""
    layer = pipe.transformer.x_embedder
    forward = Adapted(layer)
    stock = type(layer).forward
    layer.forward = lambda x: stock(layer, x) + x @ forward.down.T @ forward.up.T


def lora(pipe):
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=2, target_modules=["x_embedder"], init_lora_weights=False)
    torch.manual_seed(0)
    pipe.transformer.add_adapter(config)


@pytest.mark.parametrize("change", [put, hidden, lora])
def test_sega_sees_what_is_put_on_the_input_projection_while_attached(change):
    pipe = fresh_pipe()
    seen = spectrum(pipe, lambda: change(pipe))
    with torch.no_grad():
        expected = pipe.transformer.x_embedder(noise())[0].float()
    assert torch.equal(seen, expected)
    assert torch.equal(spectrum(pipe, lambda: None), expected)  # the same as one that was there before
    with torch.no_grad():
        assert (expected - fresh_pipe().transformer.x_embedder(noise())[0]).abs().max() > 1e-2
    assert not pipe.transformer.x_embedder._forward_hooks


def arguments(pipe, sigma, prompt=PROMPT):
    with torch.no_grad():
        text, pooled, ids = pipe.encode_prompt(prompt, prompt, max_sequence_length=24)
    grid = pipe._prepare_latent_image_ids(1, SIZE[1] // 8, SIZE[0] // 8, "cpu", torch.float32)
    return {
        "hidden_states": noise(),
        "encoder_hidden_states": text,
        "pooled_projections": pooled,
        "txt_ids": ids,
        "img_ids": grid,
        "timestep": torch.tensor([sigma]),
        "guidance": torch.tensor([3.5]),
        "return_dict": False,
    }


@pytest.mark.parametrize(
    ("times", "steps"),
    [([1.0, 1.0], [0, 0]), ([1.0, 0.5, 1.0], [0]), ([1.0, 1.0, 0.5, 0.5], [0, 0, 1, 1]), ([0.5, 0.25], [0, 1])],
)
def test_steps_of_a_bare_transformer_are_told_by_falling_times(pipe, times, steps):
    with torch.no_grad(), attach(pipe.transformer, load_method("sega", "tiny")) as attachment:
        for sigma in times:
            pipe.transformer(**arguments(pipe, sigma))
    assert [step.index for step in attachment.steps] == steps


def test_a_bare_transformer_measures_the_heads_of_every_generation(pipe):
    """UltraImage rehearses in step 0: also in that of a second generation of one step."""
    with torch.no_grad(), attach(pipe.transformer, load_method("ultraimage", "tiny", ["block=8"])) as attachment:
        answers = []
        for prompt in (PROMPT, OTHER):
            call = arguments(pipe, 1.0, prompt)
            call["img_ids"] = pipe._prepare_latent_image_ids(1, 32, 32, "cpu", torch.float32)
            answers.append(pipe.transformer(**call | {"hidden_states": noise(size=(256, 256))})[0])
        assert [("probe" in step.details, step.index) for step in attachment.steps] == [(True, 0), (False, 0)] * 2
    with torch.no_grad(), attach(pipe.transformer, load_method("ultraimage", "tiny", ["block=8"])):
        assert torch.equal(pipe.transformer(**call | {"hidden_states": noise(size=(256, 256))})[0], answers[1])


def test_a_cache_of_steps_is_refused_where_a_step_has_several_calls(pipe):
    from diffusers import FirstBlockCacheConfig

    pipe.transformer.enable_cache(FirstBlockCacheConfig(threshold=0.05))
    cached = latent(pipe, steps=3)
    with attach(pipe, load_method("sega", "tiny")):
        assert (latent(pipe, steps=3) - cached).abs().max() > 1e-2
        with pytest.raises(RequestError, match=r"sega runs the samples of a batch.*disable_cache\(\)"):
            latent(pipe, [PROMPT, OTHER])
    with attach(pipe, load_method("ultraimage", "tiny")):
        with pytest.raises(RequestError, match=r"ultraimage runs the transformer twice.*disable_cache\(\)"):
            latent(pipe, size=(256, 256))
        pipe.transformer.disable_cache()
        latent(pipe, size=(256, 256), steps=1)


def test_a_compiled_transformer_is_refused_with_the_way_that_works(pipe):
    own = pipe.transformer
    pipe.transformer = torch.compile(own, backend="eager")
    for target in (pipe, pipe.transformer):
        with pytest.raises(RequestError, match=r"pipe.transformer._orig_mod, then .*compile_repeated_blocks\(\)"):
            attach(target, load_method("ntk", "tiny"))
    with pytest.raises(RequestError, match="compile_repeated_blocks"):
        adapter_for(pipe)
    pipe.transformer = own
    own.compile(backend="eager")
    with pytest.raises(RequestError, match=r"without compile\(\), then .*model.compile=true"):
        attach(pipe, load_method("ntk", "tiny"))


def test_compiling_the_whole_while_attached_is_refused(pipe):
    own = pipe.transformer
    with attach(pipe, load_method("ntk", "tiny")):
        with pytest.raises(RequestError, match="compile_repeated_blocks"):
            own.compile(backend="eager")
        pipe.transformer = torch.compile(own, backend="eager")
        with pytest.raises(RequestError, match="compile_repeated_blocks"):
            latent(pipe)
        pipe.transformer = own
        latent(pipe, steps=1)
    assert "compile" not in vars(own) and own._compiled_call_impl is None


@pytest.mark.parametrize("name", ["sega", "ultraimage"])
def test_compiled_blocks_are_the_way_that_works(pipe, name):
    method = load_method(name, "tiny")
    stock = latent(pipe, size=(256, 256))
    with attach(pipe, method):
        expected = latent(pipe, size=(256, 256))
    pipe.transformer.compile_repeated_blocks(backend="eager")
    with attach(pipe, method):
        torch.testing.assert_close(latent(pipe, size=(256, 256)), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(latent(pipe, size=(256, 256)), stock, rtol=1e-4, atol=1e-4)


def test_a_bare_transformer_compiled_while_attached_answers_rightly_and_lets_go(pipe):
    """Nobody can tell when `torch.compile` wraps it: it is right while attached, and stock afterwards."""
    own, call = pipe.transformer, arguments(pipe, 0.7)
    with torch.no_grad():
        stock = own(**call)[0]
        with attach(own, load_method("ntk", "tiny")):
            expected = own(**call)[0]
            compiled = torch.compile(own, backend="eager")
            torch.testing.assert_close(compiled(**call)[0], expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(compiled(**call)[0], stock, rtol=1e-4, atol=1e-4)
    assert (expected - stock).abs().max() > 1e-3
