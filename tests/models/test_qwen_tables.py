"""What reaches Qwen-Image's attention as rotary tables: golden values, both calls of `pos_embed`, other places."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from sega import attach, load_method
from sega.engine.running import RunningCall
from sega.errors import RequestError
from sega.methods.registry import build_method
from sega.methods.types import Step
from sega.models import adapter_for
from sega.models.qwen import ids_table, joint_ids
from sega.models.qwen_calls import position_arguments
from sega.models.qwen_tables import image_table, text_table
from sega.testing.qwen import build_transformer, small_geometry

GOLDEN = Path(__file__).parents[1] / "golden"
GEOMETRY, CPU = small_geometry(), torch.device("cpu")
GRID, TEXT = (12, 20), 7


@pytest.fixture(scope="module")
def transformer():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_transformer(layers=1).eval()


def call(grid=GRID, text=TEXT, seed=0):
    """Arguments of a transformer call."""
    generator = torch.Generator().manual_seed(seed)
    return {
        "hidden_states": torch.randn(1, grid[0] * grid[1], 16, generator=generator),
        "encoder_hidden_states": torch.randn(1, text, 32, generator=generator),
        "timestep": torch.tensor([0.7]),
        "img_shapes": [[(1, *grid)]],
        "return_dict": False,
    }


@torch.no_grad()
def handed(transformer, method, **arguments):
    """Tables that the blocks get in one call, and the Step of that call."""
    seen = []
    block = transformer.transformer_blocks[0]
    hook = block.register_forward_pre_hook(lambda _, args, kw: seen.append(kw["image_rotary_emb"]), with_kwargs=True)
    with attach(transformer, method, record=["tokens"]) as attachment:
        transformer(**call(**arguments))
    hook.remove()
    return seen[0], attachment.steps[0]


@pytest.mark.parametrize("grid", [GRID, (20, 12), (11, 13)], ids=str)
@pytest.mark.parametrize("name", ["pi", "ntk", "yarn", "dype", "ultraimage", "sega"])
def test_the_transformer_gets_the_tables_of_the_golden_functions(transformer, name, grid):
    method = build_method({"name": name}, GEOMETRY)
    (image, text), step = handed(transformer, method, grid=grid)
    rope = method.positions(grid, step.sigma, step.tokens)
    assert torch.equal(image, image_table(grid, rope, GEOMETRY))
    assert torch.equal(text, text_table(grid, TEXT, rope, GEOMETRY))
    assert rope.text == ("shared" if name in ("sega", "ultraimage") else "base")
    stock_image, stock_text = transformer.pos_embed([[(1, *grid)]], max_txt_seq_len=TEXT, device=CPU)
    assert image.dtype == stock_image.dtype and image.shape == stock_image.shape
    assert not torch.allclose(image, stock_image, atol=1e-2)
    if rope.text == "base":
        torch.testing.assert_close(text, stock_text, rtol=0, atol=1e-5)


def test_stock_positions_are_the_models_own_tables(transformer):
    for grid in ((10, 10), (3, 9)):
        for name in ("vanilla", "ntk", "yarn", "dype", "ultraimage"):
            tables, _ = handed(transformer, build_method({"name": name}, GEOMETRY), grid=grid)
            stock = transformer.pos_embed([[(1, *grid)]], max_txt_seq_len=TEXT, device=CPU)
            assert all(torch.equal(a, b) for a, b in zip(tables, stock, strict=True))


def test_tables_follow_the_content_and_are_not_kept(transformer):
    """The stock module remembers tables by shape; SEGA's differ at the same shape, and leave no trace in its memory."""
    stock = [t.clone() for t in transformer.pos_embed([[(1, *GRID)]], max_txt_seq_len=TEXT, device=CPU)]
    sega = build_method({"name": "sega"}, GEOMETRY)
    (first, _), _ = handed(transformer, sega, seed=0)
    (second, _), _ = handed(transformer, sega, seed=1)
    assert not torch.equal(first, second)
    after = transformer.pos_embed([[(1, *GRID)]], max_txt_seq_len=TEXT, device=CPU)
    assert all(torch.equal(a, b) for a, b in zip(after, stock, strict=True))


def golden(file, case):
    stored = np.load(GOLDEN / file)
    found = {key.rsplit("/", 1)[1]: stored[key] for key in stored.files if key.rsplit("/", 1)[0] == case}
    return found | {
        n: found[f"{n}_re"] + 1j * found[f"{n}_im"] for n in ("cis_h", "cis_w", "txt") if f"{n}_re" in found
    }


def asked(transformer, method, grid, text, sigma=1.0, tokens=None):
    """What an attached `pos_embed` answers for a grid too large to run here, in both calls that releases make."""
    with attach(transformer, method) as attachment:
        step = Step(0, sigma, grid)
        attachment.running = RunningCall(attachment.adapter, method, method.geometry, step, {}, tokens)
        new = transformer.pos_embed([[(1, *grid)]], max_txt_seq_len=text, device=CPU)
        old = transformer.pos_embed([[(1, *grid)]] * 2, [text - 3, text], device=CPU)
    assert all(torch.equal(a, b) for a, b in zip(new, old, strict=True))
    return new


@pytest.mark.parametrize("case", ["dype_yarn/128x256/t1.0", "dype_yarn/256x256/t0.5"])
def test_golden_values_of_dype_arrive(transformer, case):
    stored, vanilla = golden("qwen_rope.npz", case), golden("qwen_rope.npz", "vanilla/" + case.split("/")[1])
    grid, sigma = tuple(map(int, case.split("/")[1].split("x"))), float(case.rsplit("t", 1)[1])
    image, text = asked(transformer, load_method("dype", "qwen", ["time=sigma"]), grid, 12, sigma)
    image = image.reshape(*grid, 64).numpy()
    np.testing.assert_allclose(image[vanilla["rows_h"], 0, 8:36], stored["cis_h"], rtol=0, atol=1e-4)
    np.testing.assert_allclose(image[0, vanilla["rows_w"], 36:], stored["cis_w"], rtol=0, atol=1e-4)
    if "txt" in stored:
        np.testing.assert_allclose(text.numpy(), stored["txt"], rtol=0, atol=1e-4)


def test_golden_values_of_sega_arrive(transformer):
    cases = sorted({key.split("/")[0] for key in np.load(GOLDEN / "sega_qwen.npz").files})
    tested = 0
    for case in cases:
        stored = golden("sega_qwen.npz", case)
        grid = tuple(stored["grid"].tolist())
        if "spread" not in stored or "txt" not in stored:
            continue
        tokens, length = torch.from_numpy(stored["latents"])[0], len(stored["txt"])
        image, text = asked(transformer, load_method("sega", "qwen"), grid, length, tokens=tokens)
        image = image.reshape(*grid, 64).numpy()
        np.testing.assert_allclose(image[stored["rows_h"], 0, 8:36], stored["cis_h"], rtol=0, atol=1e-3)
        np.testing.assert_allclose(image[0, stored["rows_w"], 36:], stored["cis_w"], rtol=0, atol=1e-3)
        np.testing.assert_allclose(text.numpy(), stored["txt"], rtol=0, atol=1e-3)
        tested += 1
    assert tested > 0


def test_arguments_of_every_release():
    shapes = [[(1, 4, 6)], [(1, 4, 6)]]
    for arguments, named in (
        (([5, 9], CPU), {}),
        (([5, 9],), {"device": CPU}),
        ((), {"txt_seq_lens": [5, 9], "device": CPU}),
        ((CPU, 9), {}),
        ((CPU, torch.tensor(9)), {}),
        ((), {"max_txt_seq_len": 9, "device": CPU}),
        ((None, CPU), {"max_txt_seq_len": 9}),
        (("cpu",), {"max_txt_seq_len": 9}),
    ):
        got, length, device = position_arguments(shapes, *arguments, **named)
        assert (got, length, str(device)) == ([(1, 4, 6)], 9, "cpu")
    assert position_arguments([(1, 4, 6)], CPU, 2)[0] == position_arguments((1, 4, 6), CPU, 2)[0] == [(1, 4, 6)]
    with pytest.raises(RequestError, match="length of the text"):
        position_arguments(shapes, CPU)


def test_reference_images_have_their_own_frame_and_push_text_back(transformer):
    """Editing models put references behind the image, each a frame further; text starts behind the largest."""
    shapes = [[(1, *GRID), (1, 30, 4)]]
    rope = build_method({"name": "vanilla"}, GEOMETRY).positions(GRID)
    ours = adapter_for(transformer).table(rope, GEOMETRY, shapes, max_txt_seq_len=TEXT, device=CPU)
    stock = transformer.pos_embed(shapes, max_txt_seq_len=TEXT, device=CPU)
    for a, b in zip(ours, stock, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)
    with pytest.raises(RequestError, match="reference images"):
        adapter_for(transformer).ids(call() | {"img_shapes": shapes})


@pytest.mark.parametrize("name", ["vanilla", "yarn", "sega"])
@pytest.mark.parametrize("grid", [GRID, (5, 7), (1, 2)], ids=str)
def test_a_table_of_ids_is_the_table_of_the_sequence(name, grid):
    tokens = torch.randn(grid[0] * grid[1], 8, generator=torch.Generator().manual_seed(0))
    rope = build_method({"name": name}, GEOMETRY).positions(grid, tokens=tokens)
    expected = torch.cat([text_table(grid, TEXT, rope, GEOMETRY), image_table(grid, rope, GEOMETRY)])
    assert torch.equal(ids_table(joint_ids(grid, TEXT, CPU), rope, GEOMETRY), expected)


def distances(ids: Tensor, text: int) -> Tensor:
    """Position of every text token less that of every image token, [T, S, 3]."""
    return ids[:text, None] - ids[None, text:]


@pytest.mark.parametrize("window", [(10, 10), (6, 9), (7, 5)], ids=str)
def test_text_is_to_a_window_as_to_an_image_of_its_size(transformer, window):
    adapter = adapter_for(transformer)
    own, trained = adapter.ids(call()), joint_ids(window, TEXT, CPU)
    assert torch.equal(adapter.text_ids(call(), (0, 0), GRID), own[:TEXT])
    image = own[TEXT:].reshape(*GRID, 3)
    for y, x in ((0, 0), (GRID[0] - window[0], GRID[1] - window[1]), (1, 3)):
        inside = image[y : y + window[0], x : x + window[1]].flatten(0, 1)
        moved = torch.cat([adapter.text_ids(call(), (y, x), window), inside])
        assert torch.equal(distances(moved, TEXT), distances(trained, TEXT))
