"""The pages name files, commands and sections that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PATHS = re.compile(r"(?<![\w/.<>-])(?:sega|eval|baselines|scripts|tests|conf|docs)/[\w./-]*\w(?![\w<>*{])")
MODULES = re.compile(r"(?<=python -m )(?:sega|eval)(?:\.\w+)*")
LINKS = re.compile(r"\]\((?!\w+://)([^)#]*)#?([^)]*)\)")


def missing_paths(text: str) -> list[str]:
    """The paths of this project that a text names and that are not there."""
    return [path for path in PATHS.findall(text) if not (ROOT / path).exists()]


def missing_modules(text: str) -> list[str]:
    """The modules that commands of a text start and that are not there."""
    names = {name: ROOT / name.replace(".", "/") for name in MODULES.findall(text)}
    return [name for name, path in names.items() if not (path.with_suffix(".py").exists() or path.is_dir())]


def missing_links(page: Path, text: str) -> list[str]:
    """The relative links of a page whose file or section is not there."""
    found = []
    for file, section in LINKS.findall(text):
        target = (page.parent / file) if file else page
        if not target.exists() or (section and section not in sections(target)):
            found.append(f"{file}#{section}")
    return found


def sections(page: Path) -> set[str]:
    """The names by which links reach the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_names_is_there(page):
    text = page.read_text()
    assert missing_paths(text) + missing_modules(text) + missing_links(page, text) == []


def test_what_is_not_there_is_found():
    assert missing_paths("`sega/no_module.py`, [it](docs/engine.md), conf/eval/<name>.yaml") == ["sega/no_module.py"]
    assert missing_modules("python -m eval.no_module, python -m eval.report") == ["eval.no_module"]
    links = "[a](docs/engine.md#no-section) [b](docs/engine.md#identity-and-noise) [c](no.md) [d](https://x.org/e)"
    assert missing_links(ROOT / "README.md", links) == ["docs/engine.md#no-section", "no.md#"]


@pytest.mark.parametrize("script", sorted((ROOT / "scripts").glob("*.py")), ids=lambda path: path.name)
def test_a_script_uses_the_packages_of_its_own_clone(script):
    """Whatever is installed: an installed `sega` may be of another clone, and there is no `eval` beside it."""
    text = script.read_text()
    imports = re.search(r"^\s*(?:from|import) (?:sega|eval|baselines)\b", text, re.MULTILINE)
    assert imports is None or "sys.path" in text
