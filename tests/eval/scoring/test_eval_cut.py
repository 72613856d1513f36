"""Prompts that are longer than a text encoder takes are counted, recorded and said."""

import json

import numpy as np
import pytest
import random_weights
from eval_store import make_run
from PIL import Image

from eval.metrics.learned import lengths, rewards
from eval.metrics.registry import measures
from eval.protocols import load_protocol
from eval.records.scores import cut_notes
from eval.report.command import main as report
from eval.scoring.command import main


@pytest.fixture
def folder(tmp_path, monkeypatch):
    import open_clip

    random_weights.unpinned(monkeypatch)
    (tmp_path / "tiny-hps.json").write_text(json.dumps(random_weights.TINY_CLIP))
    open_clip.add_model_config(tmp_path)
    monkeypatch.setattr(rewards, "HPS_MODEL", "tiny-hps")
    return random_weights.make_all(tmp_path / "weights")


def is_cut(tokenize, prompt):
    """Whether a word at the end of a prompt changes nothing of what an encoder is given."""
    return bool((tokenize([prompt]) == tokenize([f"{prompt} house"])).all())


@pytest.mark.parametrize("measure", ["clip_score", "pickscore", "hpsv2"])
def test_the_limit_of_clip_is_where_words_stop_to_matter(folder, measure):
    from open_clip import get_tokenizer

    config, tokenize = load_protocol("plain", [f"weights={folder}"]), get_tokenizer("ViT-L-14-quickgelu")
    full, long = " ".join(["house"] * 75), " ".join(["house"] * 76)
    assert is_cut(tokenize, full) and not is_cut(tokenize, " ".join(["house"] * 74))
    assert lengths.cut(measures()[measure], config, [full, long, "a, b"]) == (77, 1)


def test_the_limit_of_imagereward_counts_tokens_of_bert(folder):
    config = load_protocol("plain", [f"weights={folder}"])
    prompts = [" ".join(["house"] * n) for n in (33, 34)]  # and one token at each end
    assert lengths.cut(measures()["imagereward"], config, prompts) == (35, 1)


def test_the_limit_of_the_embedded_scorer_is_its_own():
    from sega.embedded.model import TEXT_TOKENS
    from sega.embedded.scorer import load_scorer

    config = load_protocol("embedded")
    fits, long = " ".join(["red"] * (TEXT_TOKENS - 1)), " ".join(["red"] * TEXT_TOKENS)
    assert lengths.cut(measures()["clip_score"], config, [fits, long]) == (TEXT_TOKENS, 1)
    scorer = load_scorer("cpu")
    assert (scorer.text_features([long]) == scorer.text_features([f"{long} blue"])).all()


def test_a_run_says_how_many_prompts_were_cut(folder, tmp_path, capsys):
    images = tmp_path / "images"
    images.mkdir()
    words = [2, 40, 40, 90]
    for k in range(4):
        Image.fromarray(np.full((40, 40, 3), 60 * k, np.uint8)).save(images / f"{k}.png")
    lines = [f"a {k} " + " ".join(["house"] * n) for k, n in enumerate(words)]
    (tmp_path / "prompts.txt").write_text("\n".join(lines) + "\n")
    ours = ["eval=plain", "metrics=[clip_score,hpsv2,imagereward,piqe]", f"weights={folder}", "bootstrap.samples=10"]
    assert main([f"path={images}", f"prompts={tmp_path / 'prompts.txt'}", f"cache={tmp_path / 'cache'}", *ours]) == 0
    said = [
        "1 of 4 prompts is longer than the 77 tokens of CLIP and HPSv2 v2.1 and was cut",
        "3 of 4 prompts are longer than the 35 tokens of ImageReward and were cut",
    ]
    printed = capsys.readouterr().out.splitlines()
    assert [line for line in printed if line.endswith("cut")] == [f"  {line}" for line in said]
    block = json.loads((images / "scores.json").read_text())["protocols"]["plain"]
    assert block["cut"] == {
        "clip_score": {"tokens": 77, "cut": 1, "prompts": 4},
        "hpsv2": {"tokens": 77, "cut": 1, "prompts": 4},
        "imagereward": {"tokens": 35, "cut": 3, "prompts": 4},
    }
    assert cut_notes(block) == said


def test_the_table_has_the_note_and_old_scores_have_none(folder, tmp_path, monkeypatch):
    run = make_run(tmp_path / "runs", "vanilla", (64, 64), prompts=3, noise=9)
    place = [f"store={tmp_path / 'runs'}", f"cache={tmp_path / 'cache'}"]
    monkeypatch.setattr(rewards, "IMAGEREWARD_TOKENS", 4)
    ours = ["eval=plain", "metrics=[imagereward]", f"weights={folder}", "reference.kind=none", "bootstrap.samples=10"]
    assert main([*place, *ours]) == 0
    assert report([*place, "parts=tables", f"out={tmp_path / 'out'}"]) == 0
    note = "3 of 3 prompts are longer than the 4 tokens of ImageReward and were cut"
    assert note in (tmp_path / "out" / "table.md").read_text()
    assert note in (tmp_path / "out" / "table.csv").read_text()
    block = json.loads((run / "scores.json").read_text())["protocols"]["plain"]
    del block["cut"]
    assert cut_notes(block) == []
