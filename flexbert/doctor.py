"""What is installed here, what will be used, and what would make it faster."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from typing import Any

import torch

from flexbert.nn.attention_backends import backend_report

PACKAGES = (
    "torch",
    "mosaicml",
    "mosaicml-streaming",
    "transformers",
    "tokenizers",
    "torch-optimi",
    "omegaconf",
    "numpy",
    "numba",
    "wandb",
    "triton",
    "flash-attn",
)


def diagnose() -> dict[str, Any]:
    """Versions, devices and attention backends, as plain containers."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    backends = backend_report(device, torch.bfloat16)
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu_cores": len(os.sched_getaffinity(0)),
        "gpus": [
            {
                "name": torch.cuda.get_device_name(index),
                "memory_gib": round(torch.cuda.mem_get_info(index)[1] / 2**30, 1),
                "capability": ".".join(map(str, torch.cuda.get_device_capability(index))),
            }
            for index in range(torch.cuda.device_count())
        ],
        "packages": {name: package_version(name) for name in PACKAGES},
        "attention_backends": backends,
        "attention_backend": next(name for name, problem in backends.items() if problem is None),
    }


def package_version(name: str) -> str | None:
    """The installed version, or None."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def diagnosis_text(findings: dict[str, Any]) -> str:
    """What ``flexbert doctor`` prints."""
    gpus = [f"{gpu['name']}, {gpu['memory_gib']} GiB" for gpu in findings["gpus"]]
    lines = [
        f"Python {findings['python']} on {findings['platform']}",
        f"{findings['cpu_cores']} CPU cores",
        f"GPUs: {'; '.join(gpus) or 'none, training uses the CPU'}",
        "",
        *(f"{name:<20} {version or '-'}" for name, version in findings["packages"].items()),
        "",
        f"attention in bfloat16: {findings['attention_backend']}",
    ]
    for name, problem in findings["attention_backends"].items():
        lines.append(f"  {name:<18} {'works' if problem is None else problem}")
    return "\n".join(lines)
