"""pyiqa's measures with files in place of what it would fetch, and what happens where a file is missing or wrong."""

import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import random_weights
import tiny_judges
import torch
from eval_store import make_run

from eval.metrics.learned import iqa, weights
from eval.metrics.measures import Batch, Context
from eval.protocols import load_protocol
from eval.scoring.command import main

sys.path.append(str(Path(__file__).resolve().parents[3] / "scripts"))
import fetch

LEARNED = ["cmmd", "clip_score", "imagereward", "pickscore", "hpsv2", "aesthetic", "musiq", "clipiqa", "niqe", "piqe"]
LEARNED += ["qalign", "qalign_aesthetic"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """All files at random."""
    return random_weights.make_all(tmp_path_factory.mktemp("weights"))


@pytest.fixture
def no_network(monkeypatch):
    """Any attempt to connect is a failure."""
    import socket

    def refuse(*_):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def context(folder, *words):
    return Context(load_protocol("plain", [f"weights={folder}", "device=cpu", *words]), None, {})


def batch(*size):
    images = np.random.default_rng(1).integers(0, 256, (2, *size, 3), np.uint8)
    return Batch(images, [("a", 0), ("b", 0)], [None, None])


@pytest.mark.parametrize("name, low, high", [("piqe", 0, 100), ("clipiqa", 0, 1), ("musiq", -1e3, 1e3)])
def test_measures_run_on_files_alone(folder, monkeypatch, no_network, name, low, high):
    random_weights.unpinned(monkeypatch)
    found = getattr(iqa, name)(context(folder))(batch(96, 64))
    assert len(found) == 2 and all(low <= value <= high for value in found) and found[0] != found[1]


def test_niqe_needs_two_blocks(folder, monkeypatch, no_network):
    random_weights.unpinned(monkeypatch)
    measure = iqa.niqe(context(folder))
    assert measure(batch(100, 100)) == [None, None]
    assert all(value > 0 for value in measure(batch(192, 200)))


def test_maniqa_takes_its_backbone_from_the_file(tmp_path, monkeypatch, no_network):
    """A narrow vision transformer of the same layout stands in for ViT-B/8, whose 86 million weights take minutes."""
    import timm
    from pyiqa.archs import maniqa_arch
    from pyiqa.default_model_configs import DEFAULT_CONFIGS
    from timm.models.vision_transformer import VisionTransformer

    asked = []

    def create(name, pretrained):
        asked.append((name, pretrained))
        return VisionTransformer(patch_size=8, embed_dim=32, depth=10, num_heads=2, num_classes=1)

    narrow = {"embed_dim": 32, "dim_mlp": 32, "test_sample": 4}
    monkeypatch.setattr(timm, "create_model", create)
    options = DEFAULT_CONFIGS["maniqa"] | {"metric_opts": DEFAULT_CONFIGS["maniqa"]["metric_opts"] | narrow}
    monkeypatch.setitem(DEFAULT_CONFIGS, "maniqa", options)
    random_weights.unpinned(monkeypatch)
    torch.manual_seed(3)
    stored = maniqa_arch.MANIQA(pretrained=False, **{k: v for k, v in options["metric_opts"].items() if k != "type"})
    torch.save(stored.state_dict(), tmp_path / weights.WEIGHTS["maniqa"].file)
    asked.clear()
    images = batch(240, 230)
    found = iqa.maniqa(context(tmp_path))(images)
    assert asked == [("vit_base_patch8_224", False)] and maniqa_arch.timm is timm
    with torch.no_grad():
        expected = stored.eval()(images.tensor()[:1].float() / 255)
    assert found[0] == pytest.approx(expected.item(), rel=1e-4)


def test_qalign_is_the_mean_level_of_the_next_token(folder, monkeypatch, no_network):
    """Against the model as its class builds it, in float32, and the question and padding written out."""
    from pyiqa.archs import qalign_arch
    from safetensors.torch import load_file
    from transformers import CLIPImageProcessor
    from transformers.models.llama import LlamaTokenizer

    random_weights.unpinned(monkeypatch)
    path = weights.find("qalign", str(folder))[0]
    images = batch(40, 56)
    found = {task: getattr(iqa, task)(context(folder))(images) for task in ("qalign", "qalign_aesthetic")}
    assert qalign_arch.CLIPImageProcessor is CLIPImageProcessor and "icecream" not in sys.modules
    model, tokenizer = random_weights.qalign_model(path), LlamaTokenizer.from_pretrained(path)
    model.load_state_dict(load_file(path / "model.safetensors"))
    square = np.full((56, 56, 3), (122, 116, 104), np.uint8)  # 255 of CLIP's mean
    square[8:48] = images.images[1]
    pixels = CLIPImageProcessor.from_pretrained(path)(square, return_tensors="pt").pixel_values
    levels = [tokenizer(word).input_ids[-1] for word in random_weights.LEVELS]
    assert len(set(levels)) == 5
    for name, task in (("qalign", "quality"), ("qalign_aesthetic", "aesthetic")):
        before = f"USER: How would you rate the {task} of this image?\n"
        ids = [*tokenizer(before).input_ids, -200, *tokenizer(f"\nASSISTANT: The {task} of the image is").input_ids]
        with torch.no_grad():
            logits = model(torch.tensor([ids]), images=pixels).logits[0, -1, levels]
        expected = logits.softmax(-1) @ torch.tensor([5.0, 4, 3, 2, 1])
        assert found[name][1] == pytest.approx(expected.item(), abs=4e-3)  # float16 between 2 and 4
    assert abs(found["qalign"][1] - found["qalign_aesthetic"][1]) > 0.01


def test_inception_is_the_file_with_and_without_antialiasing(tmp_path, monkeypatch, no_network):
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    from torchmetrics.image.fid import NoTrainInceptionV3

    from eval.metrics.learned import networks

    path = tmp_path / weights.WEIGHTS["inception"].file
    torch.save({}, path)
    load = torch.nn.Module.load_state_dict
    with monkeypatch.context() as patch:  # a network at random, which takes nothing from the empty file
        patch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        stored = NoTrainInceptionV3("inception-v3-compat", ["2048"], str(path))
    assert FeatureExtractorInceptionV3.load_state_dict is load
    torch.save(stored.state_dict(), path)
    random_weights.unpinned(monkeypatch)
    config = load_protocol("plain", [f"weights={tmp_path}"])
    images = batch(330, 330).tensor()
    found = {kind: networks.load(networks.find(kind, config), "cpu").image(images) for kind in networks.INCEPTION}
    assert found["inception"].shape == (2, 2048)
    assert torch.allclose(found["inception"], stored(images), rtol=1e-4, atol=1e-6)
    stored.features_list = ["logits_unbiased"]
    logits = networks.load(networks.find("inception", config), "cpu").head(found["inception"])
    spatial = networks.load(networks.find("inception", config), "cpu").spatial(images)
    assert spatial.shape == (2, 7 * 17 * 17) and (spatial >= 0).all() and spatial.std() > 0
    assert logits.shape == (2, 1008) and torch.allclose(logits, stored(images), rtol=1e-4, atol=1e-6)
    assert not torch.allclose(found["inception"], found["inception_tf"], rtol=1e-2)


def test_every_learned_metric_has_a_value_in_a_run(folder, tmp_path, monkeypatch, no_network, capsys):
    import open_clip

    from eval.metrics.learned import rewards

    random_weights.unpinned(monkeypatch)
    tiny_judges.hpsv3(folder)
    tiny_judges.qwen(folder, "qwen2.5-vl-7b")
    (tmp_path / "tiny-hps-2.json").write_text(json.dumps(random_weights.TINY_CLIP))
    open_clip.add_model_config(tmp_path)
    monkeypatch.setattr(rewards, "HPS_MODEL", "tiny-hps-2")
    run = make_run(tmp_path / "runs", "vanilla", (192, 96), prompts=3, noise=9)
    other = make_run(tmp_path / "photos", "vanilla", (192, 96), prompts=4, noise=3)
    words = [
        f"store={tmp_path / 'runs'}",
        f"cache={tmp_path / 'cache'}",
        "eval=plain",
        f"weights={folder}",
        f"metrics=[{','.join([*LEARNED, 'hpsv3', 'vqascore'])}]",
        f"reference.path={other}",
        "bootstrap.samples=20",
    ]
    assert main(words) == 0
    cells = json.loads((run / "scores.json").read_text())["protocols"]["plain"]["metrics"]
    assert [name for name, cell in cells.items() if not np.isfinite(cell.get("value", np.nan))] == []
    assert set(cells) == {*LEARNED, "hpsv3", "vqascore"} and cells["vqascore"]["title"] == "VQAScore (qwen2.5-vl-7b)"
    assert cells["hpsv2"]["title"] == "HPSv2 v2.1" and cells["aesthetic"]["title"] == "aesthetic v2"
    block = json.loads((run / "scores.json").read_text())["protocols"]["plain"]
    assert block["weights"]["imagereward"] == weights.find("imagereward", str(folder))[1]
    assert cells["cmmd"]["n_reference"] == 4 and cells["imagereward"]["low"] <= cells["imagereward"]["high"]


def test_absent_files_name_the_line_that_fetches_them(tmp_path, no_network, capsys):
    run = make_run(tmp_path / "runs", "vanilla", (128, 128), prompts=3)
    words = [f"store={tmp_path / 'runs'}", f"cache={tmp_path / 'cache'}", "eval=plain", f"weights={tmp_path / 'none'}"]
    names = [name for name in LEARNED if name not in ("cmmd", "piqe")] + ["maniqa", "fid", "hpsv3", "vqascore"]
    assert main([*words, f"metrics=[{','.join(names)}]"]) == 0
    cells = json.loads((run / "scores.json").read_text())["protocols"]["plain"]["metrics"]
    for name in names:
        assert "value" not in cells[name]
        assert "python scripts/fetch.py " in cells[name]["reason"], name
    assert cells["maniqa"]["reason"].endswith(f"fetch.py maniqa weights={tmp_path / 'none'}")


def test_a_file_that_is_not_the_published_one_is_refused(tmp_path):
    (tmp_path / weights.WEIGHTS["pickscore"].file).write_bytes(b"something else")
    with pytest.raises(weights.MissingWeightsError, match="has sha256 .* and not ef31ef6fc5ff"):
        weights.find("pickscore", str(tmp_path))


@pytest.fixture
def served(tmp_path, monkeypatch):
    """`niqe` without a checksum and `musiq` with one, from a folder instead of the network."""
    source = tmp_path / "served"
    source.mkdir()
    (source / "a").write_bytes(b"first")
    pinned = {"niqe": "", "musiq": hashlib.sha256(b"right").hexdigest()}
    items = {
        name: replace(weights.WEIGHTS[name], url=(source / "a").as_uri(), sha256=sha) for name, sha in pinned.items()
    }
    monkeypatch.setattr(weights, "WEIGHTS", weights.WEIGHTS | items)
    return source / "a", tmp_path / "weights"


def test_fetch_keeps_a_first_checksum_and_holds_later_ones_to_it(served, capsys):
    source, folder = served
    assert fetch.main(["niqe", f"weights={folder}"]) == 0
    path, sha = weights.find("niqe", str(folder))
    assert path.read_bytes() == b"first" and sha == hashlib.sha256(b"first").hexdigest()
    assert "no checksum is published" in capsys.readouterr().out
    path.write_bytes(b"other")
    with pytest.raises(weights.MissingWeightsError, match="fetch it again"):
        weights.find("niqe", str(folder))
    source.write_bytes(b"changed at its source")
    assert fetch.main(["niqe", f"weights={folder}"]) == 2
    assert "the download was deleted" in capsys.readouterr().err and path.read_bytes() == b"other"


def test_fetch_refuses_a_wrong_file_and_leaves_a_right_one(served, capsys):
    source, folder = served
    assert fetch.main(["musiq", f"weights={folder}"]) == 2
    assert list(folder.iterdir()) == []
    source.write_bytes(b"right")
    assert fetch.main(["musiq", f"weights={folder}"]) == 0
    source.unlink()
    assert fetch.main(["musiq", f"weights={folder}"]) == 0
    assert "exists" in capsys.readouterr().out


def test_fetch_says_what_is_wrong_in_one_line(served, capsys):
    source, folder = served
    source.unlink()
    assert fetch.main(["niqe", f"weights={folder}"]) == 2
    assert fetch.main(["pickscor"]) == 2
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 2 and "downloading" in told[0] and "did you mean 'pickscore'" in told[1]
    assert fetch.main([]) == 0 and "3.94 GB" in capsys.readouterr().out


@pytest.fixture
def hub(monkeypatch):
    """A hub of one model in two shards, which are fetched one call after the other."""
    import huggingface_hub

    asked = []

    def download(repository, local_dir, allow_patterns):
        asked.append((repository, tuple(allow_patterns)))
        local_dir.mkdir(parents=True, exist_ok=True)
        shards = [f"model-0000{k}-of-00002.safetensors" for k in (1, 2)]
        index = {"weight_map": {f"layers.{k}": shard for k, shard in enumerate(shards)}}
        (local_dir / "model.safetensors.index.json").write_text(json.dumps(index))
        for name in ("config.json", "tokenizer_config.json", *shards[: len(asked)]):
            (local_dir / name).write_text("{}")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    return asked


def test_a_folder_is_fetched_whole_and_held_to_its_checksum(hub, tmp_path, capsys):
    assert fetch.main(["qalign", f"weights={tmp_path}"]) == 2
    assert "came without model-00002-of-00002.safetensors" in capsys.readouterr().err
    with pytest.raises(weights.MissingWeightsError, match="00002.safetensors; fetch it: .*fetch.py qalign"):
        weights.find("qalign", str(tmp_path))
    assert fetch.main(["qalign", f"weights={tmp_path}"]) == 0
    assert hub[0] == ("q-future/one-align", weights.KEPT)
    path, sha = weights.find("qalign", str(tmp_path))
    assert path == tmp_path / "one-align" and weights.recorded(tmp_path) == {"one-align": sha}
    (path / "model-00001-of-00002.safetensors").write_text("changed")
    with pytest.raises(weights.MissingWeightsError, match="fetch it again"):
        weights.find("qalign", str(tmp_path))


def test_a_hub_out_of_reach_is_one_line(monkeypatch, tmp_path, capsys):
    import huggingface_hub

    def refuse(*_, **options):
        raise huggingface_hub.errors.OfflineModeIsEnabled("offline mode is enabled")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    assert fetch.main(["qalign", f"weights={tmp_path}"]) == 2
    assert "downloading qalign from q-future/one-align failed: offline mode" in capsys.readouterr().err


def test_the_catalogue_is_whole():
    """Every file a measure may load is in it, with a checksum or none, and no two share a name."""
    from eval.metrics.registry import measures
    from eval.scoring.collect import weight_names

    named = [
        name
        for measure in measures().values()
        for words in ([], ["hps.version=v2.0", "aesthetic.version=v1"])
        for name in weight_names(measure, load_protocol("plain", words))
    ]
    assert set(named) <= set(weights.WEIGHTS) and len(set(named)) == 14
    assert len({item.file for item in weights.WEIGHTS.values()}) == len(weights.WEIGHTS)
    for item in weights.WEIGHTS.values():
        assert item.url.startswith("https://") and len(item.sha256) in (0, 64), item.name


def test_the_printed_catalogue_names_every_metric_and_its_weights(folder, monkeypatch, capsys):
    from eval import catalogue
    from eval.metrics.registry import is_voted, metrics

    random_weights.unpinned(monkeypatch)
    assert catalogue.main(["eval=sega", f"weights={folder}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len([name for name in metrics() if not is_voted(name)]) + 2
    told = {line.split("|")[2].strip(): line for line in lines[2:]}
    sha = weights.find("pickscore", str(folder))[1]
    assert f"pickscore {sha[:12]}" in told["pickscore"] and "prompt" in told["pickscore"]
    assert "inception absent" in told["fid"] and "references" in told["fid"] and "antialiased" in told["fid"]
    assert "maniqa absent" in told["maniqa"] and "lower" in told["niqe"] and "higher" in told["musiq"]
    assert catalogue.main(["eval=segga"]) == 2 and "did you mean 'sega'" in capsys.readouterr().err
