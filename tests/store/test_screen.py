"""Tables on a terminal: nothing is wider than it, and nothing is lost that a pipe does not have."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios

import pytest

from sega.store.screen import columns, room, table

HEAD = ["metric", "method", "empty", "ours", "HiFlow", "AReA", "UltraImage"]
BODY = [
    ["FID", "hiflow (variant=paper, ratios=(2.0, 3.0, 4.0), weights=time)", "", "61.2 [50, 80]", "55.39", "1", "2"],
    ["CLIP", "雪 vanilla", "", "", "35.05", "", "31.4"],
]


def test_a_pipe_gets_the_whole_table():
    lines = table(HEAD, BODY, None).splitlines()
    assert lines[0].split() == HEAD and "hiflow (variant=paper, ratios=(2.0, 3.0, 4.0), weights=time)" in lines[1]
    assert len(lines) == 3 and columns(lines[2]) > 80


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_nothing_is_wider_than_the_terminal_and_nothing_is_lost(width):
    text = table(HEAD, BODY, width, keys=2)
    assert max(map(columns, text.splitlines())) <= width and "empty" not in text
    words = {word for line in [HEAD, *BODY] for cell in line for word in cell.split() if len(word) < 12} - {"empty"}
    assert words <= set(text.split())


def test_columns_go_in_the_order_that_is_said():
    text = table(HEAD, BODY, 97, keys=2, least=("UltraImage", "AReA", "HiFlow"))
    assert (
        text.splitlines()[0].split() == ["metric", "method", "ours", "HiFlow", "AReA"] and len(text.splitlines()) == 3
    )


def test_a_table_of_many_columns_stands_in_blocks():
    head = ["method", *(f"metric{k}" for k in range(12))]
    text = table(head, [["vanilla", *map(str, range(100, 112))]], 40)
    assert text.count("vanilla") == text.count("method") > 1 and "metric11" in text and "111" in text


@pytest.mark.parametrize("width", [50, 80, 200])
def test_the_store_is_listed_within_a_real_terminal(tmp_path, width):
    """In a pseudo-terminal of that width, and whole through a pipe."""
    cell = tmp_path / "flux-krea" / "ultraimage" / "4096x4096" / "0123456789ab"
    cell.mkdir(parents=True)
    row = '{"file": "0-0.png", "prompt_id": "0", "prompt": "a", "prompt_sha": "", "seed": 0, "sha256": "x"'
    row += ', "finished": "2026-11-27T04:01:11+00:00"}'
    (cell / "images.jsonl").write_text(row + "\n")
    command = [sys.executable, "-m", "sega.store", "ls", f"store={tmp_path}"]
    mine, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    subprocess.run(command, stdout=theirs, check=True)
    os.close(theirs)
    shown = os.read(mine, 65536).decode().splitlines()
    os.close(mine)
    assert max(map(len, shown)) <= width and "0123456789ab" in "".join(shown)
    piped = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert "2026-11-27T04:01:11+00:00" in piped[1] and piped[0].split()[-1] == "workers" and len(piped) == 2


def test_no_terminal_has_no_width(tmp_path):
    with (tmp_path / "x").open("w") as file:
        assert room(file) is None
