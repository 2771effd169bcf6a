"""What ``flexbert export --sentence-transformers`` writes, in that library itself."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
import torch
import transformers

import flexbert
from flexbert.huggingface.export import export_checkpoint
from flexbert.nn.packed_batch import unpad
from flexbert.nn.pooling import Pooling, pool
from tests.huggingface.cases import SAVED, write_model
from tests.nn.tolerances import assert_same

SENTENCES = ["w20 w30 w40", "w50", " ".join(["w60", "w70"] * 40), "w80 w90"]


@pytest.mark.parametrize("name", SAVED)
def test_the_library_gives_the_pooled_vectors_of_the_encoder(
    tmp_path: Path, word_tokenizer: dict[str, str], name: str
) -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers")
    write_model(tmp_path / "a.pt", SAVED[name], word_tokenizer, max_length=48)
    ours = flexbert.load_model(tmp_path / "a.pt").model
    for pooling in get_args(Pooling):
        folder = tmp_path / pooling
        export_checkpoint(tmp_path / "a.pt", folder, pooling)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        batch = tokenizer(
            SENTENCES, padding=True, truncation=True, max_length=48, return_tensors="pt"
        )
        packed, _ = unpad(batch["input_ids"], batch["attention_mask"])
        theirs = sentence_transformers.SentenceTransformer(str(folder), device="cpu")
        assert theirs.max_seq_length == 48
        with torch.no_grad():
            expected = theirs.encode(SENTENCES, convert_to_tensor=True, show_progress_bar=False)
            assert_same(pool(ours.encoder(packed), packed, pooling), expected)
