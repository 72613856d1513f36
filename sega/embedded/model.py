"""The embedded model: a small `FluxPipeline` made of stock classes, in the diffusers folder format.

A token is 8 px (autoencoder of factor 4, patches of 2x2), the native size is 192 px = 24x24 tokens. FLUX fixes
theta at 10000, which leaves a 24-token grid with few turning pairs; this model has theta 300, recorded in
`conf/model/tiny.yaml`, and the loader gives the transformer the stock `FluxPosEmbed` of that theta.
"""

from __future__ import annotations

from pathlib import Path

from sega.embedded.world import VOCABULARY

AXES = (8, 28, 28)
THETA = 300.0
TEXT_TOKENS = 24
NATIVE = 192
WEIGHTS = Path(__file__).parent / "weights"
PIPELINE = WEIGHTS / "pipeline"


def build_tokenizer():
    """A word-level tokenizer for the captions: lower case, end token, padded to `TEXT_TOKENS`."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: i for i, word in enumerate(["<pad>", "<unk>", "</s>", *VOCABULARY])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", vocabulary["</s>"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", eos_token="</s>", model_max_length=TEXT_TOKENS
    )


def build_autoencoder():
    """A stock AutoencoderKL of factor 4 with 8 latent channels and no attention (about a million parameters)."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(32, 64, 64),
        layers_per_block=1,
        latent_channels=8,
        norm_num_groups=16,
        sample_size=NATIVE,
        scaling_factor=1.0,
        shift_factor=0.0,
        use_quant_conv=False,
        use_post_quant_conv=False,
        mid_block_add_attention=False,
    )


def build_transformer(heads: int = 3, double: int = 2, single: int = 4, theta: float = THETA):
    """A stock FluxTransformer2DModel with heads of 64, positions at `theta`."""
    from diffusers import FluxTransformer2DModel
    from diffusers.models.transformers.transformer_flux import FluxPosEmbed

    transformer = FluxTransformer2DModel(
        patch_size=1,
        in_channels=32,
        num_layers=double,
        num_single_layers=single,
        attention_head_dim=sum(AXES),
        num_attention_heads=heads,
        joint_attention_dim=128,
        pooled_projection_dim=128,
        guidance_embeds=True,
        axes_dims_rope=AXES,
    )
    transformer.pos_embed = FluxPosEmbed(theta=theta, axes_dim=list(AXES))
    return transformer


def build_text_encoders():
    """A small T5 encoder and a small CLIP text model over the caption words."""
    from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

    words = len(VOCABULARY) + 3
    t5 = T5EncoderModel(
        T5Config(
            vocab_size=words,
            d_model=128,
            d_kv=32,
            d_ff=256,
            num_layers=2,
            num_heads=4,
            dropout_rate=0.0,
            pad_token_id=0,
            eos_token_id=2,
            relative_attention_num_buckets=32,
            relative_attention_max_distance=32,
        )
    )
    clip = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=words,
            hidden_size=128,
            intermediate_size=256,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=TEXT_TOKENS,
            projection_dim=128,
            pad_token_id=0,
            bos_token_id=0,
            eos_token_id=2,
        )
    )
    return t5, clip


def build_scheduler():
    """Flow matching with the dynamic shift of FLUX; mu meets its upper value at the native 576 tokens."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler(
        num_train_timesteps=1000,
        shift=1.0,
        use_dynamic_shifting=True,
        base_shift=0.5,
        max_shift=1.15,
        base_image_seq_len=36,
        max_image_seq_len=576,
    )


def assemble(transformer, vae, t5, clip):
    """The FluxPipeline of these parts."""
    from diffusers import FluxPipeline

    return FluxPipeline(
        scheduler=build_scheduler(),
        vae=vae,
        text_encoder=clip,
        tokenizer=build_tokenizer(),
        text_encoder_2=t5,
        tokenizer_2=build_tokenizer(),
        transformer=transformer,
    )
