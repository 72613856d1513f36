"""UltraImage's guided run against the same run written out step by step, with attention in plain products."""

import copy
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from diffusers.models.embeddings import apply_rotary_emb

from baselines.ultraimage import UltraImage
from sega.engine.sampling import generate, seeded
from sega.methods.geometry import load_geometry
from sega.methods.registry import build_method
from sega.models import adapter_for

PROMPT, NATIVE, SIDE, BLOCK = "a photo of a red boat", 16, 26, 8  # tokens: of training, of the image, of a block
SIZES = {"base": (8 * NATIVE, 8 * NATIVE), "target": (8 * SIDE, 8 * SIDE)}
STEPS, TEXT = 4, 24


class Plain:
    """One layer's attention: softmax(factor q k / sqrt(d)) v, and in a measuring pass the entropy of every head."""

    def __init__(self, state, layer):
        self.state, self.layer = state, layer

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, image_rotary_emb=None):
        def heads(layer, x):
            return layer(x).unflatten(-1, (-1, attn.head_dim))

        q, k, v = (heads(layer, hidden_states) for layer in (attn.to_q, attn.to_k, attn.to_v))
        q, k = attn.norm_q(q), attn.norm_k(k)
        if encoder_hidden_states is not None:
            words = encoder_hidden_states
            q = torch.cat([attn.norm_added_q(heads(attn.add_q_proj, words)), q], 1)
            k = torch.cat([attn.norm_added_k(heads(attn.add_k_proj, words)), k], 1)
            v = torch.cat([heads(attn.add_v_proj, words), v], 1)
        q, k = (apply_rotary_emb(x, image_rotary_emb, sequence_dim=1) for x in (q, k))
        q, k, v = (x.transpose(1, 2)[0] for x in (q, k, v))
        out = self.state.attend(self.layer, q, k, v).transpose(0, 1).flatten(1)[None]
        if encoder_hidden_states is None:
            return out
        return attn.to_out[0](out[:, TEXT:]), attn.to_add_out(out[:, :TEXT])


class Written:
    """The run, in the order of the published code."""

    def __init__(self, pipe, pairs, focus):
        self.pipe, self.transformer, self.pairs, self.focus = pipe, pipe.transformer, pairs, focus
        self.theta = pipe.transformer.pos_embed.theta
        self.double = len(pipe.transformer.transformer_blocks)
        self.mode, self.lambdas = "plain", []
        with torch.no_grad():
            self.words, self.pooled, self.text_ids = pipe.encode_prompt(PROMPT, max_sequence_length=TEXT)

    def attend(self, layer, q, k, v):
        """[heads, N, d] of one layer."""
        logits, length = q @ k.transpose(1, 2) / math.sqrt(q.shape[-1]), q.shape[1]
        reference = (2 * NATIVE if layer < self.double else NATIVE) ** 2 + TEXT
        proportional = math.sqrt(math.log(length) / math.log(reference))
        if self.mode == "measure":
            pad = -length % BLOCK
            padded_q, padded_k = (F.pad(x, (0, 0, 0, pad)) for x in (q, k))
            p = (padded_q @ padded_k.transpose(1, 2) / math.sqrt(q.shape[-1])).softmax(-1)
            p = p.unflatten(2, (-1, BLOCK)).sum(3).unflatten(1, (-1, BLOCK)).sum(2) / BLOCK
            entropy = -(p * p.log()).sum(-1).mean(-1)
            largest = math.log(math.ceil((SIDE**2 + TEXT) / BLOCK))
            share = ((entropy - 0.44) / (largest - 0.44)).clamp(0, 1)
            self.lambdas.append(1.1 + 0.2 * (1 - share) ** 2)
        factor = {"plain": 1.0, "measure": proportional, "proportional": proportional}.get(self.mode)
        if factor is None:
            factor = self.lambdas[layer][:, None, None]
        return (factor * logits).softmax(-1) @ v

    def rotary(self, ids):
        axes, theta = self.transformer.config.axes_dims_rope, self.theta
        angles = []
        for axis, dim in enumerate(axes):
            frequencies = 1.0 / theta ** (torch.arange(0, dim, 2, dtype=torch.float64) / dim)
            if axis and self.mode != "plain":
                frequencies[self.pairs] = 0.85 * 2 * math.pi / SIDE
            angles.append(torch.outer(ids[:, axis].double(), frequencies).repeat_interleave(2, dim=1))
        table = torch.cat(angles, 1)
        return table.cos().float(), table.sin().float()

    def velocity(self, x, sigma, guidance):
        adapter, grid = adapter_for(self.pipe), (x.shape[2] // 2, x.shape[3] // 2)
        rows, columns = torch.meshgrid(*(torch.arange(n) for n in grid), indexing="ij")
        ids = torch.stack([0 * rows, rows, columns], -1).reshape(-1, 3).float()
        out = self.transformer(
            hidden_states=adapter.pack(x),
            encoder_hidden_states=self.words,
            pooled_projections=self.pooled,
            timestep=torch.tensor([sigma]).float(),
            guidance=torch.tensor([float(guidance)]),
            img_ids=ids,
            txt_ids=self.text_ids,
            return_dict=False,
        )[0]
        return adapter.unpack(out, grid)

    def times(self, shift):
        u = torch.linspace(1, 1 / STEPS, STEPS, dtype=torch.float64)
        return [*(shift * u / (1 + (shift - 1) * u)).float().tolist(), 0.0]

    @torch.no_grad()
    def run(self):
        adapter = adapter_for(self.pipe)
        noise = {
            name: torch.randn(adapter.latent_shape(size), generator=seeded(0, PROMPT, size))
            for name, size in SIZES.items()
        }
        x, times = noise["base"], self.times(3.0)
        for sigma, after in zip(times, times[1:], strict=False):
            x = x + (after - sigma) * self.velocity(x, sigma, 3.5)
        image = F.interpolate(adapter.decode(x), size=SIZES["target"], mode="bicubic")
        guide = adapter.encode(image, seeded(0, PROMPT, SIZES["target"], "method"))
        x, times = noise["target"], self.times(6.0)
        for k, (sigma, after) in enumerate(zip(times, times[1:], strict=False)):
            border = 1 if k % 2 == 0 else -1
            x, guide = (F.pad(item, [border] * 4) for item in (x, guide))
            if k == 0 and self.focus:
                self.mode = "measure"
                self.velocity(x, sigma, 7.0)
            self.mode = "focus" if self.focus else "proportional"
            v = self.velocity(x, sigma, 7.0)
            difference = (x - guide) / (sigma + 1e-6) - v
            low = F.interpolate(F.avg_pool2d(difference, 2), scale_factor=2, mode="nearest")
            v = v + 0.5 * (1 + math.cos(math.pi * k / STEPS)) * low
            x = x + (after - sigma) * v
        return x


@pytest.fixture
def pipe(tiny_pipe):
    """With sharper queries: attention of random weights is all but uniform, and its factors all the same."""
    pipe = copy.copy(tiny_pipe)
    pipe.transformer = copy.deepcopy(tiny_pipe.transformer)
    for name, module in pipe.transformer.named_modules():
        if name.endswith(("norm_q", "norm_added_q")):
            module.weight.data *= 8
    return pipe


@pytest.mark.parametrize("focus", [True, False])
def test_the_guided_run(pipe, monkeypatch, focus):
    transformer = pipe.transformer
    geometry = replace(load_geometry("tiny"), theta=transformer.pos_embed.theta, train_tokens=NATIVE)
    settings = {"mode": "guided", "steps": STEPS, "base_steps": STEPS, "block": BLOCK, "focus": focus}
    method = build_method({"name": "ultraimage"} | settings, geometry)
    latents, factors, factors_of = [], [], UltraImage.factors
    monkeypatch.setattr(UltraImage, "factors", lambda *args: factors.extend(factors_of(*args)) or factors)
    monkeypatch.setattr(UltraImage, "finish", lambda self, run: latents.append(run.latent) or run.decode(run.latent))
    generate(pipe, method, PROMPT, seed=0, size=SIZES["target"], steps=2, guidance=1.0)

    written = Written(pipe, list(method.pairs), focus)
    layers = [block.attn for block in (*transformer.transformer_blocks, *transformer.single_transformer_blocks)]
    for index, layer in enumerate(layers):
        monkeypatch.setattr(layer, "processor", Plain(written, index))
    monkeypatch.setattr(type(transformer.pos_embed), "forward", lambda self, ids: written.rotary(ids))
    expected = written.run()
    assert expected.shape == latents[0].shape and (not focus or len(written.lambdas) == len(layers))
    assert not focus or torch.stack(written.lambdas).unique().numel() == len(layers) * 2  # heads
    for ours, theirs in zip(factors, written.lambdas, strict=True):
        torch.testing.assert_close(ours[0], theirs, rtol=0, atol=1e-6)
    torch.testing.assert_close(latents[0], expected, rtol=0, atol=2e-5)
