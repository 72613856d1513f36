"""Networks in the format of TensorFlow.js: what they compute there, they compute here; others are refused."""

import copy
import io
import json
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from baselines.kernels.superresolution import load_network
from eval import fetch
from sega.errors import RequestError
from sega.home import CACHE
from sega.loading import esrgan

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "esrgan.npz")
FILES = {name.split("/")[1]: GOLDEN[name].tobytes() for name in GOLDEN if name.startswith("tiny/") and "." in name}
REAL = CACHE / esrgan.file_of("esrgan-2x")


def output(file):
    """What a network of ours makes of the golden input, [H, W, 3] in 0..255 and beyond."""
    network = load_network(file, torch.device("cpu"))
    assert (network.architecture.id, network.scale, network.purpose) == ("RDN", 2, "SR")
    x = torch.from_numpy(GOLDEN["input"]).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        return 255 * network.model(x)[0].permute(1, 2, 0).numpy()


def test_a_network_computes_what_it_does_in_tensorflow(tmp_path):
    """Two dense blocks of two convolutions, random, in two files with a border inside a tensor."""
    esrgan.save(esrgan.convert(FILES.__getitem__), tmp_path / "tiny.safetensors", "test")
    expected = GOLDEN["tiny/output"]
    assert expected.std() > 20
    np.testing.assert_allclose(output(tmp_path / "tiny.safetensors"), expected, atol=1e-3)
    first = (tmp_path / "tiny.safetensors").read_bytes()
    esrgan.save(esrgan.convert(FILES.__getitem__), tmp_path / "tiny.safetensors", "test")
    assert (tmp_path / "tiny.safetensors").read_bytes() == first


@pytest.mark.skipif(not REAL.is_file(), reason=f"no {REAL}: python scripts/fetch.py esrgan-2x weights={REAL.parent}")
def test_the_network_of_the_package_computes_what_it_does_in_tensorflow():
    np.testing.assert_allclose(output(REAL), GOLDEN["esrgan-2x/output"], atol=1e-3)


def changed(change):
    model = json.loads(FILES["model.json"])
    layers = {layer["name"]: layer for layer in model["modelTopology"]["model_config"]["config"]["layers"]}
    change(model, layers)
    return (FILES | {"model.json": json.dumps(model).encode()}).__getitem__


def without(model, layers, name):
    model["modelTopology"]["model_config"]["config"]["layers"].remove(layers[name])


OTHER = {
    "an activation": (lambda m, ls: ls["F_2_1_Relu"]["config"].update(activation="elu"), "F_2_1_Relu"),
    "a stride": (lambda m, ls: ls["GFF_2"]["config"].update(strides=[2, 2]), "GFF_2"),
    "padding": (lambda m, ls: ls["SR"]["config"].update(padding="valid"), "SR"),
    "a source": (lambda m, ls: ls["FDF"].update(inbound_nodes=copy.deepcopy(ls["LRL_1"]["inbound_nodes"])), "FDF"),
    "a layer less": (lambda m, ls: without(m, ls, "LFF_2"), "LFF_2|F_2|LRL"),
    "an enlargement": (lambda m, ls: ls["UPsample"]["config"].update(interpolation="bilinear"), "UPsample"),
    "a scale": (lambda m, ls: ls["UPsample"]["config"].update(size=[3, 3]), "UPN3 has 12 filters"),
    "no enlargement": (lambda m, ls: without(m, ls, "UPsample"), "UPsample"),
}


@pytest.mark.parametrize("name", OTHER)
def test_another_graph_is_refused(name):
    change, what = OTHER[name]
    with pytest.raises(RequestError, match=f"this is no RDN: .*({what})"):
        esrgan.convert(changed(change))


def test_other_weights_are_refused():
    def quantised(model, layers):
        model["weightsManifest"][0]["weights"][3]["quantization"] = {"dtype": "uint8"}

    def longer(model, layers):
        model["weightsManifest"][0]["weights"].pop()

    with pytest.raises(RequestError, match="are not plain float32"):
        esrgan.convert(changed(quantised))
    with pytest.raises(RequestError, match="have 10392 bytes and not"):
        esrgan.convert(changed(longer))


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of the small network at 2x, as npm packs it."""
    path = tmp_path / esrgan.TARBALL
    with tarfile.open(path, "w:gz") as package:
        for name, data in FILES.items():
            member = tarfile.TarInfo(f"package/models/x2/{name}")
            member.size = len(data)
            package.addfile(member, io.BytesIO(data))
    monkeypatch.setattr(esrgan, "SHA256", esrgan.file_sha(path))
    return path


def test_a_package_that_is_there_is_taken(package, monkeypatch, capsys):
    monkeypatch.setattr(subprocess, "run", None)
    assert fetch.main(["esrgan-2x", f"weights={package.parent}"]) == 0
    made = package.with_name("esrgan-medium-2x.safetensors")
    assert capsys.readouterr().out == f"esrgan-2x: {made}\n"
    np.testing.assert_allclose(output(made), GOLDEN["tiny/output"], atol=1e-3)
    assert fetch.main(["esrgan-2x", f"weights={package.parent}"]) == 0
    assert capsys.readouterr().out == f"esrgan-2x: {made} exists\n"
    assert fetch.main([f"weights={package.parent}"]) == 0
    listed = [line.split()[:4] for line in capsys.readouterr().out.splitlines() if "esrgan" in line]
    assert listed[0] == ["esrgan-2x", "3", "MB", "there"] and len(listed) == 4 and "there" not in listed[1]


def test_npm_fetches_the_package(package, tmp_path, monkeypatch):
    def npm(words, cwd, **options):
        assert words == ["/bin/npm", "pack", "@upscalerjs/esrgan-medium@1.0.0", "--silent"]
        package.rename(cwd / esrgan.TARBALL)
        return subprocess.CompletedProcess(words, 0, "", "")

    monkeypatch.setattr(esrgan.shutil, "which", lambda name: "/bin/npm")
    monkeypatch.setattr(subprocess, "run", npm)
    esrgan.fetch("esrgan-2x", tmp_path / "new")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["esrgan-medium-2x.safetensors"]


def test_what_cannot_be_fetched_is_said(package, tmp_path, monkeypatch, capsys):
    place = tmp_path / "empty"
    words = ["esrgan-2x", f"weights={place}"]
    monkeypatch.setattr(esrgan.shutil, "which", lambda name: None)
    assert fetch.main(words) == 2
    told = capsys.readouterr().err
    assert f"npm is not installed; install it, or put {esrgan.TARBALL}" in told and str(place) in told
    monkeypatch.setattr(esrgan.shutil, "which", lambda name: "/bin/npm")
    failed = subprocess.CompletedProcess([], 1, "", "npm ERR! code E500\nnpm ERR! no network\n")
    monkeypatch.setattr(subprocess, "run", lambda *words, **options: failed)
    assert fetch.main(words) == 2
    assert "failed (npm ERR! no network); try again" in capsys.readouterr().err
    package.write_bytes(b"something else")
    assert fetch.main(["esrgan-2x", f"weights={tmp_path}"]) == 2
    assert "it is another package, or damaged" in capsys.readouterr().err
    assert fetch.main(["esrgan-5x"]) == 2
    assert "did you mean 'esrgan-" in capsys.readouterr().err
