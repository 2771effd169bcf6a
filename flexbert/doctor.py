"""What is installed here, what will be used, and what would make it faster."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from flexbert.devices.nvidia import ON_THE_CPU, nvidia_problem
from flexbert.devices.triton_toolchain import triton_problem
from flexbert.nn.attention_backends import Request, backend_report
from flexbert.nn.compilation import cxx_compiler

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
    "flash-attn-3",
)

_HOPPER_SOURCE = "git+https://github.com/Dao-AILab/flash-attention.git#subdirectory=hopper"


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A GPU of this machine.

    Attributes:
        memory_gib: all of its memory, in GiB.
        capability: its compute capability, such as ``9.0``.
    """

    name: str
    memory_gib: float
    capability: str


@dataclass(frozen=True, kw_only=True)
class Advice:
    """How to get a faster attention backend.

    Attributes:
        command: the one command that installs it; None if none would.
        reason: why this command, or why none.
    """

    command: str | None
    reason: str


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What ``flexbert doctor`` finds.

    Attributes:
        cpu_cores: that this process may use.
        gpu_problem: why a GPU that is there cannot be used; None if it can, or there is none.
        packages: version by name; None if a package is not installed.
        attention_backends: why each cannot serve here, best first; None if it can.
        attention_backend: the best of those that can, in bfloat16.
        cxx_compiler: what torch.compile builds with on a CPU; None if there is none.
        triton_problem: why Triton, which torch.compile builds with on a GPU and StableAdamW's
            updates run by, cannot work; None if it can, or there is no GPU.
    """

    python: str
    platform: str
    cpu_cores: int
    gpus: tuple[Gpu, ...]
    gpu_problem: str | None
    packages: Mapping[str, str | None]
    attention_backends: Mapping[str, str | None]
    attention_backend: str
    faster_attention: Advice
    cxx_compiler: str | None
    triton_problem: str | None


def diagnose() -> Diagnosis:
    """Look at versions, devices and attention backends, and say what would make it faster."""
    gpu_problem = nvidia_problem()
    device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    backends = backend_report(Request(device, torch.bfloat16, head_dim=64))
    capability = torch.cuda.get_device_capability(device) if device.type == "cuda" else None
    return Diagnosis(
        python=platform.python_version(),
        platform=platform.platform(),
        cpu_cores=len(os.sched_getaffinity(0)),
        gpus=tuple(
            Gpu(
                name=torch.cuda.get_device_name(index),
                memory_gib=round(torch.cuda.mem_get_info(index)[1] / 2**30, 1),
                capability=".".join(map(str, torch.cuda.get_device_capability(index))),
            )
            for index in range(torch.cuda.device_count())
        ),
        gpu_problem=gpu_problem,
        packages={name: package_version(name) for name in PACKAGES},
        attention_backends=backends,
        attention_backend=next(name for name, problem in backends.items() if problem is None),
        faster_attention=faster_attention(backends, capability),
        cxx_compiler=cxx_compiler(),
        triton_problem=triton_problem(device) if device.type == "cuda" else None,
    )


def faster_attention(
    backends: Mapping[str, str | None], capability: tuple[int, int] | None
) -> Advice:
    """Choose the one command that would bring a faster attention backend, if any would.

    Args:
        backends: why each cannot serve here, None if it can.
        capability: of the GPU; None without one.
    """
    if capability is None:
        return Advice(
            command=None, reason="nothing to install: without a GPU, there is no faster one"
        )
    if capability < (8, 0):
        reason = "nothing to install: FlashAttention needs compute capability 8.0, sdpa does not"
        return Advice(command=None, reason=reason)
    flash_backends = ("flash_attn_3", "flash_attn_2", "torch_varlen")
    if all(backends[name] for name in flash_backends):
        # Rather than the packages, which have to be built.
        return Advice(
            command="pip install --upgrade 'torch>=2.11'", reason="it brings torch_varlen"
        )
    if capability[0] == 9 and backends["flash_attn_3"]:
        # Built for the torch and the CUDA that are here; a broken build is replaced.
        command = f"pip install --no-deps --no-build-isolation --force-reinstall '{_HOPPER_SOURCE}'"
        return Advice(
            command=command, reason="flash_attn_3 is made for Hopper GPUs; nvcc builds it"
        )
    reason = "nothing to install: the best kernels for this GPU are there"
    if backends["flash_attn_2"]:
        reason += " (the package flash-attn would add ALiBi and dropout to them, not speed)"
    return Advice(command=None, reason=reason)


def package_version(name: str) -> str | None:
    """The installed version, or None."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def diagnosis_text(diagnosis: Diagnosis) -> str:
    """What ``flexbert doctor`` prints."""
    gpus = [f"{gpu.name}, {gpu.memory_gib} GiB" for gpu in diagnosis.gpus]
    no_gpu = "none, training uses the CPU"
    if diagnosis.gpu_problem is not None:
        no_gpu = f"none can be used, and training is refused: {diagnosis.gpu_problem}; {ON_THE_CPU}"
    lines = [
        f"Python {diagnosis.python} on {diagnosis.platform}",
        f"{diagnosis.cpu_cores} CPU cores",
        f"GPUs: {'; '.join(gpus) or no_gpu}",
        "",
        *(f"{name:<20} {version or '-'}" for name, version in diagnosis.packages.items()),
        "",
        f"attention in bfloat16: {diagnosis.attention_backend}",
    ]
    for name, problem in diagnosis.attention_backends.items():
        lines.append(f"  {name:<18} {'works' if problem is None else problem}")
    advice = diagnosis.faster_attention
    if advice.command is None:
        lines.append(f"faster attention: {advice.reason}")
    else:
        lines += [f"for faster attention ({advice.reason}):", f"  {advice.command}"]
    compiler = diagnosis.cxx_compiler
    missing = (
        "no C++ compiler, which it needs on a CPU: for compile: always install g++, or set CXX"
    )
    lines += ["", f"torch.compile: {missing if compiler is None else compiler}"]
    if diagnosis.gpus:
        triton = diagnosis.triton_problem or "works"
        lines.append(f"triton, for torch.compile and StableAdamW on a GPU: {triton}")
    return "\n".join(lines)
