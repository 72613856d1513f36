"""What is counted for an image of each method against what torch counts while it is made."""

from types import SimpleNamespace

import pytest
from method_table import METHODS
from small import build, load, made
from small import words as small_words
from traffic import Traffic, operations

from sega.loading.caching import enable, read_cache
from sega.loading.folder import read_parts
from sega.methods.stepping import PLAIN, read_stepping
from sega.methods.types import Step
from sega.models import adapter_for
from sega.run.cost import image_cost, stage_steps, whole_calls, whole_steps
from sega.run.request import read_request

ENCODERS = ("CLIPTextModel", "T5EncoderModel")
CERTAIN = {  # without what chance and the content of an image decide
    "window": ("shift=false",),
    "area": ("shift=false", "smooth=0", "bridge=0"),
    "scalediff": ("jitter=false",),
}
MORE = [
    ("window", ("shift=false", "ids=own", "halo=1")),
    ("area", ("shift=false", "smooth=0", "bridge=0", "budget=0.4")),
    ("ultraimage", ("entropy=token",)),
    ("ultraimage", ("mode=guided", "base_steps=2", "steps=2", "guidance=1")),
    ("hrdit", ("base_steps=2", "steps=[2]", "hap=false", "spa_steps=[1]", "groups=3")),
    ("hiflow", ("base_steps=2", "steps=[2]", "upsampling=pixel", "shift_windows=false")),
    ("hiflow", ("base_steps=2", "steps=[2]", "attention_of=ultraimage")),
    ("hiflow", ("base_steps=3", "ratios=[1.5]", "steps=[2,1]")),
    ("pixelrush", ("base_steps=2", "inversion=velocity", "steps=2")),
    ("imax", ("base_steps=2", "steps=2", "text_duplication=true", "attention_of=resdit")),
    ("upsample", ("base_steps=2", "kind=lanczos")),
]
SIZE = (192, 128)


def cell_of(folder, store, name, options, *words):
    """The cell of a method on the small model in a folder."""
    line = [f"method={name}", *(f"method.{option}" for option in options), f"store={store}", "device=cpu", *words]
    (cell,) = read_request(small_words(folder, *line)).cells
    return cell


def counted(pipe, method, **options):
    with operations() as counter:
        made(pipe, method, SIZE, **options)
    return without_text(counter)


def without_text(counter):
    """Operations without those of the text encoders."""
    found = {name: sum(kinds.values()) for name, kinds in counter.get_flop_counts().items()}
    return found["Global"] - sum(found.get(name, 0) for name in ENCODERS)


def told(folder, store, name, options, *words):
    cell = cell_of(folder, store, name, options, f"res={SIZE[0]}x{SIZE[1]}", "steps=2", "guidance=1", *words)
    return image_cost(cell, read_parts(folder))


CASES = [(row.name, row.quick + CERTAIN.get(row.name, ())) for row in METHODS] + MORE


@pytest.mark.parametrize(("name", "options"), CASES, ids=[f"{name}-{','.join(more)}" for name, more in CASES])
def test_operations_are_those_that_torch_counts(tiny_pipe, tiny_folder, tmp_path, name, options):
    cost = told(tiny_folder, tmp_path, name, options)
    assert cost.work.operations == pytest.approx(counted(tiny_pipe, load(name, *options)), rel=1e-4)
    assert 0 < cost.coding.operations < cost.work.operations


@pytest.mark.parametrize(("name", "options"), [("window", ()), ("area", ("smooth=0", "bridge=0.1")), ("scalediff", ())])
def test_what_chance_decides_is_counted_by_its_mean(tiny_pipe, tiny_folder, tmp_path, name, options):
    """Borders of windows lie elsewhere in each image; distinctive tokens inside a window are not asked twice."""
    short = options + (("base_steps=2",) if name == "scalediff" else ())
    method = load(name, *short)
    found = [counted(tiny_pipe, method, seed=seed) for seed in range(4)]
    expected = told(tiny_folder, tmp_path, name, short).work.operations
    assert min(found) * 0.98 < expected < max(found) * 1.05


@pytest.mark.parametrize("name", ["vanilla", "window", "area", "resdit", "scalediff", "freescale"])
def test_kernels_are_about_those_that_torch_runs(tiny_pipe, tiny_folder, tmp_path, name):
    """Within a quarter: those of windows are counted roughly, and once for all windows that are made together."""
    options = ("base_steps=4",) if name in ("scalediff", "freescale") else ()
    cost, traffic, transformer = told(tiny_folder, tmp_path, name, options), Traffic(), tiny_pipe.transformer
    hooks = [
        transformer.register_forward_pre_hook(lambda *_: traffic.__enter__() and None),
        transformer.register_forward_hook(lambda *_: traffic.__exit__(None, None, None)),
    ]
    try:
        made(tiny_pipe, load(name, *options), SIZE)
    finally:
        for hook in hooks:
            hook.remove()
    assert cost.work.kernels - cost.coding.kernels == pytest.approx(traffic.kernels, rel=0.25)


@pytest.mark.parametrize(("side", "text"), [(24, 8), (40, 200)])
def test_flex_kernels_are_counted_by_their_tiles(side, text):
    """HRDiT's pruned attention on a GPU: the tiles of its block mask; on a CPU what chunks gather."""
    from baselines.kernels.pruned import TILE, band_half, hap_block_mask

    method, length = load("hrdit", "hap_alpha=64", "hap_block=16", "hap_stride=8"), side * side + text
    step = Step(5, 0.5, (side, side), stage=1, sigmas=(0.5,) * 6)
    plain, flex = (method.attended(step, text, gpu) for gpu in (False, True))
    mask = hap_block_mask(length, text, [band_half(length, 64, 0, 16)], 16, 8)
    assert flex.flex == TILE**2 * int(mask.kv_num_blocks.sum() + mask.full_kv_num_blocks.sum())
    assert flex.pairs == 0 < plain.pairs < length**2 + 1 and flex.vectors < plain.vectors


@pytest.mark.parametrize("grid", [(48, 48), (40, 72)])
def test_patches_have_one_size_on_a_gpu(grid):
    """ScaleDiff asks with whole patches there, some queries in vain, so that there are few shapes."""
    from baselines.kernels.tile_cost import neighbourhood_axis
    from baselines.kernels.windows import neighbourhoods, of_one_size

    window, patch, pairs = 24, 10, []
    for rows in range(patch + 1):
        for columns in range(patch + 1):
            tiles = neighbourhoods(grid, (window, window), (patch, patch), (rows, columns))
            pairs += [sum(b.tokens * t.keys.tokens for b, t in zip(of_one_size(tiles, grid), tiles, strict=True))]
    height, width = (neighbourhood_axis(side, window, patch, moves=True, whole=True) for side in grid)
    assert height.pairs * width.pairs == pytest.approx(sum(pairs) / len(pairs))
    method, step = load("scalediff", "base_steps=2"), Step(0, 0.5, grid, stage=1)
    asked, whole = (method.attended(step, 8, gpu).pairs for gpu in (False, True))
    assert asked < whole < 1.5 * asked


@pytest.mark.parametrize("interval", [2, 3, 5])
def test_whole_steps_of_taylorseer_are_those_of_its_hook(interval):
    from diffusers.hooks.taylorseer_cache import TaylorSeerCacheHook

    state, whole = SimpleNamespace(current_step=-1), 0
    hook = TaylorSeerCacheHook(interval, 3, None, SimpleNamespace(get_state=lambda: state))
    for steps in range(1, 25):
        whole += hook._measure_should_compute()[0]
        assert whole_steps(read_cache(f"taylorseer:{interval}"), steps) == (whole, whole)


def test_steps_that_a_cache_leaves_out(tiny_folder, tmp_path):
    """TaylorSeer counts steps, and what it leaves out lacks the blocks; others are counted whole."""

    def work(*words):
        return told(tiny_folder, tmp_path, "vanilla", (), "steps=20", *words)

    whole, taylor = work(), work("model.cache=taylorseer:3")
    assert taylor.calls == whole.calls == 20
    share = (taylor.work - whole.coding).operations / (whole.work - whole.coding).operations
    assert 9 / 20 < share < 9 / 20 + 0.05
    assert work("model.cache=sea:0.3").work == whole.work


@pytest.fixture(scope="module")
def own_pipe():
    return build(double=1, single=1)  # as `tiny_pipe`, on which the hooks of a cache would stay


@pytest.fixture
def switched(own_pipe, tiny_folder, tmp_path):
    """Gives the cell of a line of eight steps, and what makes an image of it."""

    def make(name, *words):
        line = (f"res={SIZE[0]}x{SIZE[1]}", "steps=8", "guidance=1", *words)
        cell = cell_of(tiny_folder, tmp_path, name, (), *line)
        if cache := read_cache(cell.model["cache"]):
            enable(own_pipe.transformer, cache, own_pipe.transformer.dtype)
        adapter_for(own_pipe).stepping = read_stepping(cell.model)
        return cell, lambda: made(own_pipe, cell.method, SIZE, 8)

    yield make
    adapter_for(own_pipe).stepping = PLAIN
    own_pipe.transformer.disable_cache()


EXACT, GROWS, CHANCE = 1e-6, 2e-3, 2e-2
"""The transforms of a latent that grows are not counted; borders of windows lie elsewhere in each image."""
SWITCHES = [
    ("vanilla", "model.solver=unipc", EXACT),
    ("sega", "model.solver=heun", EXACT),
    ("scalediff", "method.jitter=false model.base_steps=0.1x", EXACT),
    ("sega", "model.progressive=0.05:2", GROWS),
    ("vanilla", "model.progressive=0.1 model.solver=heun", GROWS),
    ("sega", "model.late_attention=window:1:0.9", CHANCE),
    ("vanilla", "model.late_attention=pruned:0.5:0.8 model.progressive=0.05", CHANCE),
]


@pytest.mark.parametrize(("name", "switch", "within"), SWITCHES, ids=[f"{case[0]}-{case[1]}" for case in SWITCHES])
def test_what_switches_save_is_counted(switched, tiny_folder, name, switch, within):
    """Every call at its grid and sigma, and operations against what torch counts."""
    cell, make = switched(name, *switch.split())
    with operations() as counter:
        image = make()
    steps = [step for index in range(len(cell.stages)) for step in stage_steps(cell, index)]
    assert [step.grid for step in steps] == [step.grid for step in image.steps]
    assert [step.sigma for step in steps] == pytest.approx([step.sigma for step in image.steps], abs=1e-6)
    cost = image_cost(cell, read_parts(tiny_folder))
    assert cost.calls == image.calls
    assert cost.work.operations == pytest.approx(without_text(counter), rel=within)


@pytest.mark.parametrize("cache", ["taylorseer:3", "sea:99", "first_block:99"])  # thresholds that are never reached
@pytest.mark.parametrize("more", [(), ("model.progressive=0.05",)])
def test_the_least_that_a_cache_leaves_whole(switched, cache, more):
    """It begins anew where the latent grows."""
    cell, make = switched("vanilla", f"model.cache={cache}", *more)
    blocks = [step.details["blocks"] for step in make().steps]
    least, most = whole_calls(cell, 0)
    assert least == sum(count == max(blocks) for count in blocks)
    assert most == (least if cache.startswith("taylorseer") else len(blocks))
