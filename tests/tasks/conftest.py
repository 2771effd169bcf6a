from typing import Any

import pytest

from tests.small_models import one_thread
from tests.tasks.cases import word_pair_tokenizer
from tests.tasks.trained_tokenizers import TOKENIZERS, trained_tokenizer

__all__ = ["one_thread"]


@pytest.fixture(scope="session")
def pair_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """File name to text."""
    return word_pair_tokenizer(tmp_path_factory.mktemp("words"))


@pytest.fixture(scope="module", params=TOKENIZERS)
def trained(request: pytest.FixtureRequest) -> Any:
    """A tokenizer trained on a few sentences, whose words have several tokens."""
    return trained_tokenizer(request.param)
