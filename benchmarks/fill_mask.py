"""Fill a masked token with an exported model, by transformers' own pipeline.

    python benchmarks/fill_mask.py FOLDER "TEXT"

The text has one [MASK], whatever the tokenizer's own is.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from transformers import pipeline

TEXT = "for index in [MASK](len(values)):"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="what flexbert export wrote")
    parser.add_argument("text", nargs="?", default=TEXT)
    arguments = parser.parse_args()
    fill = pipeline("fill-mask", model=str(arguments.folder), device="cpu")
    text = arguments.text.replace("[MASK]", fill.tokenizer.mask_token)
    print(text)
    for answer in fill(text):
        print(f"{answer['score']:7.1%}  {answer['token_str']!r}")


if __name__ == "__main__":
    main()
