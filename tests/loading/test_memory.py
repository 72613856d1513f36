"""Estimates against live tensors of the stock classes at published sizes, and the placement that follows from them."""

from dataclasses import replace

import pytest
import torch
from doubles import Table
from omegaconf import OmegaConf

from sega import load_method
from sega.errors import RequestError
from sega.home import CONF
from sega.loading import memory
from sega.loading.folder import Component
from sega.methods.types import ImageRequest, Stage
from sega.testing.live import LiveBytes

BF16 = torch.bfloat16


def peak(monkeypatch, run):
    # On the meta device attention would hold the map of all pairs, which no kernel on a GPU does.
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", lambda query, *_, **__: query.clone())
    live = LiveBytes()
    with live, torch.no_grad(), torch.device("meta"):
        run()
    return live.peak


def empty(*shape, dtype=BF16):
    return torch.empty(shape, dtype=dtype, device="meta")


def model(name, **changes):
    config = OmegaConf.merge(OmegaConf.load(CONF / "loading.yaml"), OmegaConf.load(CONF / "model" / f"{name}.yaml"))
    return OmegaConf.to_container(config) | changes


def expected(name, size, **changes):
    config = model(name, **changes)
    published = config["published"].items()
    parts = {key: Component(int(part["parameters"]), part.get("config") or {}) for key, part in published}
    return memory.estimate(config, parts, [Stage(size, 20, 4.0)])


def test_the_autoencoder_may_see_more_than_the_transformer():
    """PixelRush: no stage is larger than a patch, and the image is decoded as a whole."""
    config = model("flux", vae_tiling=False)
    parts = {
        key: Component(int(part["parameters"]), part.get("config") or {}) for key, part in config["published"].items()
    }
    small, large = expected("flux", (1024, 1024), vae_tiling=False), expected("flux", (4096, 4096), vae_tiling=False)
    found = memory.estimate(config, parts, [Stage((1024, 1024), 1, 4.0)], (4096, 4096))
    assert (found.activations, found.decoding) == (small.activations, large.decoding)
    request = ImageRequest((4096, 4096), 28, 4.5)
    assert load_method("pixelrush", "flux").decoded_size(request) == (4096, 4096)
    assert load_method("upsample", "flux").decoded_size(request) == (1024, 1024)


def test_activations_of_flux(monkeypatch):
    from diffusers import FluxTransformer2DModel

    with torch.device("meta"):
        transformer = FluxTransformer2DModel(guidance_embeds=True, num_layers=1, num_single_layers=1).to(BF16)
    tokens = 64 * 64
    transformer.pos_embed = Table(*(empty(tokens + 512, 128, dtype=torch.float32) for _ in range(2)))
    call = {
        "hidden_states": empty(1, tokens, 64),
        "encoder_hidden_states": empty(1, 512, 4096),
        "timestep": empty(1),
        "pooled_projections": empty(1, 768),
        "img_ids": empty(tokens, 3),
        "txt_ids": empty(512, 3),
        "guidance": empty(1),
    }
    live = peak(monkeypatch, lambda: transformer(**call))
    assert expected("flux", (1024, 1024)).activations == pytest.approx(live, rel=0.05)


def test_activations_of_qwen(monkeypatch):
    from diffusers import QwenImageTransformer2DModel

    with torch.device("meta"):
        transformer = QwenImageTransformer2DModel(num_layers=1).to(BF16)
    transformer.pos_embed = Table(*(empty(n, 64, dtype=torch.complex64) for n in (64 * 64, 512)))
    call = {
        "hidden_states": empty(1, 64 * 64, 64),
        "encoder_hidden_states": empty(1, 512, 3584),
        "timestep": empty(1),
        "img_shapes": [[(1, 64, 64)]],
    }
    live = peak(monkeypatch, lambda: transformer(**call))
    assert live * 0.99 < expected("qwen", (1024, 1024)).activations < live * 1.1  # text counts less in smaller images


def test_decoding_of_both(monkeypatch):
    from diffusers import AutoencoderKL, AutoencoderKLQwenImage

    blocks = {
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "block_out_channels": (128, 256, 512, 512),
        "layers_per_block": 2,
    }
    with torch.device("meta"):
        flux = AutoencoderKL(latent_channels=16, use_quant_conv=False, use_post_quant_conv=False, **blocks).to(BF16)
        qwen = AutoencoderKLQwenImage().to(BF16)
    for name, vae, latent in (("flux", flux, empty(1, 16, 128, 128)), ("qwen", qwen, empty(1, 16, 1, 128, 128))):
        assert expected(name, (1024, 1024)).vae == 2 * sum(p.numel() for p in vae.parameters())
        live = peak(monkeypatch, lambda vae=vae, latent=latent: vae.decode(latent))
        assert expected(name, (1024, 1024)).decoding == pytest.approx(live, rel=0.05), name


def test_published_weights_are_counted_right():
    from diffusers import FluxTransformer2DModel, QwenImageTransformer2DModel

    with torch.device("meta"):
        for name, cls in (
            ("flux", FluxTransformer2DModel),
            ("flux_krea", FluxTransformer2DModel),
            ("flux_schnell", FluxTransformer2DModel),
            ("qwen", QwenImageTransformer2DModel),
        ):
            block = model(name)["published"]["transformer"]
            config = {key: value for key, value in block["config"].items() if key != "_class_name"}
            whole = sum(p.numel() for p in cls(**config).parameters())
            assert block["parameters"] == whole, name


def test_tiles_bound_the_memory_of_decoding():
    whole, tiled = (expected("flux", (4096, 4096), vae_tiling=tiling) for tiling in (False, True))
    assert tiled.tiles and not whole.tiles and tiled.decoding < whole.decoding / 5
    assert expected("flux", (1024, 1024)).tiles is False


def planned(budget, device="cuda", **changes):
    config = model("flux", **changes)
    return memory.choose(config, expected("flux", (4096, 4096), **changes), device, budget and budget * 1e9)


def test_auto_takes_the_fastest_mode_that_fits():
    modes = [planned(budget).mode for budget in (80, 38, 16, 9, 2)]
    assert modes[0] == "gpu" and modes[-1] == "sequential"
    assert [memory.MODES.index(mode) for mode in modes] == sorted(memory.MODES.index(mode) for mode in modes)
    assert len(set(modes)) >= 3
    assert planned(80).fits and not planned(2).fits and "may not fit" in planned(2).line()
    assert planned(None).mode == "gpu" and "an unknown amount" in planned(None).line()
    assert planned(80, memory="sequential").mode == "sequential"
    assert planned(6).text_mode == "sequential" and planned(80).text_mode == "gpu"


def test_quantised_weights_are_smaller_and_stay_together():
    full, small = (expected("flux", (4096, 4096), quantize=kind) for kind in (None, "4bit"))
    assert small.transformer < full.transformer / 3
    assert planned(24, quantize="4bit").mode == "gpu" and planned(2, quantize="4bit").mode == "offload"
    with pytest.raises(RequestError, match="can't hold quantised weights"):
        planned(24, quantize="4bit", memory="group")


def test_a_cache_keeps_values_from_step_to_step():
    plain, first, forecast = (
        expected("flux", (4096, 4096), cache=cache).activations for cache in (None, "first_block", "taylorseer")
    )
    one = (256**2 + 512) * 3072 * 2  # bytes of a value of every token
    assert first - plain == pytest.approx(3 * one) and forecast == plain
    qwen = [expected("qwen", (4096, 4096), cache=cache).activations for cache in (None, "sea:0.3")]
    assert qwen[1] - qwen[0] == pytest.approx(2 * 3 * one)  # one for each prompt of guidance


def test_a_cpu_has_nothing_to_offload_to():
    assert planned(64, device="cpu").mode == "gpu"
    with pytest.raises(RequestError, match="this runs on a CPU"):
        planned(64, device="cpu", memory="offload")


@pytest.mark.parametrize(
    ("mode", "hint"),
    [
        ("gpu", "model.memory=offload"),
        ("offload", "model.memory=group"),
        ("group", "model.memory=sequential"),
        ("sequential", "model.vae_tile=1024"),
    ],
)
def test_running_out_names_the_next_thing_to_try(mode, hint):
    plan = replace(planned(80), mode=mode)
    with (
        pytest.raises(RequestError, match=f"out of GPU memory at 64x32.*next to try: {hint}"),
        memory.explained(plan, (64, 32)),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    with pytest.raises(RuntimeError, match="something else"), memory.explained(plan, (64, 32)):
        raise RuntimeError("something else")


def test_running_out_of_ram_is_recognised():
    with (
        pytest.raises(RequestError, match="out of RAM at 64x32.*bfloat16"),
        memory.explained(planned(64, device="cpu"), (64, 32)),
    ):
        torch.empty(2**58)
