"""transformers 4.57 itself makes of forty tokenizers what is written down of it here.

In the second environment of ``transformers4_roundtrip.py``, from the repository's root:

    PYTHONPATH=. /tmp/four/bin/python tests/by_hand/transformers4_tokenizers.py

For each of the tokenizers of ``tests/huggingface/forty_tokenizers.py``, AutoTokenizer's ids must be
those of ``as_transformers_4``, as the folder is and as a corpus would write it.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import transformers

from flexbert.huggingface.tokenizer import as_a_corpus_reads_it, read_tokenizer, write_tokenizer
from flexbert.huggingface.tokenizer_agreement import PROBES, as_transformers_4
from tests.huggingface.forty_tokenizers import FORTY, TEXTS


def main() -> None:
    assert transformers.__version__.startswith("4.57")
    for name, made in FORTY.items():
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            made.write(folder / "given")
            texts = read_tokenizer(folder / "given", None)
            for number, read in enumerate((texts, as_a_corpus_reads_it(texts))):
                written = folder / str(number)
                written.mkdir()
                write_tokenizer(read, written)
                theirs = transformers.AutoTokenizer.from_pretrained(written)
                ours = as_transformers_4(read)
                for text in (*TEXTS, *PROBES):
                    ids = theirs(text)["input_ids"]
                    assert ids == ours.encode(text).ids, (name, number, text)
        print(f"{name}: the same ids")


if __name__ == "__main__":
    main()
