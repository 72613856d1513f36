"""The seams of attention, tried with small methods made here."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from small import GEOMETRY, PROMPT, VANILLA, load, made, pixels

from sega.engine.sampling import seeded
from sega.methods.base import Attention, Method
from sega.models.flux import FluxAdapter


@dataclass(frozen=True, eq=False)
class Attending(Method):
    part: object = None

    def attention(self, index, run):
        return self.part


class Watch(Attention):
    def __init__(self):
        self.calls = []

    def attend(self, call):
        self.calls.append(call)
        return super().attend(call)


def test_an_attention_part_that_changes_nothing_changes_nothing(tiny_pipe):
    part = Watch()
    with_part = made(tiny_pipe, Attending(GEOMETRY, part=part), (128, 64), steps=1)
    assert np.array_equal(pixels(with_part), pixels(made(tiny_pipe, VANILLA, (128, 64), steps=1)))
    first, second = part.calls
    assert (first.layer, second.layer, first.layers) == (0, 1, 2) and first.text == second.text == 24
    assert first.q.shape == (1, 24 + 128, 2, 64) == second.q.shape and first.grid == (8, 16)
    assert first.ids.shape == (24 + 128, 3) and first.ids[24 + 17].tolist() == [0, 1, 1] and first.step.index == 0


class Factor(Attention):
    def __init__(self, value):
        self.value = value

    def factor(self, call):
        return self.value


class Written(Attention):
    """The same logits, written out."""

    def __init__(self, factors):
        self.factors = factors

    def attend(self, call):
        q, k = call.rotate(call.q), call.rotate(call.k)
        logits = torch.einsum("bqhd,bkhd->bhqk", q, k) * self.factors[:, None, None] / q.shape[-1] ** 0.5
        return torch.einsum("bhqk,bkhd->bqhd", logits.softmax(-1), call.v)


@pytest.mark.parametrize("factor", [1.2, torch.tensor([1.2, 0.7]), torch.tensor([[1.2, 0.7]])])
def test_factors_multiply_the_logits_of_heads(tiny_pipe, factor):
    from sega import attach

    factors = torch.as_tensor(factor).reshape(-1).expand(2)
    outputs = []
    for part in (Factor(factor), Written(factors), Factor(None)):
        with attach(tiny_pipe, Attending(GEOMETRY, part=part)):
            outputs.append(_latent(tiny_pipe))
    assert torch.allclose(outputs[0], outputs[1], atol=1e-4) and not torch.allclose(outputs[0], outputs[2], atol=1e-3)


def _latent(pipe):
    adapter = FluxAdapter(pipe)
    noise = torch.randn(adapter.latent_shape((128, 64)), generator=seeded(0, PROMPT, (128, 64)))
    return adapter.sample(PROMPT, (128, 64), noise, guidance=1.0, num_inference_steps=1, max_sequence_length=24)


def test_rotation_by_other_ids_and_frequencies(tiny_pipe):
    """Rotation is relative: ids moved together leave attention alone; base frequencies undo a method's own."""

    class Moved(Attention):
        def attend(self, call):
            ids = call.ids + torch.tensor([0.0, 3.0, 5.0])
            return call.dense(call.rotate(call.q, ids=ids), call.rotate(call.k, ids=ids), call.v)

    class Base(Attention):
        def attend(self, call):
            rope = VANILLA.positions(call.grid)
            return call.dense(call.rotate(call.q, rope=rope), call.rotate(call.k, rope=rope), call.v)

    @dataclass(frozen=True, eq=False)
    class Yarn(Attending):
        def positions(self, grid, sigma=1.0, tokens=None):
            return load("yarn").positions(grid, sigma, tokens)

    plain = pixels(made(tiny_pipe, VANILLA, (256, 128), steps=1)).astype(int)
    moved = pixels(made(tiny_pipe, Attending(GEOMETRY, part=Moved()), (256, 128), steps=1)).astype(int)
    assert abs(moved - plain).max() <= 1
    based = pixels(made(tiny_pipe, Yarn(GEOMETRY, part=Base()), (256, 128), steps=1))
    assert np.array_equal(based, plain)


def test_a_pattern_sees_what_it_needs_to_place_text(tiny_pipe):
    """Attention over [text, one half] for each half of the image, as windowed patterns do it."""

    class Halves(Attention):
        def attend(self, call):
            q, k = call.rotate(call.q), call.rotate(call.k)
            text, half = call.text, call.grid[0] * call.grid[1] // 2
            parts = []
            for start in (text, text + half):
                keep = [*range(text), *range(start, start + half)]
                parts.append(call.dense(q[:, keep], k[:, keep], call.v[:, keep]))
            words = (parts[0][:, :text] + parts[1][:, :text]) / 2
            return torch.cat([words, parts[0][:, text:], parts[1][:, text:]], dim=1)

    done = made(tiny_pipe, Attending(GEOMETRY, part=Halves()), (128, 64), steps=1)
    assert not np.array_equal(pixels(done), pixels(made(tiny_pipe, VANILLA, (128, 64), steps=1)))


def test_rehearsing_runs_the_transformer_once_more(tiny_pipe):
    class Rehearsed(Watch):
        def probes(self, step):
            return step.index == 0

    part = Rehearsed()
    done = made(tiny_pipe, Attending(GEOMETRY, part=part), (64, 64), steps=2)
    assert done.calls == 3 and ["probe" in step.details for step in done.steps] == [True, False, False]
    assert [step.index for step in done.steps] == [0, 0, 1]
    assert np.array_equal(pixels(done), pixels(made(tiny_pipe, VANILLA, (64, 64), steps=2)))


def test_copies_of_the_text(tiny_pipe):
    class Text(Watch):
        pass

    @dataclass(frozen=True, eq=False)
    class Copies(Attending):
        def text_positions(self, grid, index):
            return [(0, 0), (0, 16)]

    part = Text()
    made(tiny_pipe, Copies(GEOMETRY, part=part), (256, 128), steps=1)
    call = part.calls[0]
    assert call.text == 48 and call.q.shape[1] == 48 + 512
    assert call.ids[:24].abs().sum() == 0 and call.ids[24:48].unique(dim=0).tolist() == [[0, 0, 16]]
    assert call.k[:, :24].equal(call.k[:, 24:48]) and call.ids[48].tolist() == [0, 0, 0]
