"""UltraImage on Qwen-Image measures its unconditional pass with an empty prompt, whatever the negative prompt."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from baselines.ultraimage import UltraImage
from sega import attach, load_method
from sega.engine.attachment import Attachment
from sega.engine.sampling import generate
from sega.home import CONF
from sega.loading.text_cache import sentences
from sega.methods.registry import build_method
from sega.methods.types import Stage
from sega.models import adapter_for
from sega.testing import qwen as qwen_tiny

PROMPT, NEGATIVE = "a photo of a red boat", "a house on the sand at night"
SIZE = (256, 192)  # 12 x 16 tokens, of 10 in training


@pytest.fixture(scope="module")
def pipe():
    return qwen_tiny.build_pipeline()


@pytest.fixture
def seen(monkeypatch):
    """(branch, whether it measures, embedded text) of every transformer call."""
    calls, run = [], Attachment._run

    def watch(self, call, step):
        calls.append((step.branch, "probe" in step.details, call["encoder_hidden_states"]))
        return run(self, call, step)

    monkeypatch.setattr(Attachment, "_run", watch)
    return calls


def method(*overrides):
    config = OmegaConf.load(CONF / "method" / "ultraimage.yaml")
    return build_method(OmegaConf.merge(config, OmegaConf.from_dotlist(list(overrides))), qwen_tiny.small_geometry())


def made(pipe, negative=NEGATIVE, **options):
    return generate(
        pipe, method(), PROMPT, seed=0, size=SIZE, steps=2, guidance=4.0, negative_prompt=negative, **options
    )


def encoded(pipe, sentence):
    with torch.no_grad():
        return pipe.encode_prompt(sentence)[0]


def check(pipe, seen):
    texts = {"cond": encoded(pipe, PROMPT), "uncond": encoded(pipe, NEGATIVE)}
    empty = encoded(pipe, "")
    assert [call[:2] for call in seen[:4]] == [("cond", True), ("cond", False), ("uncond", True), ("uncond", False)]
    for branch, measures, text in seen:
        expected = empty if measures and branch == "uncond" else texts[branch]
        torch.testing.assert_close(text, expected)
    assert empty.shape[1] != texts["uncond"].shape[1]


def test_a_generated_image(pipe, seen):
    made(pipe)
    assert len(seen) == 6
    check(pipe, seen)


def test_attached_by_hand(pipe, seen):
    with attach(pipe, method()):
        pipe(
            PROMPT,
            negative_prompt=NEGATIVE,
            true_cfg_scale=4.0,
            width=SIZE[0],
            height=SIZE[1],
            num_inference_steps=2,
            output_type="latent",
            generator=torch.Generator().manual_seed(0),
        )
    check(pipe, seen)


def test_a_transformer_alone_measures_with_the_text_it_is_given(pipe):
    with attach(pipe.transformer, method()) as attachment:
        call = {"encoder_hidden_states": torch.zeros(1, 3, 32)}
        assert attachment.adapter.put_sentence(call, "") is call


def test_embeddings_made_before_hold_the_empty_prompt(pipe, seen):
    asked = []

    def texts(sentence):
        asked.append(sentence)
        return {"prompt_embeds": encoded(pipe, sentence)}

    before = np.asarray(made(pipe).image)
    adapter_for(pipe).configure(texts=texts)
    after = np.asarray(made(pipe).image)
    adapter_for(pipe).configure()
    assert np.array_equal(before, after) and set(asked) == {PROMPT, NEGATIVE, ""}
    stage = Stage((64, 64), 2, 4.0)
    assert sentences([PROMPT], [stage], NEGATIVE, 1.0, method().sentences()) == [PROMPT, NEGATIVE, ""]


def test_the_negative_prompt_does_not_reach_the_factors(pipe, monkeypatch):
    measured, own = [], UltraImage.factors

    def factors(self, entropies, *rest):
        measured.append(torch.stack(entropies))
        return own(self, entropies, *rest)

    monkeypatch.setattr(UltraImage, "factors", factors)
    made(pipe, NEGATIVE)
    made(pipe, "")
    conditional, unconditional, same, empty = measured
    assert conditional.equal(same) and unconditional.equal(empty)


def test_who_measures_with_other_sentences():
    assert method().sentences() == ("",) and method("focus=false").sentences() == ()
    assert load_method("ultraimage", "flux").sentences() == () == load_method("sega", "qwen").sentences()
    assert replace(method(), focus=False).sentences() == ()
