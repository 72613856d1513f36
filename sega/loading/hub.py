"""Find weights in the local cache of the hub, or fetch them on request. Does not import torch."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from sega.errors import RequestError

FILES = ["model_index.json", "*/*.json", "*/*.safetensors", "*/*.txt", "*/*.model"]
"""What a pipeline needs; never pickled weights, never code, nor a second copy of the weights in one file."""


def hub_cache() -> Path:
    """The folder of the local hub cache, by the hub's own environment variables."""
    if os.environ.get("HF_HUB_CACHE"):
        return Path(os.environ["HF_HUB_CACHE"]).expanduser()
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "huggingface"
    return Path(home).expanduser() / "hub"


def cached(repository: str, revision: str | None) -> tuple[Path, str] | None:
    """Snapshot folder and commit of a repository at a commit, branch or tag, where the cache has one."""
    folder = hub_cache() / ("models--" + repository.replace("/", "--"))
    named = folder / "refs" / (revision or "main")
    commit = named.read_text().strip() if named.is_file() else revision
    snapshot = folder / "snapshots" / str(commit)
    return (snapshot, str(commit)) if commit and (snapshot / "model_index.json").exists() else None


def fetch(repository: str, revision: str | None, check: Callable[[Path], object]) -> tuple[Path, str]:
    """Bring a pipeline into the cache; `check(file)` sees its model_index.json before anything large is fetched.

    The first file tells within a second or two whether the hub can be reached and lets us in; every failure is a
    RequestError that says what to do.
    """
    from huggingface_hub import errors as hub
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, snapshot_download

    where = repository if revision is None else f"{repository} at revision {revision}"
    try:
        # Downloads try again for half a minute where there is no network; this asks once.
        get_hf_file_metadata(hf_hub_url(repository, "model_index.json", revision=revision), timeout=2)
        check(Path(hf_hub_download(repository, "model_index.json", revision=revision)))
        folder = Path(snapshot_download(repository, revision=revision, allow_patterns=FILES))
    except hub.GatedRepoError as error:
        raise RequestError(
            f"{repository} is gated: accept its terms on https://huggingface.co/{repository}, then log in with "
            "`hf auth login` or set HF_TOKEN, and run this again"
        ) from error
    except hub.RevisionNotFoundError as error:
        raise RequestError(f"{repository} has no revision {revision}; give a commit, branch or tag of it") from error
    except hub.RepositoryNotFoundError as error:
        raise RequestError(
            f"the hub has no repository {repository}, or it is private and needs `hf auth login`"
        ) from error
    except hub.RemoteEntryNotFoundError as error:
        raise RequestError(f"{where} has no model_index.json, so it is no diffusers pipeline") from error
    except hub.HFValidationError as error:
        raise RequestError(f"{repository!r} is no name of a repository: {str(error).splitlines()[0]}") from error
    except (hub.LocalEntryNotFoundError, hub.HTTPError, ConnectionError, TimeoutError) as error:
        offline = os.environ.get("HF_HUB_OFFLINE", "0").upper() in ("1", "ON", "YES", "TRUE")
        why = "HF_HUB_OFFLINE forbids to ask the hub" if offline else "the hub can't be reached"
        raise RequestError(
            f"{where} is not in the cache ({hub_cache()}) and {why}; fetch it where there is a network with "
            f"`hf download {repository}` and copy it, or give model.path=<folder>"
        ) from error
    return folder, folder.name
