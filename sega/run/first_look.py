"""Common slips in a command line, told before Hydra is imported, which takes longer than all of the rest.

Only what the whole reading would refuse too, in the same words; what is not plain `key=value` is left to it.
"""

from __future__ import annotations

import re

from sega.errors import RequestError, near, shortened
from sega.run.help import GLOBAL, GROUPS, keys, option_keys, options

DEPTH = 64
_VALUE = r"[\w./:-]+( +[\w./:-]+)*"
PLAIN = re.compile(rf"[A-Za-z_][\w.]*={_VALUE}(,{_VALUE})*")
"""A word whose value needs no parser: names, paths and numbers, with commas between them."""


def check_word(word: str) -> None:
    """Refuse a word that is no setting."""
    if word.startswith("-"):
        raise RequestError(f"unknown option {word}; settings are written key=value, such as res=512 (see --help)")
    if "=" not in word or word.startswith("="):
        raise RequestError(f"can't read {word!r}; settings are written key=value, such as res=512 (see --help)")
    depth = 0
    for character in word:
        depth += (character in "[{(") - (character in "]})")
        if depth > DEPTH:
            raise RequestError(f"can't read {shortened(word)}: more than {DEPTH} brackets stand open")
    if word.startswith(("+", "~")) and not word.lstrip("+~").startswith("hydra"):
        raise RequestError(f"{word}: keys can't be added or removed; write {word.lstrip('+~')} to change one")


def check(arguments: list[str]) -> list[tuple[str, list[str]]]:
    """Return the keys of a line with their values. Raises RequestError for an unknown option of a group, or key.

    Says nothing of a line that holds anything but plain words, nor of several values without -m, and returns [].
    """
    multirun = bool({"-m", "--multirun"} & set(arguments))
    words = [word for word in arguments if word not in ("-m", "--multirun")]
    if not all(PLAIN.fullmatch(word) for word in words) or any("," in word for word in words) > multirun:
        return []
    settings = [(key, text.split(",")) for key, _, text in (word.partition("=") for word in words)]
    for group in GROUPS:
        for name in (name for key, values in settings if key == group for name in values):
            if name not in (known := options(group)) and not _is_elsewhere(group, name):
                raise RequestError(f"unknown {group} {name!r}{near(name, known)}")
    _check_keys(settings)
    return settings


def _is_elsewhere(group: str, name: str) -> bool:
    """Whether an option may come from another place than a file: none, a method of another package."""
    if name.lower() == "null" or group != "method":
        return name.lower() == "null"
    from sega.plugins import entries

    return name in entries("methods")


def _check_keys(settings: list[tuple[str, list[str]]]) -> None:
    """Refuse unknown keys: those outside of groups, and those of a method that is the only one."""
    known = [*(group for group in GROUPS if group not in GLOBAL), *(setting.partition(":")[0] for setting, _ in keys())]
    methods = [name for key, values in settings if key == "method" for name in values]
    own = option_keys("method", methods[0]) if len(methods) == 1 else None
    for key, _ in settings:
        parent, _, name = key.rpartition(".")
        if not parent and key not in (*known, *GLOBAL):
            raise RequestError(f"unknown key {key!r}{near(key, known)}")
        if parent == "method" and own and name not in (*own, "target"):
            raise RequestError(f"unknown key {key!r}{near(key, [f'method.{item}' for item in own])}")
