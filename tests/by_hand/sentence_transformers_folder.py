"""Folders of ``flexbert export --sentence-transformers`` in that library itself.

It is no dependency, so this runs by hand, in an environment of its own that lies over the locked
one, made from the repository's root:

    python -m venv /tmp/sentences
    echo "$PWD"/.venv/lib/python3.*/site-packages > /tmp/sentences/locked.pth
    mv /tmp/sentences/locked.pth /tmp/sentences/lib/python3.*/site-packages/
    .venv/bin/uv pip install --python /tmp/sentences/bin/python --no-deps sentence-transformers \\
        scikit-learn scipy joblib threadpoolctl cloudpickle loky narwhals
    PYTHONPATH=. /tmp/sentences/bin/python tests/by_hand/sentence_transformers_folder.py /tmp/st

It exports a small model of each family with each pooling, encodes sentences of different lengths
with the library and with FlexBERT, and ends with an error where embeddings differ by more than 1e-4
of their scale.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import get_args

import sentence_transformers
import torch
import transformers

import flexbert
from flexbert.huggingface.export import export_checkpoint
from flexbert.nn.packed_batch import unpad
from flexbert.nn.pooling import Pooling, pool
from tests.huggingface.cases import SAVED, tokenizer_files, write_model

SENTENCES = ["w20 w30 w40", "w50", " ".join(["w60", "w70"] * 40), "w80 w90"]


def main(folder: Path) -> None:
    print(f"sentence-transformers {sentence_transformers.__version__}")
    torch.manual_seed(0)
    texts = tokenizer_files(folder / "tokenizer")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "tokenizer")
    for name, config in SAVED.items():
        write_model(folder / f"{name}.pt", config, texts, max_length=48)
        ours = flexbert.load_model(folder / f"{name}.pt")
        batch = tokenizer(
            SENTENCES, padding=True, truncation=True, max_length=48, return_tensors="pt"
        )
        packed, _ = unpad(batch["input_ids"], batch["attention_mask"])
        for pooling in get_args(Pooling):
            export_checkpoint(folder / f"{name}.pt", folder / f"{name}-{pooling}", pooling)
            theirs = sentence_transformers.SentenceTransformer(
                str(folder / f"{name}-{pooling}"), device="cpu"
            )
            expected = theirs.encode(SENTENCES, convert_to_tensor=True)
            with torch.no_grad():
                actual = pool(ours.model.encoder(packed), packed, pooling)
            difference = float((actual - expected).abs().max() / expected.abs().max())
            print(f"{name}, {pooling}: embeddings differ by {difference:.1e} of their scale")
            assert theirs.max_seq_length == 48
            assert difference < 1e-4


if __name__ == "__main__":
    main(Path(sys.argv[1]))
