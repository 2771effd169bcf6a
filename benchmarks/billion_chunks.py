"""What does the data order of a very large corpus cost: memory, start, looking a document up?

The corpus has lengths and offsets like any other, and its tokens are holes in sparse files. Two
training processes with a worker each start together with an empty cache, so that the order is
built while they wait; then a process resumes in the middle of the epoch; then ``flexbert seen``
looks for a document. Memory is what cannot be given back: anonymous pages of all processes
(shared ones counted once) and pages that wait to be written, above what the machine had before.

    python -m benchmarks.billion_chunks [--documents 1_000_000_000] [--folder FOLDER]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import numpy as np

from benchmarks.data_loader import VOCAB_SIZE
from benchmarks.random_corpus import save_word_tokenizer, special_ids
from flexbert.config.data import DataConfig
from flexbert.config.encode import encode
from flexbert.data.format.corpus_format import (
    COLUMN,
    LENGTHS_FILE,
    SHARD_HASH,
    TOKENIZER_FOLDER,
    CorpusMeta,
    SpecialIds,
    SplitMeta,
    tokenizer_sha256,
)
from flexbert.data.format.mds import INDEX_FILE
from flexbert.data.packing.loader import train_loader
from flexbert.data.packing.microbatches import training_builder
from flexbert.data.packing.order_description import describe_order
from flexbert.data.packing.position import PackingWindowStart, Position, StreamKey
from flexbert.data.packing.row_stream import training_stream
from flexbert.data.reading.corpora import Corpora
from flexbert.data.sampling.samplers import PermutationConfig
from flexbert.provenance.order_log import OrderLog, RunSegment
from flexbert.recipes import load_recipe
from flexbert.schedule.batch_sizes import BatchSizes

SHARD_DOCUMENTS = 100_000
MEAN, SIGMA = 300, 1.0
KEY = StreamKey(17, "pretrain")
RECIPE = Path(__file__).parent.parent / "yamls" / "base.yaml"


def make_corpus(folder: Path, num_documents: int) -> None:
    """A corpus of lognormal lengths whose tokens are all zero and take no room on disk."""
    generator = np.random.default_rng(0)
    train = folder / "train"
    train.mkdir(parents=True)
    shards = []
    num_tokens = 0
    with (train / LENGTHS_FILE).open("wb") as lengths_file:
        for begin in range(0, num_documents, SHARD_DOCUMENTS):
            count = min(SHARD_DOCUMENTS, num_documents - begin)
            drawn = generator.lognormal(np.log(MEAN) - SIGMA**2 / 2, SIGMA, count)
            lengths = np.maximum(drawn.astype(np.uint32), 4)
            lengths.tofile(lengths_file)
            num_tokens += int(lengths.sum())
            header = np.where(lengths < 1 << 8, 1, np.where(lengths < 1 << 16, 2, 4))
            sizes = 5 + header + 2 * lengths.astype(np.int64)
            offsets = 4 * (count + 2) + np.concatenate([[0], np.cumsum(sizes)])
            name = f"shard.{len(shards):05d}.mds"
            with (train / name).open("wb") as shard:
                shard.write(np.uint32(count).tobytes() + offsets.astype("<u4").tobytes())
                shard.truncate(int(offsets[-1]))
            shards.append(
                {
                    "format": "mds",
                    "compression": None,
                    "column_names": [COLUMN],
                    "column_encodings": ["ndarray:uint16"],
                    "samples": count,
                    "raw_data": {
                        "basename": name,
                        "bytes": int(offsets[-1]),
                        "hashes": {SHARD_HASH: "0" * 16},
                    },
                }
            )
    (train / INDEX_FILE).write_text(json.dumps({"version": 2, "shards": shards}))
    save_word_tokenizer(folder / TOKENIZER_FOLDER, VOCAB_SIZE)
    special = special_ids(VOCAB_SIZE)
    CorpusMeta(
        tokenizer_sha256=tokenizer_sha256(folder / TOKENIZER_FOLDER),
        vocab_size=VOCAB_SIZE,
        special_ids=SpecialIds(**special),
        reserved_ids=tuple(special.values()),
        splits={"train": SplitMeta(documents=num_documents, tokens=num_tokens)},
    ).write(folder)
    os.sync()


def config_of(folder: Path, num_workers: int) -> DataConfig:
    return DataConfig(
        path=folder / "corpus",
        sampler=PermutationConfig(),
        mask_rate=0.3,
        max_length=1024,
        row_length=8192,
        num_workers=num_workers,
        cache=folder / "cache",
        verify_hashes=False,
    )


def eight_rows(update: int) -> int:
    return 8


def first_batch(folder: Path, rank: int, world_size: int, num_workers: int, middle: bool) -> None:
    """Print the seconds from opening the corpus to the first batch."""
    begin = time.perf_counter()
    config = config_of(folder, num_workers)
    splits = Corpora.open(config).splits("train")
    stream = training_stream(splits, config, KEY)
    builder = training_builder(stream, splits, config, KEY)
    start = None
    if middle:
        window = stream.packing_windows_per_epoch // 2
        chunks = window * stream.mixture.num_chunks // stream.packing_windows_per_epoch
        # Rows and tokens before it matter to nothing that is measured.
        place = PackingWindowStart(window, 1, (chunks,), (1,))
        start = Position(packing_window=place, row=3, update=1, tokens=0)
    loader = train_loader(
        stream,
        builder,
        config,
        rows_per_update=eight_rows,
        microbatch_rows=8,
        rank=rank,
        world_size=world_size,
        start=start,
    )
    next(iter(loader))
    print(json.dumps({"seconds": time.perf_counter() - begin}))


def make_run(folder: Path, num_windows: int) -> tuple[Path, float]:
    """A run folder whose order log has ``num_windows`` windows; and how long their index took."""
    overrides = [
        f"data.path={folder / 'corpus'}",
        f"data.cache={folder / 'cache'}",
        "data.verify_hashes=false",
        "batch={size: 64, microbatch_rows: 8, warmup: null}",
    ]
    loaded = load_recipe(RECIPE, overrides)
    splits = Corpora.open(loaded.first.data).splits("train")
    stream = training_stream(splits, loaded.first.data, KEY)
    run = folder / "run"
    log = OrderLog(run / "orders")
    segment = RunSegment(
        number=0,
        stage=KEY.stage,
        generation=0,
        first_step=0,
        first_update=0,
        first_tokens=0,
        first_row=0,
        recipe=encode(loaded.first),
        order=describe_order(stream, splits, loaded.first.data, KEY),
    )
    log.resume(0, segment)
    rows = num_windows * stream.packing_window(stream.start).num_rows
    begin = time.perf_counter()
    log.index(segment, 1).complete(stream, rows)
    seconds = time.perf_counter() - begin
    first = loaded.first
    step = rows // BatchSizes.of(first.batch, first.data, first.duration).rows(0)
    (run / "metrics.jsonl").write_text(json.dumps({"step": step}) + "\n")
    return run, seconds


def held_bytes(pids: list[int]) -> int:
    """Anonymous memory of processes and their children, and all pages yet to be written."""
    total = 0
    for pid in [*pids, *(child for parent in pids for child in descendants(parent))]:
        try:
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss_Anon:"):
                    total += int(line.split()[1]) << 10
        except (OSError, ProcessLookupError):
            pass
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith(("Dirty:", "Writeback:")):
            total += int(line.split()[1]) << 10
    return total


def descendants(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [d for child in map(int, children) for d in (child, *descendants(child))]


@contextmanager
def peak_memory(processes: list[subprocess.Popen[str]]) -> Iterator[list[int]]:
    """Watches what processes hold; the list gets one number."""
    peak = [0]
    ended = Event()
    before = held_bytes([])

    def watch() -> None:
        while not ended.wait(0.1):
            peak[0] = max(peak[0], held_bytes([p.pid for p in processes]) - before)

    watcher = Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        ended.set()
        watcher.join()


def launch(folder: Path, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "benchmarks.billion_chunks", "--folder", str(folder)]
    return subprocess.Popen(
        [*command, "--first-batch", *map(str, arguments)], stdout=subprocess.PIPE, text=True
    )


def seconds_of(process: subprocess.Popen[str]) -> float:
    output, _ = process.communicate()
    assert process.returncode == 0
    return float(json.loads(output)["seconds"])


def measure(folder: Path, num_documents: int) -> dict[str, float]:
    make_corpus(folder / "corpus", num_documents)
    processes = [launch(folder, rank, 2, 1, 0) for rank in range(2)]
    with peak_memory(processes) as peak:
        built = max(seconds_of(process) for process in processes)
    resumed = [seconds_of(launch(folder, 0, 1, workers, 1)) for workers in (0, 1)]
    run, index_seconds = make_run(folder, num_windows=num_documents // 16_384 // 2)
    begin = time.perf_counter()
    command = [sys.executable, "-m", "flexbert.commands", "seen", str(folder / "corpus")]
    subprocess.run(
        [*command, str(num_documents // 3), "--run", str(run)], check=True, stdout=sys.stderr
    )
    return {
        "documents": num_documents,
        "first_batch_with_building_seconds": round(built, 1),
        "peak_anonymous_and_dirty_gb": round(peak[0] / 1e9, 2),
        "first_batch_in_mid_epoch_seconds": round(resumed[0], 2),
        "first_batch_in_mid_epoch_by_a_worker_seconds": round(resumed[1], 2),
        "window_index_made_again_seconds": round(index_seconds, 1),
        "flexbert_seen_seconds": round(time.perf_counter() - begin, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--documents", type=int, default=1_000_000_000)
    parser.add_argument("--folder", type=Path, help="for about 13 bytes a document")
    parser.add_argument("--first-batch", type=int, nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.first_batch:
        rank, world_size, num_workers, middle = arguments.first_batch
        first_batch(arguments.folder, rank, world_size, num_workers, bool(middle))
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        print(json.dumps(measure(Path(name), arguments.documents), indent=1))


if __name__ == "__main__":
    main()
