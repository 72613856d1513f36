"""Write the files of conf/method and the parameter tables of the docs from the declarations in the code.

  python scripts/method_pages.py          write what differs
  python scripts/method_pages.py check    print what differs; exit status 1 if anything does

The first comment lines of a YAML file are kept. In the docs, the text between `<!-- parameters:NAME -->` and
`<!-- end -->` is replaced.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripts import blocks  # noqa: E402
from sega.methods.parameters import Parameter, parameters_of  # noqa: E402
from sega.methods.registry import METHODS, method_class  # noqa: E402

PAGES = ("docs/methods.md", "docs/patterns.md", "docs/staged.md")


def plain(value: Any) -> str:
    """Return a default as YAML."""
    if isinstance(value, tuple):
        return json.dumps(list(value))
    if isinstance(value, str):
        return value or '""'
    return json.dumps(value)


def ordered(name: str) -> dict[str, tuple[Any, Parameter]]:
    """Return the parameters of a method, those of its own class first and the time shift last."""
    cls = method_class(name)
    declared = parameters_of(cls)
    own = [key for key in declared if key in vars(cls).get("__annotations__", {}) and key != "schedule"]
    return {
        key: declared[key] for key in [*own, *(k for k in declared if k not in own and k != "schedule"), "schedule"]
    }


def yaml_text(name: str, before: str) -> str:
    """Return the text of `conf/method/<name>.yaml`. `before` is its present text."""
    head = [line for line in before.splitlines() if line.startswith("#")] or [f"# {name}"]
    rows = [(f"{key}: {plain(default)}", _meaning(parameter)) for key, (default, parameter) in ordered(name).items()]
    width = max(len(setting) for setting, _ in rows) + 2
    lines = [f"{setting:{width}}# {meaning}" for setting, meaning in rows]
    return "\n".join([*head, f"name: {name}", *lines]) + "\n"


def _meaning(parameter: Parameter) -> str:
    """Return the documentation of a parameter, after the values of a choice if it does not explain each of them."""
    explained = all(f"{value}:" in parameter.doc for value in parameter.choices)
    return f"{parameter.allowed()}; {parameter.doc}" if parameter.kind == "choice" and not explained else parameter.doc


def table(name: str) -> str:
    """Return the parameters of a method as a Markdown table."""
    lines = ["| key | default | allowed | meaning |", "|---|---|---|---|"]
    for key, (default, parameter) in ordered(name).items():
        allowed = parameter.allowed().replace(" | ", ", ")
        lines.append(f"| `{key}` | `{plain(default)}` | {allowed} | {parameter.doc} |")
    return "\n".join(lines)


def pages() -> dict[Path, str]:
    """Return every file with the text it should have."""
    found = {}
    for name in METHODS:
        path = ROOT / "conf" / "method" / f"{name}.yaml"
        found[path] = yaml_text(name, path.read_text() if path.exists() else "")
    for page in PAGES:
        path = ROOT / page
        found[path] = blocks.filled(path.read_text(), "parameters", table)
    return found


def main(words: list[str]) -> int:
    if words not in ([], ["check"]):
        print(__doc__)
        return 2
    changed = [path for path, text in pages().items() if not path.exists() or path.read_text() != text]
    for path in changed:
        if not words:
            path.write_text(pages()[path])
        print(f"{path.relative_to(ROOT)} {'differs: run python scripts/method_pages.py' if words else 'written'}")
    return int(bool(words and changed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
