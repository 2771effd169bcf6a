"""What benchmarks share: batches, times of several ways in turn, tables."""

from __future__ import annotations

import platform
import random
import statistics
import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.packing import cut, web_documents
from flexbert.nn.packed_batch import PackedBatch

MEAN_LENGTH = 270

Way = TypeVar("Way", bound=Hashable)


def this_device() -> torch.device:
    """The machine's GPU where there is one, else its CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def web_lengths(tokens: int, max_length: int, seed: int = 0) -> np.ndarray:
    """Lengths of documents as the web has them, cut at ``max_length``; the last ends at ``tokens``.

    Returns:
        int64, their sum is ``tokens``.
    """
    lengths = cut(web_documents(MEAN_LENGTH, tokens, seed), max_length)
    ends = np.minimum(np.cumsum(lengths), tokens)
    ends = ends[: int(np.searchsorted(ends, tokens)) + 1]
    return np.diff(ends, prepend=0)


def packed_batch(
    lengths: Sequence[int] | np.ndarray,
    vocab_size: int,
    device: torch.device,
    max_seqlen: int | None = None,
) -> PackedBatch:
    """Documents of these lengths, of random tokens; some may be empty.

    Args:
        max_seqlen: what the batch says of its longest document; its length when None.
    """
    sizes = torch.as_tensor(np.asarray(lengths))
    return PackedBatch(
        tokens=torch.randint(vocab_size, (int(sizes.sum()),), device=device),
        cu_seqlens=torch.nn.functional.pad(sizes.cumsum(0), (1, 0)).to(device, torch.int32),
        max_seqlen=max_seqlen or int(sizes.max()),
        position_ids=torch.cat([torch.arange(n) for n in sizes.tolist()]).to(device),
    )


def seconds(run: Callable[[], object], device: torch.device) -> float:
    """Of one run, to the device's end of it."""
    begin = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def allocated_at_most(run: Callable[[], object], device: torch.device) -> int:
    """Bytes on top of what is there, at the worst moment of a run, as torch's allocator says."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    assert profiler.profiler is not None
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    now = highest = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        highest = max(highest, now)
    return highest


def in_turn(ways: Iterable[Way], round_number: int) -> list[Way]:
    """The ways in another order each round, so that none always comes after the same one."""
    names = list(ways)
    return random.Random(round_number).sample(names, len(names))


def median_seconds(
    ways: Mapping[Way, Callable[[], object]], rounds: int, device: torch.device
) -> dict[Way, float]:
    """Of each way, in turn in every round, so that the machine's moods meet all of them alike.

    A round before is not counted.
    """
    times: dict[Way, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name in in_turn(ways, number):
            times[name].append(seconds(ways[name], device))
    return {name: statistics.median(values[1:]) for name, values in times.items()}


def line(x: Sequence[float], y: Sequence[float]) -> tuple[float, float, float]:
    """``a + b x`` with the least sum of squared relative deviations from ``y``.

    Returns:
        a, b, and the largest relative deviation.
    """
    weights = 1 / np.asarray(y)
    design = np.stack([weights, weights * np.asarray(x)], axis=1)
    found = np.linalg.lstsq(design, np.ones(len(x)), rcond=None)[0]
    return found[0], found[1], float(np.abs(design @ found - 1).max())


def print_row(first: str, cells: Sequence[str]) -> None:
    """One line of a Markdown table."""
    print(f"| {' | '.join([first, *cells])} |", flush=True)


def print_header(first: str, cells: Sequence[str]) -> None:
    """The first two lines of a Markdown table of numbers."""
    print_row(first, cells)
    print_row("---", ["---:"] * len(cells))


def print_environment() -> None:
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    print(
        f"\ntorch {torch.__version__}, {torch.get_num_threads()} thread(s) of {_cpu()}, {gpu},"
        f" Python {platform.python_version()}"
    )


def _cpu() -> str:
    """The processor's name as Linux tells it, and what it has for products in bfloat16."""
    try:
        with open("/proc/cpuinfo") as file:
            facts = dict(line.split(":", 1) for line in file.read().split("\n\n")[0].splitlines())
    except (OSError, ValueError):
        return platform.machine()
    facts = {key.strip(): value.strip() for key, value in facts.items()}
    flags = facts.get("flags", "").split()
    extras = [flag for flag in ("amx_bf16", "avx512_bf16") if flag in flags]
    return f"{facts.get('model name', platform.machine())} ({', '.join(extras) or 'no bfloat16'})"
