import pytest

from tests.small_models import one_thread
from tests.tasks.cases import word_pair_tokenizer

__all__ = ["one_thread"]


@pytest.fixture(scope="session")
def pair_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """File name to text."""
    return word_pair_tokenizer(tmp_path_factory.mktemp("words"))
