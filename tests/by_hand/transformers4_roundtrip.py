"""Folders go to transformers 4.57 and come back from it.

The locked environment holds transformers 5, so this runs by hand, in it and in a second one that
lies over it, made from the repository's root:

    python -m venv /tmp/four
    echo "$PWD"/.venv/lib/python3.*/site-packages > /tmp/four/locked.pth
    mv /tmp/four/locked.pth /tmp/four/lib/python3.*/site-packages/
    .venv/bin/uv pip install --python /tmp/four/bin/python --no-deps \\
        transformers==4.57.6 tokenizers==0.22.2 huggingface-hub==0.36.2

    export PYTHONPATH=.
    .venv/bin/python tests/by_hand/transformers4_roundtrip.py write /tmp/roundtrip
    /tmp/four/bin/python tests/by_hand/transformers4_roundtrip.py answer /tmp/roundtrip
    .venv/bin/python tests/by_hand/transformers4_roundtrip.py read /tmp/roundtrip

``write`` exports a small model of each family that 4.57 has with each head. ``answer`` loads the
folders with 4.57, where every weight must be found, compares logits and token ids, and saves them
anew. ``read`` imports what that saved: tensors and config must be those that were exported, and
another export must give a folder that the locked transformers loads, tokenizer included. Each ends
with an error where that is not so; allowed is a difference of 1e-4 of the logits' scale, rounding
in float32.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
import transformers

import flexbert
from flexbert.checkpoint.checkpoint_file import Checkpoint, read_checkpoint
from flexbert.huggingface.compare import logits_of
from flexbert.huggingface.export import export_checkpoint
from flexbert.huggingface.importing import import_folder
from flexbert.nn.head import MLMHeadConfig
from flexbert.nn.rope import RopeConfig
from tests.huggingface.cases import (
    MODELS,
    NORM,
    WITH_CHOICE,
    bert,
    padded_batch,
    roberta,
    tokenizer_files,
    write_model,
)
from tests.nn.cases import attention_config, global_every, small_model

TOLERANCE = 1e-4
TEXT = "w20 w30 [MASK] w99"
AUTO = {
    "masked_lm": "AutoModelForMaskedLM",
    "sequence_classification": "AutoModelForSequenceClassification",
    "token_classification": "AutoModelForTokenClassification",
    "multiple_choice": "AutoModelForMultipleChoice",
    "question_answering": "AutoModelForQuestionAnswering",
}
CASES = {name: MODELS[name] for name in MODELS if name.split()[0] in WITH_CHOICE} | {
    "bert untied": bert(head=MLMHeadConfig(norm=NORM, bias=True, tied=False)),
    "roberta untied": roberta(head=MLMHeadConfig(norm=NORM, bias=True, tied=False)),
    "modernbert window 16 every 2": small_model(
        attention=attention_config(windows=global_every(2, 16)), num_layers=5
    ),
    "modernbert all global": small_model(
        attention=attention_config(windows="global", rope=RopeConfig(theta={"global": 500.0}))
    ),
}


def write(folder: Path) -> None:
    torch.manual_seed(0)
    tokenizer = tokenizer_files(folder / "tokenizer")
    for name, config in CASES.items():
        write_model(folder / f"{name}.pt", config, tokenizer, max_length=48)
        export_checkpoint(folder / f"{name}.pt", folder / "exported" / name)
        batch = padded_batch(config)
        with torch.no_grad():
            logits = flexbert.load_model(folder / f"{name}.pt")(**batch)
        torch.save({"batch": batch, "logits": logits}, folder / f"{name}.logits")
        print(f"{name}: exported")


def answer(folder: Path) -> None:
    for name, config in CASES.items():
        exported = folder / "exported" / name
        cls = getattr(transformers, AUTO[config.head.task])
        model, info = cls.from_pretrained(exported, output_loading_info=True)
        unused = {key: value for key, value in info.items() if value}
        assert not unused, unused
        saved = torch.load(folder / f"{name}.logits")
        with torch.no_grad():
            logits = logits_of(model.eval()(**saved["batch"]))
        is_real = saved["batch"]["attention_mask"].bool() if config.head.per_token else slice(None)
        show(name, logits[is_real], saved["logits"][is_real])
        tokenizer = transformers.AutoTokenizer.from_pretrained(exported)
        assert tokenizer(TEXT)["input_ids"] == [5, 20, 30, 8, 99, 7]
        model.save_pretrained(folder / "answered" / name)
        tokenizer.save_pretrained(folder / "answered" / name)


def read(folder: Path) -> None:
    for name in CASES:
        import_folder(str(folder / "answered" / name), folder / "back" / f"{name}.pt")
        before = read_checkpoint(folder / f"{name}.pt")
        after = read_checkpoint(folder / "back" / f"{name}.pt")
        assert described(before) == described(after), name
        for key, value in before.model.items():
            assert torch.equal(after.model[key], value), key
        again = folder / "again" / name
        export_checkpoint(folder / "back" / f"{name}.pt", again)
        tokenizer = transformers.AutoTokenizer.from_pretrained(again)
        assert tokenizer(TEXT)["input_ids"] == [5, 20, 30, 8, 99, 7]
        print(f"{name}: imported, equal bit for bit, and exported again")


def described(checkpoint: Checkpoint) -> Any:
    """A model's config but for its name, which no folder keeps."""
    return plain({**checkpoint.recipe["model"], "name": None})


def plain(config: Any) -> Any:
    """A config without its nulls: a base that is null is one that is not given."""
    if not isinstance(config, dict):
        return config
    return {key: plain(value) for key, value in config.items() if value is not None}


def show(name: str, actual: torch.Tensor, expected: torch.Tensor) -> None:
    difference = float((actual - expected).abs().max() / expected.abs().max())
    print(f"{name}: logits differ by {difference:.1e} of their scale")
    assert difference < TOLERANCE, name


if __name__ == "__main__":
    print(f"transformers {transformers.__version__}")
    {"write": write, "answer": answer, "read": read}[sys.argv[1]](Path(sys.argv[2]))
