"""A run to publish, and a Hub on loopback to publish it to."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.publish.loopback_hub import TOKEN, LoopbackHub
from tests.publish.written_runs import WrittenRun, write_run
from tests.small_models import one_thread, word_tokenizer

__all__ = ["one_thread", "word_tokenizer"]


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory, word_tokenizer: dict[str, str]) -> WrittenRun:
    """Five checkpoints in two stages; no test changes its folder."""
    return write_run(tmp_path_factory.mktemp("written") / "tiny", word_tokenizer)


@pytest.fixture
def run(written: WrittenRun, tmp_path: Path) -> WrittenRun:
    """The same, to be changed."""
    folder = tmp_path / "tiny"
    shutil.copytree(written.folder, folder)
    return WrittenRun(folder=folder, weights=written.weights)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LoopbackHub]:
    """The Hub that ``huggingface_hub`` speaks to in this process."""
    with LoopbackHub() as hub:
        speak_to(hub.endpoint, TOKEN, tmp_path / "cache", monkeypatch)
        yield hub


def speak_to(endpoint: str, token: str, cache: Path, patch: pytest.MonkeyPatch) -> None:
    """What HF_ENDPOINT and other variables do for a process that is yet to start."""
    from huggingface_hub import HfApi, constants, hf_api

    from flexbert.publish import hub

    patch.setattr(constants, "ENDPOINT", endpoint)
    files = f"{endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", files)
    # Both keep the endpoint of when they were made.
    patch.setattr(hf_api.api, "endpoint", endpoint)
    patch.setattr("transformers.utils.hub._hf_api", HfApi(endpoint=endpoint))
    patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    patch.setattr(constants, "HF_HUB_CACHE", str(cache))
    patch.setattr(hub, "WAITS", (0.0, 0.0))
    patch.setenv("HF_TOKEN", token)
