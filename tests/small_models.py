"""Fixtures of tests whose models are tiny."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.huggingface.cases import tokenizer_files


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Models this small take longer on two threads, much longer beside other processes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def word_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """File name to text; a word for every token of the small models."""
    return tokenizer_files(tmp_path_factory.mktemp("words"))
