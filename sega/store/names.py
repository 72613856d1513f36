"""Make names from a text: the hash and the id of a prompt, used in file names and records."""

from __future__ import annotations

import hashlib
import re


def text_sha(text: str) -> str:
    """The sha256 of a text in UTF-8, 64 hex digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def prompt_id(text: str, label: str | None = None) -> str:
    """The id of a prompt: at most 40 characters of the label or of its first four words, then 8 digits of its hash."""
    words = re.sub(r"[^a-z0-9]+", "-", (label or " ".join(text.split()[:4])).lower()).strip("-")[:40].strip("-")
    return f"{words}-{text_sha(text)[:8]}" if words else text_sha(text)[:8]
