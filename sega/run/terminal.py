"""One line of a terminal that is written over and over, never wider than the terminal."""

from __future__ import annotations

from typing import TextIO

from sega.store.screen import columns, size


def cut(text: str, width: int) -> str:
    """The text, or as much of its beginning as fits with a mark at the end."""
    if columns(text) <= width:
        return text
    while text and columns(text) > width - 1:
        text = text[:-1]
    return text + "…" if width > 0 else ""


def fitted(label: str, parts: list[tuple[int, str]], width: int) -> str:
    """A label and those of the parts that fit, in their order; parts of a high rank are left out first."""
    kept = parts
    while True:
        text = f"{label}  {', '.join(part for _, part in kept)}" if kept else label
        if columns(text) <= width or not kept:
            return cut(text, width)
        last = max(rank for rank, _ in kept)
        kept = [item for item in kept if item[0] != last]


class Line:
    """The line at the foot of a terminal."""

    def __init__(self, stream: TextIO):
        self.stream = stream
        self.content: tuple[str, list[tuple[int, str]]] | None = None
        self.drawn = 0  # columns that are on the screen

    def width(self) -> int:
        """Columns of the terminal as it is now."""
        return size(self.stream)

    def show(self, label: str, parts: list[tuple[int, str]]) -> None:
        """Write over what is there; one column stays free, since some terminals go on when the last one is filled."""
        self.content = label, parts
        width = self.width()
        text = fitted(label, parts, max(width - 1, 1))
        self.stream.write(f"{self._back(width)}{text}")
        self.stream.flush()
        self.drawn = columns(text)

    def clear(self) -> None:
        """Take the line away."""
        self.stream.write(self._back(self.width()))
        self.stream.flush()
        self.drawn = 0

    def again(self) -> None:
        """Bring back what `clear` took away."""
        if self.content:
            self.show(*self.content)

    def _back(self, width: int) -> str:
        """To the beginning of what is on the screen: more than one line of it where the terminal became narrower."""
        up = max(self.drawn - 1, 0) // width
        return (f"\033[{up}A" if up else "") + "\r\033[J"
