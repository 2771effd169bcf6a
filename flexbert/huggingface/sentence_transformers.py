"""What makes a Hugging Face folder one of sentence-transformers."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

from flexbert.config.model import Pooling

# Its oldest names, which every version of it reads.
MODULES = [
    {
        "idx": 0,
        "name": "0",
        "path": "",
        "type": "sentence_transformers.models.Transformer",
    },
    {
        "idx": 1,
        "name": "1",
        "path": "1_Pooling",
        "type": "sentence_transformers.models.Pooling",
    },
]


def write_sentence_transformers(
    folder: Path, pooling: Pooling, hidden_size: int, max_length: int
) -> None:
    """Add the files by which sentence-transformers finds encoder and pooling.

    Embeddings are not normalised; the library's default similarity, the cosine, does not mind.
    """
    modes = {"cls": "cls_token", "mean": "mean_tokens", "max": "max_tokens"}
    files: dict[str, Any] = {
        "modules.json": MODULES,
        "sentence_bert_config.json": {"max_seq_length": max_length, "do_lower_case": False},
        "config_sentence_transformers.json": {
            "__version__": {
                name: version(package)
                for name, package in (("transformers", "transformers"), ("pytorch", "torch"))
            },
            "prompts": {},
            "default_prompt_name": None,
            "similarity_fn_name": "cosine",
        },
        "1_Pooling/config.json": {
            "word_embedding_dimension": hidden_size,
            **{f"pooling_mode_{name}": mode == pooling for mode, name in modes.items()},
            "include_prompt": True,
        },
    }
    (folder / "1_Pooling").mkdir()
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
