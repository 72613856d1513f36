"""Staged methods on a small random pipeline: what every one of them has to keep."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from small import build, load

from sega.engine.sampling import generate
from sega.errors import RequestError
from sega.store.bases import BaseFolder

PROMPT = "a photo of a red boat"
SMALL = {
    "imax": ["base_steps=2", "steps=3"],
    "hiflow": ["base_steps=4", "steps=[3]", "guidance=[4.5]"],
    "upsample": ["base_steps=2"],
    "pixelrush": ["base_steps=2"],
}


@pytest.fixture(scope="module")
def pipe():
    return build(heads=1, double=1, single=1)


class Counted(BaseFolder):
    """Bases in a store, counting what is taken from it."""

    def __init__(self, store):
        super().__init__(store, "tiny", {"model": "random"})
        self.loads = 0

    def load(self, stage, prompt, seed):
        found = super().load(stage, prompt, seed)
        self.loads += found is not None
        return found

    def count(self):
        return len(list(self.root.glob("*/*/*.safetensors")))


def made(pipe, name, *overrides, size=(192, 192), seed=0, prompt=PROMPT, bases=None):
    method = load(name, *SMALL[name], *overrides)
    return generate(pipe, method, prompt, seed=seed, size=size, steps=2, guidance=1.0, bases=bases)


@pytest.fixture(scope="module")
def usual(pipe):
    return {name: made(pipe, name) for name in SMALL}


def pixels(generated):
    return np.asarray(generated.image)


def same(a, b):
    return np.array_equal(pixels(a), pixels(b))


@pytest.mark.parametrize("name", SMALL)
def test_an_image_depends_on_its_seed_alone(pipe, usual, name):
    torch.manual_seed(2)
    state = torch.random.get_rng_state()
    assert same(made(pipe, name), usual[name])
    assert torch.random.get_rng_state().equal(state)
    assert not same(made(pipe, name, seed=1), usual[name])
    assert pixels(usual[name]).shape == (192, 192, 3)


@pytest.mark.parametrize("name", SMALL)
def test_the_model_is_left_as_it_was(pipe, name):
    before = dict(vars(pipe.transformer)), dict(vars(pipe.scheduler)), pipe.transformer.pos_embed
    made(pipe, name)
    assert dict(vars(pipe.transformer)).keys() == before[0].keys()
    assert "step" not in vars(pipe.scheduler) and "set_timesteps" not in vars(pipe.scheduler)
    assert pipe.transformer.pos_embed is before[2]


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("size", [(128, 128), (96, 128)])
def test_a_target_no_larger_than_the_base_is_the_plain_model(pipe, name, size):
    steps = int(SMALL[name][0].split("=")[1])
    vanilla = load("vanilla")
    overrides = ["schedule=pinned"] if name in ("imax", "hiflow") else []
    expected = generate(pipe, vanilla, PROMPT, seed=0, size=size, steps=steps, guidance=3.5)
    actual = made(pipe, name, *overrides, size=size)
    assert same(actual, expected) and actual.calls == steps


def test_calls_and_sizes_of_steps(pipe, usual):
    imax, hiflow = usual["imax"], usual["hiflow"]
    assert [(step.stage, step.grid) for step in imax.steps] == [(0, (12, 12))] * 2 + [
        (1, (25, 25)),
        (1, (24, 24)),
        (1, (25, 25)),
    ]
    still = made(pipe, "imax", "shift_windows=false")
    assert [step.grid for step in still.steps][2:] == [(24, 24)] * 3
    assert [step.stage for step in hiflow.steps] == [0] * 4 + [1] * 3
    times = [step.sigma for step in hiflow.steps]
    assert times[4:] == times[1:4]
    assert usual["upsample"].calls == 2


def test_two_upscales(pipe):
    done = made(pipe, "hiflow", "steps=[3,2]", "ratios=[1.5]", size=(256, 256))
    assert [step.grid for step in done.steps[4:]] == [(25, 25), (24, 24), (25, 25), (33, 33), (32, 32)]
    assert pixels(done).shape == (256, 256, 3)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("size", [(320, 160), (200, 184)])
def test_sizes_that_are_not_square_or_round(pipe, name, size):
    assert pixels(made(pipe, name, size=size)).shape == (size[1], size[0], 3)


def test_a_size_that_is_no_whole_number_of_tokens_is_refused(pipe):
    with pytest.raises(RequestError, match="not a multiple of 8 px"):
        made(pipe, "hiflow", size=(196, 192))


def test_equal_bases_are_made_once(pipe, usual, tmp_path):
    bases = Counted(tmp_path)
    hiflow = made(pipe, "hiflow", bases=bases)
    assert same(hiflow, usual["hiflow"]) and bases.count() == 1 and bases.loads == 0
    upsample = made(pipe, "upsample", "base_steps=4", bases=bases)
    assert bases.count() == 1 and bases.loads == 1
    assert upsample.calls == 4 and not upsample.steps and upsample.base_seconds > 0
    assert same(made(pipe, "hiflow", bases=bases), hiflow) and bases.loads == 2
    pinned, double = ["base_steps=4", "schedule=pinned"], {"size": (256, 256)}
    imax = made(pipe, "imax", *pinned, bases=bases, **double)
    assert bases.count() == 1 and bases.loads == 3
    assert same(imax, made(pipe, "imax", *pinned, **double))
    made(pipe, "imax", bases=bases)  # another shift, other steps
    assert bases.count() == 2


@pytest.mark.parametrize(
    ("name", "override"),
    [
        ("imax", "projection=cosine_shift"),
        ("imax", "projection=disable"),
        ("imax", "level=2"),
        ("imax", "schedule=stock"),
        ("imax", "proportional_attention=false"),
        ("imax", "shift_windows=false"),
        ("imax", "positions_of=yarn"),
        ("imax", "positions_of=sega"),
        ("imax", "positions_of=ultraimage"),
        ("hiflow", "structure=dwt"),
        ("hiflow", "weights=time"),
        ("hiflow", "upsampling=pixel"),
        ("hiflow", "sharpening=1.0"),
        ("hiflow", "proportional_attention=false"),
        ("hiflow", "positions_of=dype"),
        ("hiflow", "positions_of=sega"),
        ("hiflow", "positions_of=vanilla"),
    ],
)
def test_options_change_the_image(pipe, usual, name, override):
    changed = made(pipe, name, override)
    assert not same(changed, usual[name])
    if override in ("upsampling=pixel", "positions_of=sega"):
        assert same(changed, made(pipe, name, override))


def test_copies_of_the_text_change_the_image(pipe):
    one, four = (made(pipe, "imax", f"text_duplication={value}", size=(256, 256)) for value in ("false", "true"))
    assert not same(one, four)


def test_a_uniform_image_stays_uniform_when_enlarged(pipe):
    from baselines.hiflow import enlarged
    from sega.models import adapter_for

    class Through:
        """Stands in for a generation whose autoencoder repeats each cell 4 x 4 times."""

        generator = torch.Generator().manual_seed(0)

        @staticmethod
        def decode(latent):
            return latent[:, :3].repeat_interleave(4, -1).repeat_interleave(4, -2)

        @staticmethod
        def encode(picture):
            return picture[..., ::4, ::4]

    flat = enlarged(Through, torch.full((1, 8, 6, 10), 0.5), (9, 15), None)
    torch.testing.assert_close(flat, torch.full((1, 3, 9, 15), 0.5))
    latent = torch.randn(1, 8, 6, 10, generator=torch.Generator().manual_seed(0))
    assert adapter_for(pipe).decode(latent).shape == (1, 3, 24, 40)


def test_a_request_is_checked_without_torch():
    code = (
        "import sys; from sega import load_method; from sega.methods.types import ImageRequest;"
        "[load_method(n, m).stages(ImageRequest((512, 512), 4, 1.0))"
        " for n in ('imax', 'hiflow', 'upsample', 'pixelrush') for m in ('tiny', 'flux', 'qwen')];"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2]).returncode == 0
