"""Text encoders that run first and leave: the same images, each sentence encoded once."""

import sys

import numpy as np
import pytest
import torch
from PIL import Image
from small import words as small_words

from sega.loading.text_cache import TextCache, sentences
from sega.methods.types import Stage
from sega.run.cli import main
from sega.run.maker import Maker

PROMPT = "a photo of a red boat"


def run(monkeypatch, capsys, *words):
    monkeypatch.setattr(sys, "argv", ["run.py", *words])
    status = main(list(words))
    out, err = capsys.readouterr()
    assert status == 0, err
    return out


@pytest.fixture
def line(tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("sega.loading.weights.HASHES", tmp_path / "weights.json")
    Maker().free()
    return small_words(tiny_folder, "steps=1", "device=cpu", f"prompts.text={PROMPT}")


def test_images_are_the_same_and_sentences_encoded_once(line, tmp_path, monkeypatch, capsys):
    from sega.loading import pipeline as loading

    cache, encoded = tmp_path / "text", []
    original = loading.load_text_encoders
    monkeypatch.setattr(loading, "load_text_encoders", lambda *a: encoded.append(a) or original(*a))
    run(monkeypatch, capsys, *line, "method=ntk", "res=192", f"store={tmp_path / 'beside'}")
    assert not encoded
    first = [*line, f"model.text_cache={cache}", f"store={tmp_path / 'first'}"]
    run(monkeypatch, capsys, *first, "method=ntk", "res=192")
    assert len(encoded) == 1
    run(monkeypatch, capsys, *first, "method=vanilla", "res=128", "seeds=[1,2]")
    assert len(encoded) == 1  # the same sentence on the same model
    (before,), (after,) = (sorted((tmp_path / name).glob("tiny/ntk/*/*/*.png")) for name in ("beside", "first"))
    assert before.parent.name == after.parent.name  # no part of the identity
    assert np.array_equal(np.asarray(Image.open(before)), np.asarray(Image.open(after)))
    (file,) = cache.glob("*/*.safetensors")
    file.write_bytes(file.read_bytes()[:50])
    run(monkeypatch, capsys, *first, "method=vanilla", "res=128", "seeds=[3]")
    assert len(encoded) == 2 and len(list(cache.glob("*/*.safetensors"))) == 1


def test_the_model_is_loaded_without_text_encoders(line, tmp_path, monkeypatch, capsys):
    run(monkeypatch, capsys, *line, f"model.text_cache={tmp_path / 'text'}", f"store={tmp_path / 'runs'}", "res=128")
    (pipe,) = Maker._opened.values()
    assert pipe.text_encoder is None and pipe.text_encoder_2 is None and pipe.tokenizer is None


def test_qwen_and_its_negative_prompt(tmp_path):
    from sega.engine.sampling import generate
    from sega.methods.registry import build_method
    from sega.models import adapter_for, text_adapter
    from sega.testing.qwen import build_pipeline, small_geometry

    pipe = build_pipeline()
    method = build_method({"name": "sega"}, small_geometry())
    options = {"size": (256, 128), "steps": 2, "guidance": 4.0, "negative_prompt": " "}
    expected = np.asarray(generate(pipe, method, PROMPT, **options).image)
    cache = TextCache(tmp_path, {"weights": "random"})
    encode = text_adapter(pipe).encode_text
    with torch.no_grad():
        cache.fill([PROMPT, " "], lambda sentence: encode(pipe, sentence, 64))
    pipe.text_encoder = pipe.tokenizer = None
    adapter_for(pipe).configure(texts=cache)
    assert np.array_equal(np.asarray(generate(pipe, method, PROMPT, **options).image), expected)


def test_the_key_is_sentence_weights_and_length(tmp_path):
    about = {"weights": "a", "dtype": "float32", "text_tokens": 24}
    made = []

    def encode(sentence):
        made.append(sentence)
        return {"prompt_embeds": torch.ones(1, 2, 3) * len(sentence)}

    cache = TextCache(tmp_path, about)
    assert cache.missing(["one", "two", "one"]) == ["one", "two"]
    cache.fill(["one", "three"], encode)
    assert torch.equal(cache("three")["prompt_embeds"], torch.full((1, 2, 3), 5.0))
    cache.fill(["one"], encode)
    assert made == ["one", "three"] and cache.missing(["one", "two"]) == ["two"]
    for key, value in (("weights", "b"), ("dtype", "bfloat16"), ("text_tokens", 12)):
        assert TextCache(tmp_path, about | {key: value}).missing(["one"]) == ["one"]


def test_the_sentences_of_a_cell():
    stages = [Stage((64, 64), 2, 1.0, plain=True), Stage((128, 128), 2, 4.0, suffix=", detailed")]
    needed = ["a", "b"]
    plain = sentences(needed, stages, " ", None)
    assert set(plain) == {"a", "b", "a, detailed", "b, detailed"}
    assert set(sentences(needed, stages, " ", 1.0)) == {*plain, " "}
    assert set(sentences(needed, stages[:1], " ", 1.0)) == {"a", "b"}
    assert set(sentences(needed, stages, None, 1.0)) == set(plain)


def test_prompts_that_are_cut_are_counted_in_every_run(line, tmp_path, monkeypatch, capsys):
    """Also where the embeddings are there already; diffusers would print each sentence."""
    long = "a red ball on grass, " * 30
    words = [*line, f"model.text_cache={tmp_path / 'text'}", f"store={tmp_path / 'runs'}", "res=128"]
    words.append("method=vanilla")
    for steps in (1, 2):
        main([*words, f"prompts.text=['a red ball','{long.strip()}']", f"steps={steps}"])
        told = capsys.readouterr().err
        assert "1 of 2 prompts are read only in part: 1 by CLIP (24 tokens), 1 by T5 (24 tokens)" in told
        assert "truncated" not in told and "sequence length" not in told
    main([*words, "prompts.text=a ball"])
    assert "in part" not in capsys.readouterr().err


def test_qwen_counts_behind_its_template():
    from sega.models.qwen import QwenAdapter
    from sega.testing.qwen import build_pipeline

    pipe = build_pipeline()
    length = len(pipe._get_qwen_prompt_embeds([PROMPT])[0][0])
    assert QwenAdapter.cut_text(pipe, PROMPT, length) == []
    assert QwenAdapter.cut_text(pipe, PROMPT, length - 1) == [f"Qwen2.5-VL ({length - 1} tokens)"]
