"""Pictures from elsewhere: what is found, what its prompts are, and what is told of files that can't be used."""

import json

import numpy as np
import pytest
from PIL import Image

from eval import images
from eval.folder import left_out, load_folder
from sega.errors import RequestError


def picture(path, value=120, mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8, 3), value, np.uint8)).convert(mode).save(path)
    return path


def geneval(folder, count=2):
    """GenEval's own layout, its sheet of samples included."""
    for number in range(count):
        place = folder / f"{number:05d}"
        for k in range(3):
            picture(place / "samples" / f"{k:05d}.png")
        picture(place / "grid.png")
        (place / "metadata.jsonl").write_text(json.dumps({"tag": "counting", "prompt": f"{number} benches"}))
    return folder


def test_geneval_with_its_sheets(tmp_path):
    run = load_folder(geneval(tmp_path))
    assert [(p.prompt_id, p.seed, p.prompt) for p in run.pictures] == [
        (f"{n:05d}", k, f"{n} benches") for n in range(2) for k in range(3)
    ]
    assert run.notes == [] and left_out(run, []) == []


def test_geneval_names_what_does_not_belong(tmp_path):
    geneval(tmp_path, 3)
    (tmp_path / "00001" / "metadata.jsonl").write_text("{half")
    picture(tmp_path / "extra.png")
    run = load_folder(tmp_path)
    assert len(run.pictures) == 9 and {p.prompt for p in run.pictures} == {"0 benches", "2 benches", None}
    assert run.notes == [
        "00001/metadata.jsonl holds no prompt; its samples are scored without one",
        "extra.png is no sample of GenEval's layout",
    ]


def test_one_folder_of_geneval_is_not_the_layout_of_others(tmp_path):
    picture(tmp_path / "samples" / "a.png")
    assert [p.prompt_id for p in load_folder(tmp_path).pictures] == ["samples/a.png"]


def test_every_file_that_can_not_be_used_is_named_with_the_reason(tmp_path):
    picture(tmp_path / "good.png")
    whole = (tmp_path / "good.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.webp").write_text("no picture")
    (tmp_path / "link.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "clip.gif").write_bytes(b"GIF89a")
    (tmp_path / ".hidden.png").write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    run = load_folder(tmp_path)
    damaged = []
    for item in run.pictures:
        try:
            images.read(item.path)
        except images.DamagedError as error:
            damaged.append({"file": item.path.name, "why": str(error)})
    lines = left_out(run, damaged)
    assert lines[0] == f"warning: 4 of 5 pictures in {tmp_path} are left out:"
    assert [line.split()[0] for line in lines[1:5]] == ["cut.png", "empty.jpg", "link.png", "text.webp"]
    assert "can't be decoded" in lines[1] and lines[3].endswith("is missing")
    assert lines[5:] == [
        f"warning: 1 more files in {tmp_path} are not scored:",
        "  clip.gif is of a kind that is not read; convert it to PNG",
    ]


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "1"])
def test_other_kinds_of_colour_are_read_as_rgb(tmp_path, mode):
    path = picture(tmp_path / ("a.jpg" if mode == "CMYK" else "a.png"), 255, mode)
    found = images.read(path)
    assert found.shape == (8, 8, 3) and found.dtype == np.uint8 and found.min() > 250


def test_a_folder_without_pictures(tmp_path):
    (tmp_path / "a.gif").write_bytes(b"GIF89a")
    with pytest.raises(RequestError, match="no pictures in"):
        load_folder(tmp_path)
