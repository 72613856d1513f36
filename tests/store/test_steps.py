"""What is recorded of each step: spectra, attention, and the files they stand in."""

import json

import numpy as np
import pytest
import torch
from small import load

from sega import attach
from sega.engine.recorder import AttentionWatch, Observation, latent_spectrum
from sega.engine.sampling import generate
from sega.errors import RequestError
from sega.store.step_files import maps_file, read_steps, rows_file, write_steps

PROMPT = "a red ball on sand"


def test_spectrum_puts_a_wave_in_its_ring_and_white_noise_at_its_variance():
    x = torch.arange(24) / 24
    wave = torch.cos(2 * torch.pi * 5 * x).expand(16, 24)[None, None]
    found = latent_spectrum(wave)
    assert len(found) == 13 and int(found.argmax()) == 5 and float(found.sum() - found[5]) < 1e-6
    noise = 2 * torch.randn(4, 16, 64, 48, generator=torch.Generator().manual_seed(0))
    assert latent_spectrum(noise)[4:] == pytest.approx(torch.full((29,), 4.0), rel=0.15)
    tall = latent_spectrum(wave.mT)
    assert torch.allclose(tall, found, atol=1e-4)


def test_attention_of_one_token_equals_the_row_of_the_whole_map():
    torch.manual_seed(0)
    text, grid, heads = 3, (4, 6), 2
    q, k = (torch.randn(1, text + 24, heads, 8) for _ in range(2))
    watch = AttentionWatch((0.99, 0.5))
    assert watch.token(grid) == (2, 5)
    watch.see(q.shape, text, grid, q, k)
    watch.see(q.shape, text, grid, q, k, 0.1)
    watch.see(q.shape, text, grid, q[:, :20], k[:, :20])  # a patch is not the image
    place = text + 2 * 6 + 5
    logits = torch.einsum("hd,shd->hs", q[0, place], k[0])
    rows = [(logits * scale).softmax(-1).mean(0) for scale in (8**-0.5, 0.1)]
    found = watch.found()
    assert torch.allclose(found["attention"], sum(rows)[text:].reshape(grid) / 2, atol=1e-6)
    assert found["attention_text"] == pytest.approx([float(row[:text].sum()) for row in rows], abs=1e-6)
    far = [np.hypot(i - 2, j - 5) for i in range(4) for j in range(6)]
    picture = rows[1][text:].double().numpy()
    assert found["attention_distance"][1] == pytest.approx((picture * far).sum() / picture.sum(), abs=1e-5)
    watch.clear()
    assert watch.found() == {}


@pytest.mark.parametrize("name", ["vanilla", "sega", "ultraimage", "hiflow"])
def test_recording_changes_no_image(tiny_pipe, name):
    words = {"method": load(name), "prompt": PROMPT, "size": (256, 128), "steps": 2, "guidance": 1.0}
    plain = generate(tiny_pipe, **words)
    done = generate(tiny_pipe, **words, observe=Observation(("spectrum", "attention"), query=(0.25, 0.5)))
    assert np.array_equal(np.asarray(done.image), np.asarray(plain.image))
    for step in done.steps:
        height, width = step.grid
        assert len(step.details["spectrum"]) == len(step.details["spectrum_clean"]) == max(height, width) + 1
        assert step.details["attention"].shape == step.grid and step.details["query"] == (height // 2, width // 4)
        shares = float(step.details["attention"].sum()) + float(np.mean(step.details["attention_text"]))
        assert shares == pytest.approx(1, abs=1e-4) and len(step.details["attention_distance"]) == 2
    assert "attention" not in plain.steps[0].details


def test_the_last_clean_prediction_is_the_latent_that_was_decoded(tiny_pipe):
    with attach(tiny_pipe, load("vanilla"), record=["spectrum"]) as attachment:
        packed = tiny_pipe(
            PROMPT,
            width=128,
            height=128,
            num_inference_steps=2,
            guidance_scale=1.0,
            max_sequence_length=24,
            generator=torch.Generator().manual_seed(0),
            output_type="latent",
        ).images
        found = attachment.steps[-1].details["spectrum_clean"]
        expected = latent_spectrum(attachment.adapter.unpack(packed, (16, 16)))
    assert torch.allclose(found, expected, rtol=1e-3, atol=1e-5)


def test_layers_that_do_not_attend_densely_are_left_out(tiny_pipe):
    method = load("scalediff")
    done = generate(
        tiny_pipe, method, PROMPT, seed=0, size=(256, 256), steps=2, guidance=1.0, observe=Observation(("attention",))
    )
    patched = [step for step in done.steps if step.grid == (32, 32)]
    assert patched and all("attention" not in step.details for step in patched)


def test_steps_come_back_from_disk_and_damage_is_named(tiny_pipe, tmp_path):
    method = load("sega")
    done = generate(
        tiny_pipe,
        method,
        PROMPT,
        seed=0,
        size=(256, 128),
        steps=2,
        guidance=1.0,
        observe=Observation(("magnitudes", "spectrum", "attention")),
    )
    image = tmp_path / "a.b-0.png"
    assert read_steps(image) == []
    write_steps(image, done.steps)
    rows = read_steps(image)
    assert [row["index"] for row in rows] == [0, 1] and rows[0]["grid"] == [16, 32]
    assert np.array_equal(rows[1]["attention"], done.steps[1].details["attention"].numpy())
    assert rows[0]["magnitudes"][1] == done.steps[0].details["magnitudes"][1].tolist()
    assert "attention" not in json.loads(rows_file(image).read_text().splitlines()[0])
    maps_file(image).write_bytes(b"half")
    with pytest.raises(RequestError, match="damaged"):
        read_steps(image)
