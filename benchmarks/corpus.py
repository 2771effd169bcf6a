"""How fast is text tokenized into a corpus, against ``tokenizers`` alone, and in how much memory?

Both encode the same documents, real text (``data_prep demo``) written as JSON lines over and over,
each copy with a first line of its own. The peer is ``encode_batch_fast`` and nothing else: texts
are in memory before its clock starts, in as many processes as there are cores, in batches of the
same size; what it returns is thrown away. It runs before and after ours, on the file's first
megabytes. Ours is the whole command: start, reading, encoding, hashing, writing shards, report.
Memory is the highest sum of anonymous resident memory over the command's processes.

    python benchmarks/corpus.py [--sizes 100mb,1gb] [--tokenizer FOLDER]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.demo import demo_documents
from data_prep.encoding import BATCH_CHARACTERS, CorpusTokenizer
from data_prep.rows import Fields
from data_prep.sources import find_inputs
from data_prep.tokenizer_training import save_tokenizer, train_tokenizer
from data_prep.training_text import TrainingText

VOCAB_SIZE = 50_368
PEER_BYTES = 64_000_000
UNITS = {"mb": 10**6, "gb": 10**9}
POLL_SECONDS = 0.5  # finding the processes takes milliseconds, on the cores that are measured


def write_text(file: Path, size: int) -> int:
    """Write JSON lines with ``size`` bytes of text, or just above; returns how many."""
    documents = [text for _, text in demo_documents()]
    written = 0
    with file.open("w") as lines:
        for copy in count():
            for text in documents:
                if written >= size:
                    return written
                text = f"# Copy {copy}\n{text}"
                written += len(text.encode())
                lines.write(json.dumps({"text": text}) + "\n")
    raise AssertionError


def batches(file: Path, first: int, step: int) -> Iterator[list[str]]:
    """Every ``step``-th batch of the file's first ``PEER_BYTES``, from ``first`` on."""
    batch: list[str] = []
    characters = number = 0
    with file.open() as lines:
        while lines.buffer.tell() < PEER_BYTES and (line := lines.readline()):
            batch.append(json.loads(line)["text"])
            characters += len(batch[-1])
            if characters >= BATCH_CHARACTERS:
                if number % step == first:
                    yield batch
                batch, characters, number = [], 0, number + 1


def encode(file: Path, tokenizer: Path, first: int, step: int, barrier: Any, results: Any) -> None:
    backend = CorpusTokenizer(tokenizer).backend
    mine = list(batches(file, first, step))
    barrier.wait()
    begin = time.process_time()
    for batch in mine:
        backend.encode_batch_fast(batch, add_special_tokens=False)
    cpu_seconds = time.process_time() - begin
    barrier.wait()
    results.put((sum(len(text.encode()) for batch in mine for text in batch), cpu_seconds))


def tokenizers_alone(file: Path, tokenizer: Path, processes: int) -> np.ndarray:
    """[bytes of text, seconds, seconds of CPU]"""
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(processes + 1), context.Queue()
    workers = [
        context.Process(target=encode, args=(file, tokenizer, first, processes, barrier, results))
        for first in range(processes)
    ]
    for worker in workers:
        worker.start()
    barrier.wait()
    begin = time.perf_counter()
    barrier.wait()
    seconds = time.perf_counter() - begin
    text_bytes, cpu_seconds = np.sum([results.get() for _ in workers], 0)
    for worker in workers:
        worker.join()
    return np.array([text_bytes, seconds, cpu_seconds])


class Watch(threading.Thread):
    """Watches a command: the memory of its processes, and when its last part was finished."""

    def __init__(self, root: int, corpus: Path) -> None:
        super().__init__(daemon=True)
        self.root = root
        self.parts = corpus / "parts"
        self.peak_bytes = 0
        self.last_part = 0.0
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.wait(POLL_SECONDS):
            self.peak_bytes = max(self.peak_bytes, anonymous_bytes(self.root))
            for part in self.parts.glob("part-*/counts.json"):
                try:
                    self.last_part = max(self.last_part, part.stat().st_mtime)
                except FileNotFoundError:
                    break


def anonymous_bytes(root: int) -> int:
    """Of a process and all that come from it."""
    children: dict[int, list[int]] = {}
    memory: dict[int, int] = {}
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            fields = dict(re.findall(r"^(PPid|RssAnon):\s+(\d+)", status.read_text(), re.M))
        except (FileNotFoundError, ProcessLookupError):
            continue
        process = int(status.parent.name)
        memory[process] = int(fields.get("RssAnon", 0)) << 10
        children.setdefault(int(fields["PPid"]), []).append(process)
    tree = [root]
    for process in tree:
        tree += children.get(process, [])
    return sum(memory.get(process, 0) for process in tree)


def make_corpus(file: Path, tokenizer: Path, corpus: Path, workers: int) -> dict[str, float]:
    command = [sys.executable, "-m", "data_prep", "corpus", "--tokenizer", str(tokenizer)]
    command += ["--out", str(corpus), "--workers", str(workers), "--quiet", str(file)]
    begin = time.time()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        watch = Watch(process.pid, corpus)
        watch.start()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.time() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        watch.ended.set()
        watch.join()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return {
        "seconds": seconds,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "tokenize_seconds": watch.last_part - begin,
        "peak_bytes": watch.peak_bytes,
    }


def measure(folder: Path, size: int, tokenizer: Path, workers: int) -> dict[str, Any]:
    file = folder / f"{size}.jsonl"
    total = write_text(file, size)
    rounds = [tokenizers_alone(file, tokenizer, workers)]
    ours = make_corpus(file, tokenizer, folder / f"corpus-{size}", workers)
    rounds.append(tokenizers_alone(file, tokenizer, workers))
    file.unlink()
    peer_bytes, peer_seconds, peer_cpu_seconds = np.sum(rounds, 0)
    peer = peer_bytes / peer_seconds / 1e6
    whole = total / ours["seconds"] / 1e6
    tokenizing = total / ours["tokenize_seconds"] / 1e6
    return {
        "text_mb": round(total / 1e6),
        "processes": workers,
        "tokenizers_mb_per_second": round(peer, 2),
        "tokenizers_rounds": [round(one[0] / one[1] / 1e6, 2) for one in rounds],
        "tokenize_mb_per_second": round(tokenizing, 2),
        "corpus_mb_per_second": round(whole, 2),
        "tokenize_ratio": round(tokenizing / peer, 3),
        "ratio": round(whole / peer, 3),
        # The same from seconds of CPU: what else runs on the machine disturbs it less.
        "cpu_ratio": round(peer_cpu_seconds / peer_bytes * total / ours["cpu_seconds"], 3),
        "peak_memory_mb": round(ours["peak_bytes"] / 1e6),
    }


def make_tokenizer(folder: Path) -> Path:
    text = folder / "text.jsonl"
    write_text(text, PEER_BYTES // 8)
    inputs = TrainingText(find_inputs([text]), Fields(), quiet=True)
    made = train_tokenizer(inputs, vocab_size=VOCAB_SIZE, unused=83)
    save_tokenizer(made, folder / "tokenizer")
    return folder / "tokenizer"


def parse_size(text: str) -> int:
    return int(text[:-2]) * UNITS[text[-2:].lower()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="100mb", help="of text, as 100mb,1gb")
    parser.add_argument("--tokenizer", type=Path, help="folder; without it one is trained")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes of both")
    arguments = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tokenizer = arguments.tokenizer or make_tokenizer(folder)
        for size in map(parse_size, arguments.sizes.split(",")):
            print(json.dumps(measure(folder, size, tokenizer, arguments.workers)), flush=True)


if __name__ == "__main__":
    main()
