from tests.small_models import one_thread, word_tokenizer

__all__ = ["one_thread", "word_tokenizer"]
