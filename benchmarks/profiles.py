"""Where the time of a run goes, by operation."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.measuring import print_header, print_row

# What operations are for, by names or parts of them; the first that matches counts.
KINDS = {
    "matrix products": ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "gemm"),
    "softmax and its gradient": ("softmax", "log_softmax", "logsumexp"),
    "copies and casts": ("aten::copy_", "aten::cat", "Memcpy", "_to_copy"),
    "gathers and scatters": ("index", "scatter", "gather", "embedding"),
    "masks and fills": ("masked_fill", "aten::fill_", "aten::zero_", "Memset"),
    "norms": ("layer_norm", "rms_norm"),
    "activations": ("gelu", "silu", "relu"),
    "sums, products and other arithmetic": ("add", "mul", "sub", "div", "sum", "neg", "max"),
}
REST = "Python, dispatch and the rest"


def print_profile(run: Callable[[], object], device: torch.device) -> None:
    """Shares of one run's time, by kind of operation: the GPU's where it is on one."""
    activities = [ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as profiler:
        run()
    seconds = dict.fromkeys([*KINDS, REST], 0.0)
    for event in profiler.key_averages():
        time = event.self_device_time_total if device.type == "cuda" else event.self_cpu_time_total
        seconds[_kind(event.key)] += time
    total = sum(seconds.values())
    print_header("of an update", ["share"])
    for kind, of_kind in sorted(seconds.items(), key=lambda item: -item[1]):
        print_row(kind, [f"{of_kind / total:.1%}"])


def _kind(name: str) -> str:
    found = (kind for kind, parts in KINDS.items() if any(part in name for part in parts))
    return next(found, REST)
