"""Prompts from files as others publish them: encodings, ends of lines, tables."""

import pytest

from sega.errors import RequestError
from sega.run.prompts import load_prompts, named

CONFIG = {"source": "file", "seed": 0, "count": 0, "path": None, "items": [], "text": None, "limit": None}


def read(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return load_prompts(CONFIG | {"path": str(path)})


def texts(*arguments):
    return [prompt.text for prompt in read(*arguments)]


def test_a_byte_order_mark_is_no_part_of_the_first_prompt(tmp_path):
    for name, content in (("a.txt", "a ball\n"), ("a.jsonl", '{"prompt": "a ball"}\n'), ("a.csv", "prompt\na ball\n")):
        assert read(tmp_path, name, b"\xef\xbb\xbf" + content.encode()) == [named("a ball")]


def test_only_a_line_feed_ends_a_line(tmp_path):
    odd = "a\u2028b\x85c\x0bd\x0ce\rf"
    assert texts(tmp_path, "a.txt", f"{odd}\r\nsecond\n\n") == [odd, "second"]
    assert texts(tmp_path, "a.jsonl", '{"prompt": "a\u2028b"}\r\n{"prompt": "c"}') == ["a\u2028b", "c"]


def test_drawbench_and_partiprompts_are_read_as_they_come(tmp_path):
    drawbench = 'Prompts,Category\r\nA red colored car.,Colors\r\n"A panda, eating",Conflicting\r\n'
    assert texts(tmp_path, "DrawBench.csv", drawbench) == ["A red colored car.", "A panda, eating"]
    parti = 'Prompt\tCategory\tChallenge\tNote\nbond\tAbstract\tBasic\tBiology\na "sign"\tArts\tBasic\t\n'
    assert texts(tmp_path, "PartiPrompts.tsv", parti) == ["bond", 'a "sign"']


@pytest.mark.parametrize("head", ["prompt", "Prompt", "PROMPTS", "caption", "Caption", "text", " text "])
def test_the_column_of_the_prompt_has_several_names(tmp_path, head):
    assert texts(tmp_path, "a.csv", f"number,{head}\n1,a ball\n\n2,a cube\n") == ["a ball", "a cube"]


def test_ids_and_seeds_are_those_of_the_file(tmp_path):
    table = "id,prompt,seed\nfirst,a ball,7\n,a cube,\nthird,a ball,8\n"
    lines = '{"prompt": "a ball", "id": "first", "seed": 7}\n{"prompt": "a cube"}\n{"text": "a ball", "id": "third", '
    for prompts in (read(tmp_path, "a.csv", table), read(tmp_path, "a.jsonl", lines + '"seed": "8"}\n')):
        assert prompts == [named("a ball", "first", 7), named("a cube"), named("a ball", "third", 8)]
        assert [prompt.seed for prompt in prompts] == [7, None, 8]


def test_images_are_made_with_the_seed_of_their_prompt(tmp_path):
    from types import SimpleNamespace

    from sega.run.cell import Cell, file_name

    prompts = read(tmp_path, "a.csv", "prompt,seed\na ball,7\na cube,\n")
    cell = Cell({"part": None}, {}, SimpleNamespace(name="x"), None, None, [], prompts, [1, 2])
    assert [(prompt.text, seed) for prompt, seed in cell.images] == [("a ball", 7), ("a cube", 1), ("a cube", 2)]
    assert sorted(file_name(*item) for item in cell.in_order) == sorted(file_name(*item) for item in cell.images)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "number,sentence\n1,a ball\n", "the header has no column prompt"),
        ("a.csv", "", "the header has no column"),
        ("a.csv", "prompt,seed\na ball,-1\n", "line 2: seed -1 is no whole number"),
        ("a.csv", "prompt,seed\na ball,1.5\n", "seed 1.5"),
        ("a.csv", "prompt,seed\n,5\n", "line 2: needs"),
        ("a.csv", "prompt\n" + "a" * 200_000, "can't be read as a table"),
        ("a.txt", b"\xff\xfea\x00", "not UTF-8"),
        ("a.jsonl", "[" * 100_000, "line 1: not JSON"),
        ("a.jsonl", '{"prompt": "a"}\n' + '{"prompt": ' + "[" * 100_000, "line 2: not JSON"),
        ("a.jsonl", '{"prompt": "\\ud800"}', "line 1: half a character"),
        ("a.jsonl", '{"prompt": "a", "id": "\\udfff"}', "line 1: half a character"),
        ("a.jsonl", '{"prompt": "a", "seed": true}', "seed True"),
        ("a.jsonl", '{"prompt": "a", "seed": ' + "9" * 5000 + "}", "not JSON"),
        ("a.jsonl", "5", "line 1: needs"),
        ("a.md", "a ball", "must end in .txt"),
    ],
)
def test_files_that_can_not_be_read_are_told_with_the_line(tmp_path, name, content, message):
    with pytest.raises(RequestError) as error:
        read(tmp_path, name, content)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_prompts_come_from_worlds_files_and_the_line(tmp_path):
    config = {"source": "embedded", "seed": 0, "count": 5, "path": None, "items": [], "text": None, "limit": None}
    world = load_prompts(config)
    assert len(world) == 5 and load_prompts(config | {"count": 9})[:5] == world
    assert load_prompts(config | {"limit": 2}) == world[:2]
    assert [item.text for item in load_prompts(config | {"text": ["b", "a", "b"]})] == ["b", "a"]
    assert [item.text for item in load_prompts(config | {"items": ["b", "a"]})] == ["b", "a"]
    path = tmp_path / "list.jsonl"
    path.write_text('{"prompt": "A tall oak, in fog", "id": "oak"}\n\n{"prompt": "A tall oak, in snow"}\n')
    oak, snow = load_prompts(config | {"path": str(path)})
    config |= {"source": "file", "count": 0}
    assert load_prompts(config | {"path": str(path)}) == [oak, snow]
    assert oak.id.startswith("oak-") and snow.id.startswith("a-tall-oak-in-") and oak.id != snow.id
    assert snow == named("A tall oak, in snow")
    assert named("雪").id == named("雪").id != named("雨").id
    path.write_text('{"prompt": "x"}\n{"id": "y"}\n')
    with pytest.raises(RequestError, match="line 2"):
        load_prompts(config | {"path": str(path)})
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    with pytest.raises(RequestError, match="not UTF-8"):
        load_prompts(config | {"path": str(tmp_path / "latin.txt")})
