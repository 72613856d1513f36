"""What people add to a FLUX pipeline besides a method, at random and small."""

import torch

PROMPT = "a red striped ball on the left standing on grass under a cloudy sky with light from the right"
OTHER = "a blue plain cone in the middle standing on sand under a night sky with light from the left"
SIZE = (256, 128)  # beyond the training side; (192, 192) is that of the small model
IMAGES = 6  # numbers that describe an image to the IP-Adapter


def fresh_pipe():
    """A pipeline of one double and one single block, native at 192 px, that a test may leave changed."""
    from sega.embedded import model

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        t5, clip = model.build_text_encoders()
        transformer, vae = model.build_transformer(heads=2, double=1, single=1), model.build_autoencoder()
        for parameter in transformer.parameters():
            parameter.data += 0.05 * torch.randn_like(parameter)
    pipe = model.assemble(*(part.eval() for part in (transformer, vae, t5, clip)))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def noise(count=1, size=SIZE, seed=0):
    """Packed noise [count, S, 4C] of the small model for an image of `size` pixels."""
    tokens = size[0] // 8 * (size[1] // 8)
    return torch.randn(count, tokens, 32, generator=torch.Generator().manual_seed(seed))


def latent(pipe, prompt=PROMPT, size=SIZE, steps=2, start=None, **options):
    """The final latent of the stock call."""
    start = noise(1 if isinstance(prompt, str) else len(prompt), size) if start is None else start
    return pipe(
        prompt,
        width=size[0],
        height=size[1],
        latents=start,
        num_inference_steps=steps,
        max_sequence_length=24,
        output_type="latent",
        **options,
    ).images


def load_ip_adapter(pipe, seed=0):
    """An IP-Adapter in the published layout, by the loader of diffusers: four tokens for each image."""
    draw = torch.Generator().manual_seed(seed)
    transformer = pipe.transformer
    words, inner = transformer.config.joint_attention_dim, transformer.inner_dim

    def random(*shape):
        return 0.3 * torch.randn(shape, generator=draw)

    project = {
        "proj.weight": random(4 * words, IMAGES),
        "proj.bias": random(4 * words),
        "norm.weight": torch.ones(words),
        "norm.bias": torch.zeros(words),
    }
    layers = {}
    for layer in range(len(transformer.transformer_blocks)):
        for name in ("to_k_ip", "to_v_ip"):
            layers |= {f"{layer}.{name}.weight": random(inner, words), f"{layer}.{name}.bias": random(inner)}
    transformer._load_ip_adapter_weights([{"image_proj": project, "ip_adapter": layers}])


def images(count=1, seed=1):
    """The pipeline's arguments for one image for each sample; it asks for negative ones too, and does not use them."""
    drawn = torch.randn(count, 1, IMAGES, generator=torch.Generator().manual_seed(seed))
    return {"ip_adapter_image_embeds": [drawn], "negative_ip_adapter_image_embeds": [torch.zeros_like(drawn)]}


class Adapted(torch.nn.Module):
    """A layer and a low-rank addition in its place, as a LoRA is put in."""

    def __init__(self, layer, rank=2):
        super().__init__()
        draw = torch.Generator().manual_seed(2)
        self.base_layer = layer
        self.down = torch.nn.Parameter(0.5 * torch.randn(rank, layer.in_features, generator=draw))
        self.up = torch.nn.Parameter(0.5 * torch.randn(layer.out_features, rank, generator=draw))

    def forward(self, x):
        return self.base_layer(x) + x @ self.down.T @ self.up.T
