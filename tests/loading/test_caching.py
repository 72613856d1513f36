"""Step caching: which words name a cache, what is refused, and that images and methods stay right under each kind."""

from contextlib import contextmanager

import numpy as np
import pytest
import torch
from small import PROMPT, SIDE, load, made, pixels

from sega import attach
from sega.engine.blocks import share_of_operations
from sega.engine.sampling import generate
from sega.errors import RequestError
from sega.formulas.flops import call_flops
from sega.loading import caching
from sega.loading.caching import Cache, enable, read_cache
from sega.methods.types import ImageRequest
from sega.models import adapter_for
from sega.testing import small_pipeline

SIZE = (16 * SIDE, 12 * SIDE)  # beyond the training size, both sides unequal
STEPS = 8
# On random weights everything changes much from step to step, so thresholds are high.
KINDS = ["first_block:3", "taylorseer:2", "sea:9"]
MODEL = {"cache": "sea", "parallel": None, "compile": False, "geometry": {"family": "flux"}}


@contextmanager
def cached(pipe, text):
    enable(pipe.transformer, read_cache(text), pipe.transformer.dtype)
    try:
        yield pipe
    finally:
        pipe.transformer.disable_cache()


@pytest.fixture(scope="module")
def own_pipe():
    """One of its own: the hooks of diffusers leave a wrapped `forward` on the transformer."""
    from small import build

    return build(double=1, single=1)


@pytest.fixture(scope="module")
def qwen():
    return small_pipeline("qwen")


def of_qwen(qwen, name="sega", seed=0, size=(256, 192)):
    from sega.methods.registry import build_method

    method = build_method({"name": name}, qwen.geometry)
    about = {"size": size, "steps": STEPS, "guidance": 4.0, "negative_prompt": " "}
    return generate(qwen.pipe, method, PROMPT, seed=seed, **about)


def blocks(generated):
    return [step.details.get("blocks") for step in generated.steps]


@pytest.mark.parametrize(
    ("text", "cache"),
    [
        (None, None),
        ("sea", Cache("sea", 0.25)),
        ("first_block:0.080", Cache("first_block", 0.08)),
        ("taylorseer:3", Cache("taylorseer", 3)),
    ],
)
def test_what_names_a_cache(text, cache):
    assert read_cache(text) == cache
    assert cache is None or read_cache(str(cache)) == cache  # as an identity spells it


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sae", "model.cache=sae is unknown; did you mean 'sea'"),
        (True, "model.cache=True is unknown"),
        ("sea:", "after the colon comes a number, such as sea:0.25"),
        ("sea:none", "comes a number"),
        ("sea:-1", "comes a number"),
        ("first_block:nan", "comes a number"),
        ("taylorseer:1", "comes a whole number, such as taylorseer:2: every how many steps"),
        ("taylorseer:2.5", "comes a whole number"),
    ],
)
def test_what_names_none(text, message):
    with pytest.raises(RequestError, match=message):
        read_cache(text)


@pytest.mark.parametrize(
    ("changes", "name", "record", "message"),
    [
        ({"cache": None, "parallel": "ulysses"}, "hiflow", ["attention"], None),
        ({}, "sega", ["profiles"], None),
        ({}, "scalediff", [], None),
        ({"geometry": {"family": "zimage"}}, "sega", [], "don't fit zimage, only flux and qwen"),
        ({"geometry": {"family": "flux2"}}, "sega", [], "don't fit flux2"),
        ({"parallel": "blocks"}, "sega", [], "model.parallel=blocks was not made for model.cache=sea:0.25"),
        ({"compile": True}, "sega", [], "model.compile=True was not made"),
        ({}, "hiflow", [], "number of tokens changes from step to step; set method.shift_windows=false"),
        ({}, "ultraimage", [], "ultraimage runs the transformer twice in a step"),
        ({}, "sega", ["attention"], "averages over all layers"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_loads(changes, name, record, message):
    method = load(name)
    stages = method.stages(ImageRequest(SIZE, STEPS, 1.0))
    if message is None:
        caching.check(MODEL | changes, method, stages, record)
        return
    with pytest.raises(RequestError, match=message):
        caching.check(MODEL | changes, method, stages, record)


def test_what_cannot_work_is_refused_by_hand_too(own_pipe):
    with cached(own_pipe, "sea"):
        with pytest.raises(RequestError, match="shifts windows"):
            made(own_pipe, load("hiflow", "base_steps=2", "steps=[2]", "guidance=[1.0]"), (192, 192))
        with pytest.raises(RequestError, match="averages over all layers"):
            attach(own_pipe, load("sega"), record=["attention"])
    assert "_call_impl" not in vars(own_pipe.transformer)


def test_the_latent_that_sea_reads_is_that_of_the_pipeline(own_pipe):
    adapter, latent = adapter_for(own_pipe), torch.randn(2, 8, 12, 20)
    ids = {"img_ids": torch.cartesian_prod(torch.zeros(1), torch.arange(6.0), torch.arange(10.0))}
    call = {"hidden_states": adapter.pack(latent), "txt_ids": torch.zeros(4, 3), **ids}
    found = caching._latents(own_pipe.transformer, (), call)
    assert [x.shape for x in found] == [(8, 1, 12, 20)] * 2
    assert torch.equal(torch.stack(found)[:, :, 0], latent)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["vanilla", "sega", "window"])
def test_blocks_are_left_out_and_nothing_stays(own_pipe, kind, name):
    """Images of another seed and size before, and a method that was on the pipeline, change nothing."""
    exact = made(own_pipe, load(name), SIZE, STEPS)
    assert exact.full_calls is None and blocks(exact) == [None] * STEPS
    with cached(own_pipe, kind):
        first = made(own_pipe, load(name), SIZE, STEPS)
        assert blocks(first)[0] == 2 and min(blocks(first)) == (1 if kind.startswith("first") else 0)
        assert not np.array_equal(pixels(first), pixels(exact))
        made(own_pipe, load("sega"), (128, 192), STEPS, seed=1)
        with attach(own_pipe, load("ntk")):
            pass
        again = made(own_pipe, load(name), SIZE, STEPS)
        assert np.array_equal(pixels(first), pixels(again)) and blocks(first) == blocks(again)
    assert np.array_equal(pixels(made(own_pipe, load(name), SIZE, STEPS)), pixels(exact))


def test_a_generation_that_broke_off_leaves_nothing(own_pipe):
    with cached(own_pipe, "first_block:3"):
        whole = made(own_pipe, load("sega"), SIZE, STEPS)

        def stop(stage, taken):
            if taken == 3:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            made(own_pipe, load("sega"), SIZE, STEPS, seed=1, on_step=stop)
        assert np.array_equal(pixels(made(own_pipe, load("sega"), SIZE, STEPS)), pixels(whole))


def test_a_threshold_near_zero_leaves_out_nothing(own_pipe):
    exact = pixels(made(own_pipe, load("sega"), SIZE, STEPS))
    for kind in ("first_block:1e-9", "sea:1e-9"):
        with cached(own_pipe, kind):
            done = made(own_pipe, load("sega"), SIZE, STEPS)
        assert np.array_equal(pixels(done), exact) and done.full_calls == STEPS and blocks(done) == [2] * STEPS


@pytest.mark.parametrize("kind", KINDS)
def test_both_calls_of_guidance_have_their_own_cache(qwen, kind):
    exact = of_qwen(qwen)
    with cached(qwen.pipe, kind):
        first = of_qwen(qwen)
        assert first.calls == 2 * STEPS and first.full_calls < first.calls
        of_qwen(qwen, "vanilla", seed=1)
        again = of_qwen(qwen)
    assert np.array_equal(pixels(first), pixels(again)) and not np.array_equal(pixels(first), pixels(exact))
    every = dict.fromkeys(("cond", "uncond"), 0)
    for step in first.steps:
        every[step.branch] += step.details["blocks"]
    assert min(every.values()) > 0 and max(every.values()) < STEPS * len(qwen.pipe.transformer.transformer_blocks)
    assert np.array_equal(pixels(of_qwen(qwen)), pixels(exact))


@pytest.mark.parametrize("kind", KINDS)
def test_sega_reads_the_latent_of_the_step_that_runs(own_pipe, kind):
    """Also in steps without a block, and the latents are those of this generation, not of an exact one."""
    method = load("sega")
    with cached(own_pipe, kind), attach(own_pipe, method, record=["tokens", "latent"]) as attachment:
        noise = torch.Generator().manual_seed(0)
        own_pipe(PROMPT, width=SIZE[0], height=SIZE[1], num_inference_steps=STEPS, generator=noise)
        steps = attachment.steps
    assert min(step.details["blocks"] for step in steps) < 2
    strengths = [step.details["strength"] for step in steps]
    assert len(set(strengths)) == STEPS
    for step, strength in zip(steps, strengths, strict=True):
        with torch.no_grad():
            tokens = own_pipe.transformer.x_embedder(step.latent)
        assert torch.allclose(tokens, step.tokens, atol=1e-5)
        own = method.positions(step.grid, step.sigma, step.tokens)
        assert float(own.details["strength"]) == pytest.approx(strength, abs=1e-6)


def test_operations_are_those_of_the_blocks_that_ran(own_pipe):
    adapter, transformer = adapter_for(own_pipe), own_pipe.transformer
    call = {"hidden_states": torch.zeros(1, 96, 32), "txt_ids": torch.zeros(24, 3), "img_ids": torch.zeros(96, 3)}
    config = {**transformer.config, "_class_name": "FluxTransformer2DModel"}
    whole = call_flops(config, 96, 24)
    assert share_of_operations(adapter, call, ["transformer_blocks", "single_transformer_blocks"]) == 1
    none = call_flops(config | {"num_layers": 0, "num_single_layers": 0}, 96, 24)
    assert share_of_operations(adapter, call, []) == none / whole < 0.1
    with cached(own_pipe, "taylorseer:2"):
        done = made(own_pipe, load("vanilla"), (64, 64), STEPS)
    # The first three run, then every other one beginning with the fifth.
    assert blocks(done) == [2, 2, 2, 0, 2, 0, 2, 0]
    geometry = load("vanilla").geometry
    tokens = 64, geometry.text_tokens
    rest = call_flops(config | {"num_layers": 0, "num_single_layers": 0}, *tokens) / call_flops(config, *tokens)
    assert done.full_calls == pytest.approx(5 + 3 * rest)


def test_a_staged_method_begins_each_stage_anew(own_pipe):
    method = load("scalediff", "base_steps=6")
    with cached(own_pipe, "sea:9"):
        first = made(own_pipe, method, SIZE, STEPS)
        again = made(own_pipe, method, SIZE, STEPS)
    assert np.array_equal(pixels(first), pixels(again))
    starts = [step for step in first.steps if step.index == 0]
    assert len(starts) > 1 and all(step.details["blocks"] == 2 for step in starts)
    assert first.full_calls < first.calls


def test_a_run_names_its_cache_and_counts(line, tmp_path, monkeypatch, capsys):
    import json

    from small import run

    sized = [*line, "res=192x256", "prompts.limit=1", "steps=6", "method=scalediff", "method.base_steps=6"]
    for more in ([], ["model.cache=sea:9.0"], ["model.cache=sea:9", "method.strength=0.5"]):
        status, _, err = run(monkeypatch, capsys, *sized, *more)
        assert status == 0, err
    folders = sorted((tmp_path / "runs" / "tiny" / "scalediff").glob("*/*"))
    found = {}
    for folder in folders:
        about = json.loads((folder / "run.json").read_text())["identity"]["model"]
        row = json.loads((folder / "images.jsonl").read_text())
        found.setdefault(about.get("cache"), []).append(row)
    assert sorted(map(str, found)) == ["None", "sea:9"] and "full_calls" not in found[None][0]
    # The second cell under the cache has its base from the store, which knows what it cost.
    assert all(0 < row["full_calls"] < row["calls"] for row in found["sea:9"])
    assert any(row["base_seconds"] > 0 for row in found["sea:9"])
