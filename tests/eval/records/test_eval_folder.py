"""Images from elsewhere: what is found, what its prompts are, and what is told of files that can't be used."""

import json

import numpy as np
import pytest
from PIL import Image

from eval.records import images
from eval.records.foreign import left_out, load_folder
from sega.errors import RequestError


def image(path, value=120, mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8, 3), value, np.uint8)).convert(mode).save(path)
    return path


def geneval(folder, count=2):
    """GenEval's own layout, its sheet of samples included."""
    for number in range(count):
        place = folder / f"{number:05d}"
        for k in range(3):
            image(place / "samples" / f"{k:05d}.png")
        image(place / "grid.png")
        (place / "metadata.jsonl").write_text(json.dumps({"tag": "counting", "prompt": f"{number} benches"}))
    return folder


def test_geneval_with_its_sheets(tmp_path):
    run = load_folder(geneval(tmp_path))
    assert [(p.prompt_id, p.seed, p.prompt) for p in run.images] == [
        (f"{n:05d}", k, f"{n} benches") for n in range(2) for k in range(3)
    ]
    assert run.notes == [] and left_out(run, []) == []


def test_geneval_names_what_does_not_belong(tmp_path):
    geneval(tmp_path, 3)
    (tmp_path / "00001" / "metadata.jsonl").write_text("{half")
    image(tmp_path / "extra.png")
    run = load_folder(tmp_path)
    assert len(run.images) == 9 and {p.prompt for p in run.images} == {"0 benches", "2 benches", None}
    assert run.notes == [
        "00001/metadata.jsonl contains no prompt; its samples are scored without one",
        "extra.png is not a sample in GenEval's layout",
    ]


def test_one_folder_of_geneval_is_not_the_layout_of_others(tmp_path):
    image(tmp_path / "samples" / "a.png")
    assert [p.prompt_id for p in load_folder(tmp_path).images] == ["samples/a.png"]


def test_every_file_that_can_not_be_used_is_named_with_the_reason(tmp_path):
    image(tmp_path / "good.png")
    whole = (tmp_path / "good.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.webp").write_text("no image")
    (tmp_path / "link.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "clip.gif").write_bytes(b"GIF89a")
    (tmp_path / ".hidden.png").write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    run = load_folder(tmp_path)
    damaged = []
    for item in run.images:
        try:
            images.read(item.path)
        except images.DamagedError as error:
            damaged.append({"file": item.path.name, "why": str(error)})
    lines = left_out(run, damaged)
    assert lines[0] == f"warning: 4 of 5 images in {tmp_path} are left out:"
    assert [line.split()[0] for line in lines[1:5]] == ["cut.png", "empty.jpg", "link.png", "text.webp"]
    assert "can't be decoded" in lines[1] and lines[3].endswith("is missing")
    assert lines[5:] == [
        f"warning: 1 more files in {tmp_path} are not scored:",
        "  clip.gif has a format that is not read; convert it to PNG",
    ]


@pytest.mark.filterwarnings("ignore")  # what Pillow says of damaged files besides
@pytest.mark.parametrize("kind", ["png", "jpg", "webp", "bmp", "tiff"])
def test_a_file_damaged_anywhere_is_an_image_or_a_damaged_one(tmp_path, kind):
    rng = np.random.default_rng(0)
    path = tmp_path / f"a.{kind}"
    Image.fromarray(rng.integers(0, 256, (16, 24, 3), dtype=np.uint8)).save(path)
    sound = np.frombuffer(path.read_bytes(), np.uint8)
    for _ in range(60):
        spoilt = sound.copy()
        spoilt[rng.integers(0, min(len(spoilt), 200), 3)] = rng.integers(0, 256, 3)
        path.write_bytes(spoilt.tobytes()[: rng.integers(len(spoilt) // 2, len(spoilt) + 1)])
        images.changes(path), images.size(path)
        try:
            assert images.read(path).dtype == np.uint8
        except images.DamagedError as error:
            assert str(error)


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "1"])
def test_other_kinds_of_colour_are_read_as_rgb(tmp_path, mode):
    path = image(tmp_path / ("a.jpg" if mode == "CMYK" else "a.png"), 255, mode)
    found = images.read(path)
    assert found.shape == (8, 8, 3) and found.dtype == np.uint8 and found.min() > 250


def test_more_than_8_bits_are_scaled_and_not_clipped(tmp_path):
    ramp = np.linspace(0, 1, 64).reshape(8, 8)
    wanted = np.rint(ramp * 255)
    Image.fromarray(np.rint(ramp * 65535).astype(np.uint16)).save(tmp_path / "deep.png")
    Image.fromarray(ramp.astype(np.float32)).save(tmp_path / "unit.tiff")
    Image.fromarray((ramp * 255).astype(np.float32)).save(tmp_path / "wide.tiff")
    Image.fromarray(wanted.astype(np.uint8)).save(tmp_path / "plain.png")
    for name in ("deep.png", "unit.tiff", "wide.tiff", "plain.png"):
        found = images.read(tmp_path / name)
        assert found.shape == (8, 8, 3) and found.dtype == np.uint8, name
        assert np.abs(found[..., 1] - wanted).max() <= 1, name
    assert sorted(load_folder(tmp_path).changes) == [
        "1 of 4 images of mode I;16 are scaled to 8 bits",
        "2 of 4 images of mode F are scaled to 8 bits",
    ]


@pytest.mark.parametrize("value", [np.nan, -0.5, 300.0, np.inf])
def test_floats_of_no_known_range_are_damaged(tmp_path, value):
    values = np.full((8, 8), 0.5, np.float32)
    values[0, 0] = value
    Image.fromarray(values).save(tmp_path / "a.tiff")
    with pytest.raises(images.DamagedError, match="no known range"):
        images.read(tmp_path / "a.tiff")


def test_16_bits_in_colour_are_scaled_too(tmp_path):
    import cv2

    ramp = np.linspace(0, 65535, 192).reshape(8, 8, 3).astype(np.uint16)
    cv2.imwrite(str(tmp_path / "a.png"), ramp[..., ::-1])
    assert np.abs(images.read(tmp_path / "a.png").astype(int) - ramp / 257).max() <= 1
    assert load_folder(tmp_path).changes == ["1 of 1 images of mode RGB are scaled to 8 bits"]


def test_images_stand_as_their_exif_data_say(tmp_path):
    upright = np.zeros((4, 8, 3), np.uint8)
    upright[:, :4] = 255  # white on the left
    exif = Image.Exif()
    exif[images.ORIENTATION] = 6  # a viewer turns it a quarter clockwise
    Image.fromarray(np.rot90(upright)).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(images.read(tmp_path / "a.png"), upright)
    assert images.size(tmp_path / "a.png") == (8, 4)
    assert load_folder(tmp_path).changes == ["1 of 1 images are rotated to their EXIF orientation"]


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_laid_on_the_stated_colour(tmp_path, mode):
    bands = Image.new("RGBA", (8, 8), (0, 0, 0, 0 if mode == "LA" else 51)).convert(mode)
    bands.save(tmp_path / "a.png")
    assert (images.read(tmp_path / "a.png") == (255 if mode == "LA" else 204)).all()
    run = load_folder(tmp_path)
    assert run.changes == [f"1 of 1 images are transparent and get a {images.BACKGROUND} background"]
    assert left_out(run, []) == [f"note: {run.changes[0]}"]


def test_prompts_of_a_folder_keep_their_lines(tmp_path):
    for name in "ab":
        image(tmp_path / "pictures" / f"{name}.png")
    (tmp_path / "a.txt").write_bytes("\ufeffone\u2028line\r\ntwo\n".encode())
    found = load_folder(tmp_path / "pictures", tmp_path / "a.txt").images
    assert [p.prompt for p in found] == ["one\u2028line", "two"]
    (tmp_path / "a.tsv").write_bytes("\ufefffile\tprompt\tseed\na.png\tone, two\t4\n".encode())
    assert load_folder(tmp_path / "pictures", tmp_path / "a.tsv").images[0].prompt == "one, two"
    for name, content, message in (
        ("a.jsonl", '{"file": "a.png", "prompt": ' + "[" * 100_000, "line 1 is not a JSON object"),
        ("b.jsonl", '{"file": "a.png", "prompt": "\\ud800"}', "line 1 is not a JSON object"),
        ("a.json", "[" * 100_000, "can't be read"),
        ("b.json", '[{"file": "a.png", "prompt": ["x"]}]', "is not text"),
        ("c.json", '[{"file": "a.png", "prompt": "x", "seed": [1]}]', "is not a whole number"),
        ("b.csv", b"file,prompt\n\xff", "not UTF-8"),
    ):
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(RequestError, match=message):
            load_folder(tmp_path / "pictures", tmp_path / name)


def test_a_folder_without_images(tmp_path):
    (tmp_path / "a.gif").write_bytes(b"GIF89a")
    with pytest.raises(RequestError, match="no images in"):
        load_folder(tmp_path)
