"""Methods as a user meets them: names, parameters, requests that can't be met, and identity at the training size."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

import sega
from sega import RequestError, load_method
from sega.errors import near
from sega.home import CONF
from sega.methods.base import Method
from sega.methods.geometry import load_geometry
from sega.methods.parameters import parameters_of
from sega.methods.registry import METHODS, build_method

ROOT = Path(__file__).resolve().parents[2]
MODELS = ("tiny", "flux", "qwen")
GRID = {"tiny": (40, 24), "flux": (128, 96), "qwen": (128, 96)}


def latent(grid, channels=3, seed=0):
    return torch.randn(grid[0] * grid[1], channels, generator=torch.Generator().manual_seed(seed)).cumsum(dim=0)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", METHODS)
def test_identity_at_and_below_the_training_side(name, model):
    geometry = load_geometry(model)
    side = min(geometry.train_tokens, geometry.sega_train_tokens)
    method = load_method(name, model)
    for grid in ((side, side), (side, side // 2), (1, 3)):
        rope = method.positions(grid, 0.7)
        assert rope.stock
        assert (rope.height.magnitudes == 1).all() and rope.width.frequencies[0] == 1


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", METHODS)
def test_shapes_and_axes_beyond_it(name, model):
    method, grid = load_method(name, model), GRID[model]
    rope = method.positions(grid, 0.7, latent(grid))
    pairs = method.geometry.axes[1] // 2
    for axis in (rope.height, rope.width):
        for values in (axis.frequencies, axis.magnitudes):
            assert values.dtype == torch.float64 and values.shape == (pairs,) and values.isfinite().all()
    same = ("vanilla", "scalediff", "freescale", "upsample", "window", "area")  # these change no position
    assert rope.stock == (name in same)


@pytest.mark.parametrize("name", METHODS)
def test_the_config_lists_every_parameter_with_its_default(name):
    config = OmegaConf.to_container(OmegaConf.load(CONF / "method" / f"{name}.yaml"))
    method = load_method(name)
    declared = parameters_of(type(method))
    assert set(config) == {"name", *method.parameters()} == {"name", *declared}
    assert build_method({"name": name}, method.geometry) == method == build_method(config, method.geometry)
    assert all(parameter.doc and "\n" not in parameter.doc for _, parameter in declared.values())


def test_configs_and_tables_are_those_of_the_code():
    """`conf/method/*.yaml` and the tables of the docs are written from the declarations."""
    done = subprocess.run(
        [sys.executable, "scripts/method_pages.py", "check"], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "name, overrides, message",
    [
        ("sgea", [], "did you mean 'sega'"),
        ("sega", ["kapa=1"], "did you mean 'kappa'"),
        ("sega", ["binning=exakt"], "did you mean 'exact'"),
        ("sega", ["amplitude=-1"], "amplitude=-1"),
        ("sega", ["amplitude=much"], "amplitude=much"),
        ("sega", ["amplitude=null"], "amplitude=None"),
        ("sega", ["kappa=true"], "kappa=True"),
        ("sega", ["gain=.inf"], "gain=inf"),
        ("sega", ["tie_axes=2"], "tie_axes=2 must be true or false"),
        ("sega", ["variant=papers"], "did you mean 'paper'"),
        ("sega", ["variant=[code]"], "variant"),
        ("sega", ["kappa.x=1"], "kappa"),
        ("sega", ["kappa"], "key=value"),
        ("sega", ["name=yarn"], "by its name"),
        ("sega", ["kappa=[1"], "can't be read"),
        ("yarn", ["variant=imag"], "did you mean 'image'"),
        ("dype", ["base=nkt"], "did you mean 'ntk'"),
        ("sigma", ["base=ntk", "rule=paper"], "rule=paper is of base=yarn"),
        ("sigma", ["base=ntk", "magnitude=constant"], "magnitude=constant is of base=yarn"),
        ("sigma", ["centre=2"], "centre=2"),
        ("tasr", ["watershed=1.5"], "between 0 and 1"),
        ("vision_yarn", ["start_sigma=0"], "start_sigma=0"),
        ("dype", ["time=as_run"], "time=sigma"),
        ("dype", ["lambda_t=-2"], "lambda_t=-2"),
        ("pi", ["schedule=pined"], "did you mean 'pinned'"),
    ],
)
def test_wrong_requests_answer_in_one_line(name, overrides, message):
    with pytest.raises(RequestError) as error:
        load_method(name, overrides=overrides)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_unknown_models_and_geometries():
    with pytest.raises(RequestError, match="did you mean 'flux'"):
        load_method("pi", model="fluxx")
    with pytest.raises(RequestError, match="even"):
        sega.methods.geometry.Geometry("flux", (16, 55, 56), 10000, 64, 64, 16, 512)
    with pytest.raises(RequestError, match="did you mean 'theta'"):
        sega.methods.geometry.build_geometry({"thetta": 3})


def test_near_lists_what_there_is_when_nothing_is_near():
    assert near("yran", ["yarn", "pi"]) == "; did you mean 'yarn'?"
    assert near("zzz", ["yarn", "pi"]) == "; known: yarn, pi"
    assert near("x", []) == ""


@pytest.mark.parametrize(
    "call",
    [
        {"grid": (0, 5)},
        {"grid": (5,)},
        {"grid": (5.5, 5)},
        {"grid": (5, 5), "sigma": 1.5},
        {"grid": (5, 5), "sigma": float("nan")},
    ],
)
def test_wrong_grids_and_times(call):
    with pytest.raises(RequestError):
        load_method("yarn").positions(**call)


def test_sega_says_what_it_needs():
    method, grid = load_method("sega", "tiny"), (32, 32)
    assert method.needs() == {"tokens"}
    assert load_method("sega", "tiny", ["source=latent", "frequencies=dype"]).needs() == {"latent", "sigma"}
    with pytest.raises(RequestError, match="tokens"):
        method.positions(grid)
    with pytest.raises(RequestError, match="32x32"):
        method.positions(grid, tokens=torch.zeros(1000, 4))
    with pytest.raises(RequestError, match="joint"):
        method.positions(grid, tokens=torch.zeros(2, 1024, 4))
    with pytest.raises(RequestError, match="NaN"):
        method.positions(grid, tokens=torch.full((1024, 4), torch.nan))


@pytest.mark.parametrize("off", ["amplitude=0", "gain=0", "gamma=0"])
@pytest.mark.parametrize("model", MODELS)
def test_sega_without_its_spectral_part_is_uniform_and_needs_nothing(model, off):
    method, grid = load_method("sega", model, [off]), GRID[model]
    assert method.needs() == set()
    rope = method.positions(grid)
    height, width = method.references(grid)
    # On Qwen-Image the height takes the magnitudes of the width.
    assert (rope.height.magnitudes == (width if model == "qwen" else height)).all()
    assert (rope.width.magnitudes == width).all() and width > 1
    full = load_method("sega", model).positions(grid, tokens=latent(grid))
    assert torch.equal(rope.height.frequencies, full.height.frequencies)


def test_sega_on_a_constant_latent_is_uniform():
    rope = load_method("sega").positions((128, 128), tokens=torch.full((128 * 128, 4), 0.3))
    assert rope.details["strength"] == 0
    assert (rope.height.magnitudes == 2**0.08).all()


def test_the_spread_of_sega_bounds_its_strength():
    grid, tokens = (128, 96), latent((128, 96))
    plain = load_method("sega").positions(grid, tokens=tokens).details["strength"]
    spread = load_method("sega", overrides=["spread_min=0.2", "spread_max=0.7"])
    assert spread.positions(grid, tokens=tokens).details["strength"] == pytest.approx(0.2 + 0.5 * plain)
    off = load_method("sega", overrides=["spread_max=0"])
    assert off.needs() == set() and (off.positions(grid).width.magnitudes == 2**0.08).all()
    flat = load_method("sega", overrides=["gamma=0", "spread_min=0.5"])
    assert flat.needs() == {"tokens"} and flat.positions(grid, tokens=tokens).details["strength"] == 0.5
    with pytest.raises(RequestError, match="spread_min=2 must not exceed spread_max=1"):
        load_method("sega", overrides=["spread_min=2"])


def test_sega_records_what_it_saw():
    details = load_method("sega").positions((128, 96), tokens=latent((128, 96))).details
    assert details["profile_height"].shape == (64,) and details["profile_width"].shape == (48,)
    assert details["profile_radial"].shape == (64,)
    assert 0 < details["flatness"] < 1 and 0 < details["strength"] < 1
    assert details["scale"] == (2, 2)


def test_sega_variant_settles_what_is_not_said():
    paper = load_method("sega", overrides=["variant=paper"])
    assert (paper.amplitude, paper.gain, paper.floor) == (1.0, 1.0, None)
    assert (paper.ntk, paper.source, paper.band_map) == ("plain", "latent", "physical")
    assert paper.needs() == {"latent"}
    mixed = load_method("sega", overrides=["variant=paper", "amplitude=0.15", "floor=1", "source=embedded"])
    assert (mixed.amplitude, mixed.gain, mixed.floor) == (0.15, 1.0, 1)
    assert (mixed.ntk, mixed.source, mixed.band_map) == ("plain", "embedded", "physical")
    code = load_method("sega")
    assert (code.ntk, code.source, code.band_map) == ("code", "embedded", "rank")
    assert load_method("sega", overrides=["floor=null"]).floor is None
    assert load_method("sega", overrides=["floor=none"]).floor is None


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("other", ["vanilla", "pi", "yarn", "dype", "sigma", "tasr", "vision_yarn", "ultraimage"])
def test_sega_on_the_frequencies_of_another_method(other, model):
    grid = GRID[model]
    own = load_method("sega", model).positions(grid, 0.5, latent(grid))
    mixed = load_method("sega", model, [f"frequencies={other}"]).positions(grid, 0.5, latent(grid))
    expected = load_method(other, model).positions(grid, 0.5)
    assert torch.equal(mixed.height.frequencies, expected.height.frequencies)
    assert torch.equal(mixed.width.frequencies, expected.width.frequencies)
    assert torch.equal(mixed.width.magnitudes, own.width.magnitudes)


@pytest.mark.parametrize(
    "override",
    [
        "ntk=plain",
        "kappa=0.2",
        "gamma=0.5",
        "amplitude=0.3",
        "gain=3",
        "floor=1.05",
        "m_ref=log",
        "band_map=physical",
        "binning=exact",
        "variant=paper",
        "spread_min=0.9",
        "spread_max=0.5",
    ],
)
def test_every_knob_of_sega_changes_the_result(override):
    grid = (96, 96)
    tokens = latent(grid)
    before = load_method("sega").positions(grid, tokens=tokens)
    after = load_method("sega", overrides=[override]).positions(grid, tokens=tokens)
    moved = [
        a.frequencies.equal(b.frequencies) and a.magnitudes.equal(b.magnitudes)
        for a, b in ((before.height, after.height), (before.width, after.width))
    ]
    assert not any(moved)


def test_sega_log_reference_and_plain_factor():
    details = load_method("sega", overrides=["m_ref=log", "ntk=plain", "amplitude=0"]).positions((128, 256)).details
    assert details["m_ref"][0] == pytest.approx(1 + 0.08 * 1.3862943611)
    assert details["ntk_factor"] == pytest.approx((4.210740810555822,) * 2)


def test_a_tall_image_on_qwen_takes_the_width():
    grid = (128, 64)  # the width is at its training side, so its magnitude is 1, and the tied height's too
    rope = load_method("sega", "qwen").positions(grid)
    assert (rope.height.magnitudes == 1).all() and not rope.stock
    free = load_method("sega", "qwen", ["tie_axes=false"]).positions(grid, tokens=latent(grid))
    assert (free.height.magnitudes > 1).any() and (free.width.magnitudes == 1).all()


def test_dype_settles_its_automatic_values():
    assert load_method("dype").parameters() == {
        "schedule": "pinned",
        "base": "yarn",
        "lambda_s": 1.0,
        "lambda_t": 2.0,
        "rule": "product",
        "acts_on": "thresholds",
        "ntk": "exponential",
        "time": "sigma",
    }
    assert load_method("dype", overrides=["base=ntk"]).lambda_s == 2.0


def test_later_parameters_tell_images_apart_only_when_changed():
    """An image made before a parameter existed is still found, by the name it had."""
    before = {"schedule", "base", "lambda_s", "lambda_t", "rule", "time"}
    assert set(load_method("dype").identity()) == before
    assert set(load_method("dype", overrides=["acts_on=both"]).identity()) == before | {"acts_on"}
    qwen = load_method("dype", "qwen")
    assert (qwen.time, qwen.schedule) == ("as_run", "stock")
    assert load_method("dype", "qwen", ["time=sigma"]).schedule == "pinned"
    assert load_method("dype").needs() == {"sigma"}


def test_axes_are_stretched_each_by_its_own_ratio():
    rope = load_method("pi").positions((64, 256))
    torch.testing.assert_close(rope.width.frequencies * 4, rope.height.frequencies)


def test_methods_are_values():
    first, second = (load_method("sega", overrides=["kappa=0.1"]) for _ in range(2))
    assert first == second and hash(first) == hash(second)
    assert "geometry" not in first.parameters()
    assert isinstance(first, Method)


def test_bad_requests_are_answered_without_torch():
    code = (
        "import sys\nfrom sega import load_method, RequestError\n"
        "try: load_method('dype', overrides=['bas=ntk'])\nexcept RequestError as e: print(e)\n"
        "load_method('sega', 'qwen')\nassert 'torch' not in sys.modules and 'diffusers' not in sys.modules\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=CONF.parent)
    assert result.returncode == 0, result.stderr
    assert "did you mean 'base'" in result.stdout
