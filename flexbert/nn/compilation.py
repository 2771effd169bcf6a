"""torch.compile for a model's modules, one by one.

Each layer is compiled as a graph of its own; layers that differ in weights alone share it, so a
deep model compiles as fast as a shallow one. Shapes are taken as they are (``dynamic=False``): rows
have one length and ``cu_seqlens`` a fixed capacity, so that batches of any documents fit one graph.
"""

from __future__ import annotations

import os
import shutil

import torch
from torch import Tensor, nn

from flexbert.config.training import IGNORE
from flexbert.devices.device_errors import device_failure
from flexbert.devices.triton_toolchain import triton_problem
from flexbert.errors import first_line
from flexbert.nn.logits import DeferredLogits
from flexbert.nn.loss import LossFunction
from flexbert.nn.masked_lm import MaskedLM
from flexbert.nn.packed_batch import PackedBatch

# Graphs that one function may have, where torch's 8 would end the run at the ninth. There is
# one for each kind of layer and each shape, micro-batches of training and of evaluation; and of the
# loss up to two for a shape, for its groups of rows and for the rows left over.
MAX_GRAPHS = 64


class CompileError(Exception):
    """torch.compile cannot be used here; the message is the reason, as a clause."""


def compile_model(model: MaskedLM, autocast: bool) -> dict[str, str]:
    """Compile, in place, every module that can be.

    Args:
        model: on the device that it will be trained on; :func:`check_it_runs` came before.
        autocast: whether it will run under bfloat16 autocast.

    Returns:
        For the modules left out, by class, the reason.

    Raises:
        CompileError: if nothing can be compiled here.
    """
    problem = toolchain_problem(next(model.parameters()).device)
    if problem is not None:
        raise CompileError(problem)
    torch._dynamo.config.recompile_limit = MAX_GRAPHS
    key_compiled_code_by_threads()
    keep_compiled_code_deterministic()
    classes = modules_by_class(model)
    left_out: dict[str, str] = {}
    if _trial(model, [module for modules in classes.values() for module in modules], autocast):
        trials = {name: _trial(model, modules, autocast) for name, modules in classes.items()}
        left_out = {name: reason for name, reason in trials.items() if reason is not None}
    if len(left_out) == len(classes):
        raise CompileError("; ".join(left_out.values()))
    for name in classes.keys() - left_out.keys():
        for module in classes[name]:
            module.compile(fullgraph=True, dynamic=False)
    return left_out


@torch.no_grad()
def check_it_runs(model: MaskedLM, autocast: bool) -> None:
    """Run a tiny batch, uncompiled: torch.compile would turn a ConfigError into one of its own.

    Raises:
        ConfigError: if an attention backend that the recipe names cannot serve here.
    """
    _run_tiny_batch(model, autocast)


def key_compiled_code_by_threads() -> None:
    """Have torch keep compiled code by the number of threads that it is made for.

    Said, the number is part of the key. By default it is not, and a run on all cores takes code
    that was made for one (seen with torch 2.11).
    """
    torch._inductor.config.cpp.threads = torch.get_num_threads()


def keep_compiled_code_deterministic() -> None:
    """Have torch.compile choose no kernel by its time where determinism is asked for.

    Timed, kernels that add up in another order could serve another launch. (torch 2.9 and later;
    before, and besides, torch itself keeps only such reductions as agree.)
    """
    if hasattr(torch._inductor.config, "deterministic"):
        torch._inductor.config.deterministic = torch.are_deterministic_algorithms_enabled()


def toolchain_problem(device: torch.device) -> str | None:
    """Why the compiler of torch.compile cannot work for this device; None if it can."""
    if device.type == "cuda":
        return triton_problem(device)
    if cxx_compiler() is None:
        return "there is no C++ compiler: install g++, or set CXX to one"
    return None


def cxx_compiler() -> str | None:
    """The C++ compiler that torch.compile finds, None if there is none."""
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "clang++"]
    return next(filter(None, map(shutil.which, names)), None)


def modules_by_class(model: MaskedLM) -> dict[str, list[nn.Module]]:
    """What is compiled, each a graph of its own.

    Not the embedding: compiled, its gradient is added up atomically, in another order every time,
    and a resumed run would no longer equal the uninterrupted one bit for bit (seen on a CPU).
    """
    encoder = model.encoder
    classes: dict[str, list[nn.Module]] = {}
    for module in (*encoder.ropes, *encoder.layers, model.head):
        classes.setdefault(type(module).__name__, []).append(module)
    return classes


def _trial(model: MaskedLM, modules: list[nn.Module], autocast: bool) -> str | None:
    """Trace ``modules`` on a tiny batch, forward and backward; the reason if they cannot be.

    Tracing finds what dynamo and autograd cannot take, in a second and without the compiler.
    """
    for module in modules:
        module.compile(backend="aot_eager", fullgraph=True, dynamic=False)
    try:
        _run_tiny_batch(model, autocast).float().square().mean().backward()
    except Exception as error:  # whatever a block of anyone's does while it is traced
        return _reason(error)
    finally:
        for module in modules:
            module._compiled_call_impl = None
        model.zero_grad(set_to_none=True)
        torch._dynamo.reset()
    return None


def loss_problem(loss: LossFunction, device: torch.device, autocast: bool) -> str | None:
    """Why a compiled loss cannot run here, found by running a tiny one; None if it can."""
    features, matrix, bias = (
        torch.ones(shape, device=device, requires_grad=True) for shape in ((2, 8), (16, 8), (16,))
    )
    dtype = torch.bfloat16 if autocast else torch.float32
    logits = DeferredLogits(features, matrix, bias, dtype)
    try:
        loss(logits, torch.tensor([1, IGNORE], device=device)).backward()
    except Exception as error:  # whatever the compiler does, or a loss of anyone's
        return _reason(error)
    return None


def _reason(error: Exception) -> str:
    """Why something cannot be compiled.

    Raises:
        BaseException: where memory is short or CUDA failed; neither says that it cannot be.
    """
    failure = device_failure(error)
    if failure is not None:
        raise failure
    return f"{type(error).__name__}: {first_line(error)}"


def _run_tiny_batch(model: MaskedLM, autocast: bool) -> Tensor:
    """Logits of three sequences; draws no random numbers that anyone misses."""
    device = next(model.parameters()).device
    lengths = torch.tensor([5, 3, 0])
    packed = PackedBatch(
        tokens=torch.zeros(8, dtype=torch.int64, device=device),
        cu_seqlens=torch.cat((torch.zeros(1), lengths.cumsum(0))).to(device, torch.int32),
        max_seqlen=5,
        position_ids=torch.cat([torch.arange(n) for n in lengths.tolist()]).to(device),
    )
    # Of this device alone: unless told, every process would touch every GPU of the machine.
    devices = [device] if device.type == "cuda" else []
    with (
        torch.random.fork_rng(devices),
        torch.autocast(device.type, torch.bfloat16, enabled=autocast),
    ):
        # Not model(...): one that Composer trains takes its batches another way.
        return MaskedLM.forward(model, packed, torch.tensor([1, 6], device=device))
