"""What AutoTokenizer of both generations makes of a folder, against what a corpus has.

``tests/by_hand/transformers4_tokenizers.py`` has transformers 4.57 itself confirm what is written
down here of it.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flexbert.huggingface.tokenizer import as_a_corpus_reads_it, read_tokenizer
from flexbert.huggingface.tokenizer_agreement import disagreement
from tests.huggingface.forty_tokenizers import FORTY, TEXTS


@pytest.mark.parametrize("name", FORTY)
def test_what_disagrees_agrees_once_it_is_written_as_a_corpus_reads_it(
    tmp_path: Path, name: str
) -> None:
    made = FORTY[name]
    made.write(tmp_path / "t")
    texts = read_tokenizer(tmp_path / "t", None)
    assert bool(disagreement(texts, TEXTS)) == made.differs
    assert disagreement(as_a_corpus_reads_it(texts), TEXTS) is None


def test_a_difference_is_told_with_a_text_and_both_ids(tmp_path: Path) -> None:
    FORTY["wordpiece lower json, cased config"].write(tmp_path / "t")
    found = disagreement(read_tokenizer(tmp_path / "t", None), ())
    assert found is not None
    assert "'Hello World" in found
    assert "do_lower_case false" in found


def test_a_tokenizer_file_alone_is_whole(tmp_path: Path) -> None:
    FORTY["wordpiece lower"].write(tmp_path / "t")
    (tmp_path / "t" / "tokenizer_config.json").unlink()
    config = json.loads(read_tokenizer(tmp_path / "t", None)["tokenizer_config.json"])
    assert (config["cls_token"], config["mask_token"]) == ("[CLS]", "[MASK]")
