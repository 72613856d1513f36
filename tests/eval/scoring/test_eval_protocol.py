"""Protocols of the papers: whole, composed alike by Hydra and by the evaluation, and honest about what is unknown."""

import csv
import json
from pathlib import Path

import open_clip
import pytest
from eval_store import make_run

from eval.metrics.learned import networks
from eval.metrics.learned.weights import WEIGHTS
from eval.metrics.registry import metrics
from eval.metrics.types import option
from eval.protocols import CONF, load_protocol, protocols
from eval.records.runs import Run
from eval.scoring import departures
from eval.scoring.command import main
from sega.errors import RequestError

PAPERS = {
    "sega": "SEGA",
    "area": "AReA",
    "dype": "DyPE",
    "ultraimage": "UltraImage",
    "hiflow": "HiFlow",
    "resdit": "ResDiT",
}
BENCHMARKS = {"aesthetic4k": "zhang0jhon/diffusion-4k", "pixverve": "HaojunChen663/PixVerve-95K"}
OURS = {
    "FID": "fid",
    "KID": "kid",
    "patch_FID": "patch_fid",
    "patch_KID": "patch_kid",
    "CLIP_score": "clip_score",
    "ImageReward": "imagereward",
    "PickScore": "pickscore",
    "aesthetic": "aesthetic",
    "IS": "is",
    "patch_IS": "patch_is",
}
PUBLISHED = Path(departures.__file__).parents[1] / "published"


def printed(name):
    """Rows of a paper on DiTs, without cost."""
    with (PUBLISHED / f"{name}.csv").open(newline="") as file:
        return [row for row in csv.DictReader(file) if row["metric"] != "latency_s"]


@pytest.mark.parametrize("name", PAPERS)
def test_a_protocol_has_the_metrics_sizes_and_counts_its_paper_prints(name):
    config = load_protocol(name)
    paper, rows = config["paper"], printed(name)
    assert paper["title"].startswith(PAPERS[name])
    named = {row["metric"] for row in rows}
    assert {OURS[m] for m in named if m in OURS} | set(paper["added"]) <= set(config["metrics"])
    assert {m for m in named if m not in OURS} == set(paper["missing"])
    assert {f"{row['width']}x{row['height']}" for row in rows} == set(paper["sizes"])
    counts = {int(row["n_prompts"]) for row in rows if row["n_prompts"].isdigit()} - {50}  # DyPE's ablations
    assert counts == set(paper["count"] if paper["count"] != "unknown" else [])
    assert set(config["metrics"]) <= set(metrics())


@pytest.mark.parametrize("name", PAPERS)
def test_what_is_unknown_is_marked_and_settable(name):
    config = load_protocol(name)
    told = departures.unstated(config)
    assert told["seeds"] == "unknown" and "reference.path" in told
    others = {
        "reference.path": "photos",
        "reference.resize": "size",
        "reference.filter": "box",
        "features": "embedded",
        "clip.model": "ViT-H-14",
        "aesthetic.version": "v1",
        "is.variant": "torchmetrics",
    }
    for key in [*config["paper"]["ours"], "paper.steps"]:
        assert option(load_protocol(name, [f"{key}={others.get(key, 7)}"]), key) == others.get(key, 7)
    with pytest.raises(RequestError, match="unknown option paper.stepps; did you mean 'steps'"):
        load_protocol(name, ["paper.stepps=3"])


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_names_its_code_and_what_is_chosen_here(name):
    config = load_protocol(name)
    assert BENCHMARKS[name] in (CONF / "eval" / f"{name}.yaml").read_text()
    assert set(config["metrics"]) <= set(metrics()) and set(config["paper"]["added"]) <= set(config["metrics"])
    told = departures.unstated(config)
    assert set(config["paper"]["ours"]) | {"models", "count", "guidance"} <= set(told)
    run = Run(Path("x"), "any", "sega", 4096, 4096, "h", {"model": {"id": "any"}, "steps": 50}, {}, [])
    assert departures.departures(run, config, 7) == []
    others = {"reference.path": "photos", "patch.resize": 512, "glcm.jpeg": "true"}
    for key in config["paper"]["ours"]:
        assert str(option(load_protocol(name, [f"{key}={others[key]}"]), key)).lower() == str(others[key])


def test_benchmarks_are_settings_of_their_public_code():
    pixverve, aesthetic = load_protocol("pixverve"), load_protocol("aesthetic4k")
    assert pixverve["patch"] == {"size": 299, "count": 20, "seed": 42, "places": "by_order", "resize": 4096}
    assert [c["glcm"] for c in (aesthetic, pixverve)] == [
        {"variant": "diffusion4k", "jpeg": True},
        {"variant": "pixverve", "jpeg": False},
    ]
    assert {c["clip"]["model"] for c in (aesthetic, pixverve)} == {"ViT-B-16-quickgelu"}
    assert set(networks.OPENAI) <= set(open_clip.list_models()) and set(networks.OPENAI.values()) <= set(WEIGHTS)
    assert departures.departures(
        Run(Path("x"), "any", "sega", 1024, 1024, "h", {"steps": 28}, {}, []), aesthetic, 195
    ) == ["1024x1024 and not 2048x2048 or 4096x4096", "steps 28 and not 50"]


def test_a_run_is_scored_under_pixverve(tmp_path):
    """With the embedded scorer for its networks and a smaller square; the rest is the protocol."""
    run = make_run(tmp_path / "runs", "vanilla", (352, 320), prompts=3, noise=5)
    photos = make_run(tmp_path / "photos", "vanilla", (400, 330), prompts=3, noise=3)
    words = [f"store={tmp_path / 'runs'}", f"cache={tmp_path / 'cache'}", f"reference.path={photos}"]
    scorer = ["features=embedded", "clip.model=embedded", "bootstrap.distance_samples=2", "patch.resize=320"]
    assert main([*words, *scorer, "eval=pixverve", "metrics=[patch_fid,clip_score,glcm]"]) == 0
    found = json.loads((run / "scores.json").read_text())["protocols"]["pixverve"]["metrics"]
    assert found["patch_fid"]["title"] == "patch-FID (20×299 px)" and found["patch_fid"]["crops"] == 20
    assert found["patch_fid"]["value"] > 0 and found["patch_fid"]["n_reference"] == 3
    assert found["glcm"]["title"] == "GLCM (pixverve)" and 0 < found["glcm"]["value"] < 4


def test_hydra_composes_every_protocol_as_the_evaluation_does():
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    with initialize_config_dir(str(CONF), version_base="1.3"):
        for name in protocols():
            config = compose("config", [f"eval={name}"])
            assert OmegaConf.to_container(config.eval) == load_protocol(name)


def test_departures_are_what_the_paper_states_otherwise():
    identity = {"model": {"id": "black-forest-labs/FLUX.1-Krea-dev"}, "steps": 20, "guidance": 4.5}
    run = Run(Path("x"), "flux", "dype", 4096, 4096, "h", identity, {}, [])
    config = load_protocol("dype")
    assert departures.departures(run, config, 195) == ["steps 20 and not 28"]
    assert departures.departures(run, config, 16)[0] == "16 prompts and not 195 or 200"
    other = Run(Path("x"), "tiny", "dype", 256, 256, "h", {"model": {"id": "embedded"}, "steps": 28}, {}, [])
    found = departures.departures(other, config, 195)
    assert len(found) == 2 and found[0].startswith("256x256 and not") and found[1].startswith("embedded and not FLUX.1")
    assert departures.departures(other, load_protocol("embedded"), 3) == []
    assert departures.unstated(load_protocol("embedded")) == {}


def test_a_run_scored_under_a_paper_says_how_far_it_is_from_it(tmp_path, capsys):
    run = make_run(tmp_path / "runs", "vanilla", (64, 64), prompts=3)
    photos = make_run(tmp_path / "photos", "vanilla", (96, 96), prompts=4, noise=3)
    scorer = ["features=embedded", "clip.model=embedded"]
    words = [
        f"store={tmp_path / 'runs'}",
        f"cache={tmp_path / 'cache'}",
        "eval=dype",
        "metrics=[fid,clip_score]",
        *scorer,
    ]
    assert main([*words, f"reference.path={photos}"]) == 0
    told = capsys.readouterr().out
    assert "this run has 3 prompts and not 195 or 200" in told and "does not state seeds" in told
    assert "reference.filter (here lanczos)" in told
    block = json.loads((run / "scores.json").read_text())["protocols"]["dype"]
    assert block["metrics"]["fid"]["n_reference"] == 4  # reduced from 96 px to the size of the run
    assert len(block["protocol"]["departures"]) == 4
    small = make_run(tmp_path / "small", "vanilla", (48, 96), prompts=4)
    assert main([*words, f"reference.path={small}"]) == 2
    assert "is 48x96, which is smaller than 64x64" in capsys.readouterr().err


def test_reduced_references_keep_their_shape(tmp_path):
    """A wide image loses its sides; a circle stays a circle."""
    import numpy as np
    from PIL import Image

    from eval.records import images

    y, x = np.mgrid[:120, :200]
    disc = np.where((y - 60) ** 2 + (x - 100) ** 2 < 30**2, 255, 0).astype(np.uint8)
    Image.fromarray(np.repeat(disc[..., None], 3, 2)).save(tmp_path / "a.png")
    found = images.reduced(tmp_path / "a.png", (60, 60), "lanczos")[..., 0] > 127
    assert abs(found.any(0).sum() - 30) <= 1 and abs(found.any(1).sum() - 30) <= 1


def test_references_are_hashed_once(tmp_path, monkeypatch):
    from eval.scoring import references

    files = []
    for k in range(3):
        files.append(tmp_path / f"{k}.png")
        files[-1].write_bytes(bytes([k]))
    read = []
    original = references.file_digest
    monkeypatch.setattr(references, "file_digest", lambda path: read.append(path.name) or original(path))
    first = references.known_digests(tuple(files), tmp_path / "files.json")
    files[1].write_bytes(b"longer")
    second = references.known_digests(tuple(files), tmp_path / "files.json")
    assert read == ["0.png", "1.png", "2.png", "1.png"]
    assert first[0] == second[0] and first[1] != second[1]
