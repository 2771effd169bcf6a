"""The corpora that a recipe names, opened together."""

from __future__ import annotations

from flexbert.config.data import ONLY_SOURCE, DataConfig
from flexbert.data.format.corpus_format import (
    TOKENIZER_FILES,
    TOKENIZER_FOLDER,
    CorpusError,
    CorpusMeta,
    read_description,
)
from flexbert.data.reading.corpus import Corpus, Split
from flexbert.errors import ConfigError


class Corpora:
    """The corpus of each source, all made with one tokenizer.

    Attributes:
        by_source: sorted by the sources' names.
    """

    def __init__(self, by_source: dict[str, Corpus], config: DataConfig) -> None:
        self.by_source = by_source
        self._config = config
        self._splits: dict[str, dict[str, Split]] = {}

    @classmethod
    def open(cls, config: DataConfig) -> Corpora:
        """Open what a recipe's ``data`` node names.

        Raises:
            ConfigError: if a source names no corpus.
            CorpusError: if one cannot be used, or was made with another tokenizer than asked for
                or than the others.
        """
        limit = config.cache_limit.value if config.cache_limit is not None else None
        opened: dict[str, Corpus] = {}
        for name, source in config.all_sources.items():
            if source.path is None:
                where = "path" if name == ONLY_SOURCE else f"sources.{name}.path"
                problem = "names no corpus; make one with python -m data_prep corpus"
                raise ConfigError(f"data.{where}", problem)
            opened[name] = Corpus.open(
                source.path,
                remote=source.remote,
                cache_limit=limit if source.remote is not None else None,
            )
        corpora = cls(opened, config)
        for corpus in opened.values():
            if config.tokenizer is not None:
                corpus.require_tokenizer(config.tokenizer)
            if corpus.meta.tokenizer_sha256 != corpora.meta.tokenizer_sha256:
                raise CorpusError(
                    f"{corpus.folder} was made with another tokenizer than {corpora.first.folder}; "
                    "make both with the same one"
                )
        return corpora

    @property
    def first(self) -> Corpus:
        """One of them: for what is the same in all."""
        return next(iter(self.by_source.values()))

    @property
    def meta(self) -> CorpusMeta:
        """The description of one of them: its tokenizer is that of all."""
        return self.first.meta

    @property
    def tokenizer(self) -> dict[str, str]:
        """The files of their tokenizer: name to text.

        Raises:
            CorpusError: if one cannot be read.
        """
        folder = self.first.folder / TOKENIZER_FOLDER
        texts = {}
        # Corpora of before may have more of a model's folder.
        for name in filter(TOKENIZER_FILES.__contains__, self.meta.tokenizer_files):
            try:
                texts[name] = read_description(folder / name).decode()
            except UnicodeDecodeError as error:
                raise CorpusError(f"{folder / name}: no text ({error.reason})") from None
        return texts

    def splits(self, name: str) -> dict[str, Split]:
        """One split of every source.

        Raises:
            CorpusError: if there is none of this name, or it is damaged.
        """
        if name not in self._splits:
            self._splits[name] = {
                source: corpus.split(name, verify_hashes=self._config.verify_hashes)
                for source, corpus in self.by_source.items()
            }
        return self._splits[name]

    def close(self) -> None:
        """Let go of the shards that are mapped, each of which keeps a file open.

        They are mapped again when they are read.
        """
        for splits in self._splits.values():
            for split in splits.values():
                split.close()
