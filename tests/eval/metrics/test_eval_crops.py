"""Crops whose places are drawn in the order of the images, against those that PixVerve-Bench draws."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from eval_store import make_run, make_scorer

from eval.metrics import measures
from eval.metrics.learned.networks import Network
from eval.metrics.registry import measures as declared
from eval.protocols import load_protocol
from eval.records import images
from eval.records.files import digest, read_arrays
from eval.records.runs import load_run
from eval.scoring import references
from eval.scoring.collect import Item, collect, resolve
from eval.scoring.command import main
from sega.errors import RequestError

GOLDEN = Path(__file__).parents[2] / "golden"


@pytest.fixture(scope="module")
def golden():
    return dict(np.load(GOLDEN / "metrics.npz"))


def load(name):
    return images.read(GOLDEN / "metric_images" / f"{name}.png")


@pytest.mark.parametrize("side, pairs", [(512, 2), (1024, 2), (2048, 3), (4096, 4), (299, 1)])
def test_places_are_those_of_the_published_code(golden, side, pairs):
    expected = golden[f"pixverve/places_size{side}_pairs{pairs}_seed42"]
    places = images.ordered_places(side - 299, 20, 42)
    last = places(pairs - 1)  # in any order of asking
    assert np.array_equal([places(number) for number in range(pairs)], expected)
    assert np.array_equal(last, expected[-1])


@pytest.mark.parametrize(
    "kind, names", [("reference", ("scene", "texture", "flat")), ("picture", ("texture", "flat", "scene"))]
)
def test_patches_are_those_of_the_published_code(golden, monkeypatch, kind, names):
    """By way of the measure, with a network whose features are the mean colours."""
    side, size = map(int, golden["pixverve/small/size_patch"])
    seen = []

    def mean_colour(patches):
        seen.append(patches[0].numpy())
        return patches.double().mean((2, 3))

    words = [f"patch.size={size}", "patch.count=4", "patch.seed=42", "patch.places=by_order", f"patch.resize={side}"]
    config = load_protocol("plain", [*words, "device=cpu", "batch=2"])
    monkeypatch.setattr(measures.Context, "network", lambda self, kind: Network(mean_colour))
    items = [Item(partial(load, name), (name, 0), number=number) for number, name in enumerate(names)]
    values, damaged = collect(items, [["patches"]] * 3, measures.Context(config, None, {}))
    assert not damaged
    found = np.concatenate([value["patches"] for value in values])
    assert found == pytest.approx(golden[f"pixverve/small/mean_{kind}"], rel=1e-6)
    assert np.array_equal(seen[0], golden[f"pixverve/small/first_patch_{kind}"])


def test_the_identity_of_crops_as_before_is_as_before(tmp_path):
    make_scorer(tmp_path / "scorer")
    words = [f"clip.path={tmp_path / 'scorer'}", "patch.size=32"]

    def identity(*more):
        setting = resolve(["patches"], load_protocol("embedded", [*words, *more]), None)
        return setting.identities["patches"], setting

    plain, setting = identity()
    settings = {"patch.size": 32, "patch.count": 4, "patch.seed": 0}
    network = ("embedded", setting.sources["embedded"].weights)
    assert plain == digest(["patches", declared()["patches"].version, settings, network])
    others = [identity("patch.resize=64")[0], identity("patch.resize=64", "patch.places=by_order")[0]]
    assert len({plain, *others}) == 3


def test_order_needs_one_size():
    with pytest.raises(RequestError, match=r"by_order needs images of one size; give patch.resize=<pixels>"):
        load_protocol("plain", ["patch.places=by_order"])
    for words, why in (
        (["patch.places=order"], "did you mean 'by_order'"),
        (["patch.resize=0"], "patch.resize=0 must be a whole number of at least 1"),
    ):
        with pytest.raises(RequestError, match=why):
            load_protocol("plain", words)


def test_a_run_whose_images_change_is_cut_anew(tmp_path):
    """With places by order, an image that leaves moves all after it; with places by prompt it moves none."""
    make_scorer(tmp_path / "scorer")
    folder = make_run(tmp_path / "runs", "vanilla", (64, 64), prompts=4, noise=20)
    quick = ["reference.least=4", "bootstrap.samples=5", "bootstrap.distance_samples=2", "metrics=[patch_fid]"]
    words = [f"store={tmp_path / 'runs'}", f"cache={tmp_path / 'cache'}", f"clip.path={tmp_path / 'scorer'}"]
    order = [*words, *quick, "patch.size=32", "patch.resize=96", "patch.places=by_order"]

    def patches(*more):
        assert main([*order, *more]) == 0
        cell = json.loads((folder / "scores.json").read_text())["protocols"]["embedded"]["metrics"]["patch_fid"]
        assert np.isfinite(cell["value"])
        return read_arrays(folder / "features-embedded.npz")["patches"]

    first = patches()
    assert np.array_equal(first, patches("bootstrap.samples=6"))
    rows = (folder / "images.jsonl").read_text()
    left = [row for row in rows.splitlines(keepends=True) if json.loads(row)["file"] != "0001-0.png"]
    (folder / "images.jsonl").write_text("".join(left))
    fewer = patches()
    assert np.array_equal(fewer[0], first[0]) and len(fewer) == 3
    assert not np.allclose(fewer[1], first[2], atol=1e-3)  # the third image is the second now
    (folder / "images.jsonl").write_text(rows)
    assert np.array_equal(patches(), first)
    for side in (32, 16):
        assert main([*order, f"patch.resize={side}"]) == 0
        cell = json.loads((folder / "scores.json").read_text())["protocols"]["embedded"]["metrics"]["patch_fid"]
        assert cell["reason"] == f"patch.resize={side} is no larger than a crop of 32 px"


@pytest.mark.parametrize("places, same", [("by_prompt", True), ("by_order", False)])
def test_references_of_another_order_are_another_set_where_order_counts(tmp_path, places, same):
    make_scorer(tmp_path / "scorer")
    run = load_run(make_run(tmp_path / "runs", "vanilla", (64, 64), prompts=2))
    photos = make_run(tmp_path / "photos", "vanilla", (64, 64), prompts=3, noise=9)
    words = [f"clip.path={tmp_path / 'scorer'}", "patch.size=32", "patch.resize=64", f"patch.places={places}"]
    config = load_protocol("embedded", [*words, "reference.kind=folder", f"reference.path={photos}"])
    setting = resolve(["patches"], config, None)
    first = references.plan(run, setting, tmp_path / "cache").identity
    (photos / "0000-0.png").rename(photos / "9999-0.png")
    assert (references.plan(run, setting, tmp_path / "cache").identity == first) is same
