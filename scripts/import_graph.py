"""Count modules, rooms, imports, circles and upward imports of a checkout: `python scripts/import_graph.py [FOLDER]`.

Imports are read from the source, so nothing is imported. Imports inside functions count, because they connect
modules too. Imports under `if TYPE_CHECKING` do not count, nor the implicit import of a parent package.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

PACKAGES = ("sega", "baselines", "eval")
LAYERS = (
    "sega.errors",
    "sega.home",
    "sega.plugins",
    "sega.compat",
    "sega.formulas",
    "sega.store",
    "sega.methods",
    "sega.models",
    "sega.loading",
    "sega.engine",
    "sega.run",
    "eval",
)
"""Rooms from bottom to top: each may import itself and the rooms before it."""
ASIDE = {
    "sega": (),  # its names are loaded when they are asked for
    "sega.embedded": ("sega.errors", "sega.compat", "sega.store"),
    "baselines": ("sega.errors", "sega.home", "sega.formulas", "sega.store", "sega.methods"),
    "sega.testing": (*LAYERS[:-1], "sega.embedded"),
    "sega.doctor": LAYERS[:-1],
    "sega.new_method": LAYERS[:-1],
    "sega.command": LAYERS[:-1],  # the modules of its commands are loaded by name
}
"""Rooms beside the layers, and the rooms that each may import besides itself."""


def read_graph(root: Path) -> dict[str, set[str]]:
    """Return the modules of a checkout by dotted name, each with the modules of the checkout that it imports."""
    files = {_name(path.relative_to(root)): path for package in PACKAGES for path in (root / package).rglob("*.py")}
    return {name: set(_imports(name, path, files)) - {name} for name, path in sorted(files.items())}


def _name(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(name: str, path: Path, modules: dict[str, Path]) -> Iterator[str]:
    package = name if path.stem == "__init__" else name.rpartition(".")[0]
    for node in _nodes(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:  # of a package, a name may be a module of it
                module = f"{source}.{alias.name}"
                if module in modules or source in modules:
                    yield module if module in modules else source


def _nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield all nodes except those that only type checkers read."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from (inner for other in node.orelse for inner in [other, *_nodes(other)])
        else:
            yield node
            yield from _nodes(node)


def room(module: str) -> str:
    """Return the entry of LAYERS or ASIDE that contains a module, or the module itself."""
    own = [name for name in (*LAYERS, *ASIDE) if name != "sega" and f"{module}.".startswith(f"{name}.")]
    return own[0] if own else module


def forbidden(graph: dict[str, set[str]]) -> list[tuple[str, str]]:
    """Return the imports that the rooms do not allow. A `__main__` starts a command and may import upwards."""
    arrows = [(name, other) for name, found in graph.items() for other in found if not name.endswith(".__main__")]
    return sorted(arrow for arrow in arrows if not _allowed(room(arrow[0]), room(arrow[1])))


def _allowed(own: str, other: str) -> bool:
    if own == other:
        return True
    if own in ASIDE:
        return other in ASIDE[own]
    return other in ASIDE or LAYERS.index(other) < LAYERS.index(own)


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return groups of modules that reach each other (strongly connected components of two or more; Tarjan 1972)."""
    numbers: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(name: str) -> None:
        numbers[name] = lowest[name] = len(numbers)
        stack.append(name)
        for other in sorted(graph[name]):
            if other not in numbers:
                visit(other)
                lowest[name] = min(lowest[name], lowest[other])
            elif other in stack:
                lowest[name] = min(lowest[name], numbers[other])
        if lowest[name] == numbers[name]:
            start = stack.index(name)
            group, stack[start:] = sorted(stack[start:]), []
            if len(group) > 1:
                found.append(group)

    for name in graph:
        if name not in numbers:
            visit(name)
    return found


def rooms(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """Return the graph of rooms, without the imports of `__main__` modules."""
    found: dict[str, set[str]] = {room(name): set() for name in graph}
    for name, others in graph.items():
        if not name.endswith(".__main__"):
            found[room(name)] |= {room(other) for other in others} - {room(name)}
    return found


def main(words: list[str]) -> int:
    graph = read_graph(Path(words[0] if words else "."))
    for title, part in (("modules", graph), ("rooms", rooms(graph))):
        print(f"{title}: {len(part)}, imports between them: {sum(map(len, part.values()))}")
        for group in circles(part):
            print(f"  a circle of {len(group)}: {' '.join(group)}")
    placed = {name: found for name, found in graph.items() if room(name) in (*LAYERS, *ASIDE)}
    arrows = forbidden({name: found & placed.keys() for name, found in placed.items()})
    print(f"modules in no room: {len(graph) - len(placed)}")
    print(f"imports that the rooms do not allow: {len(arrows)}")
    for name, other in arrows:
        print(f"  {name} -> {other}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
