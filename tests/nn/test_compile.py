"""torch.compile: no graph break, one graph for any documents, nothing left out silently."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

from flexbert.config.data import DataConfig
from flexbert.config.model import MLPConfig, ModelConfig
from flexbert.data.packing.loader import eval_loader
from flexbert.data.reading.corpus import Corpus
from flexbert.data.sampling.samplers import PermutationConfig
from flexbert.errors import ConfigError
from flexbert.nn import compilation
from flexbert.nn.block import ParallelConfig, PostNormConfig, SandwichConfig
from flexbert.nn.build import build_model
from flexbert.nn.compilation import CompileError, check_it_runs, compile_model, loss_problem
from flexbert.nn.embedding import TokenEmbeddingConfig
from flexbert.nn.head import MLMHeadConfig
from flexbert.nn.logits import DeferredLogits
from flexbert.nn.loss import CrossEntropyConfig
from flexbert.nn.masked_lm import MaskedLM
from flexbert.nn.mlp import PlainMLPConfig
from flexbert.nn.norm import LayerNormConfig, RMSNormConfig
from flexbert.nn.packed_batch import PackedBatch
from flexbert.nn.positions import LearnedPositionsConfig
from flexbert.nn.rope import RopeConfig
from flexbert.nn.rope_scaling import DynamicNTKScaling
from tests.conftest import VOCAB_SIZE
from tests.data.corpora import loader_of_splits
from tests.nn.cases import attention_config, global_every, small_model
from tests.nn.tolerances import assert_same

NORM = LayerNormConfig(bias=True)
MODELS = {
    "ModernBERT": small_model(vocab_size=VOCAB_SIZE),
    "with dropout": small_model(
        vocab_size=VOCAB_SIZE, attention=attention_config(output_dropout=0.1, dropout=0.1)
    ),
    "BERT": small_model(
        vocab_size=VOCAB_SIZE,
        num_layers=2,
        embedding=TokenEmbeddingConfig(
            positions=LearnedPositionsConfig(length=64), token_types=2, norm=NORM
        ),
        block=PostNormConfig(norm=NORM),
        attention=attention_config(rope=None, windows="global", bias=True),
        mlp=PlainMLPConfig(intermediate_size=64, bias=True),
        final_norm=None,
        head=MLMHeadConfig(norm=NORM, bias=True),
    ),
    "ALiBi, grouped queries": small_model(
        vocab_size=VOCAB_SIZE,
        num_layers=2,
        block=ParallelConfig(norm=NORM),
        attention=attention_config(
            rope=None,
            alibi=True,
            num_kv_heads=2,
            qk_norm=RMSNormConfig(),
            windows=global_every(3, 16),
        ),
    ),
    "sandwich, scaled rope": small_model(
        vocab_size=VOCAB_SIZE,
        num_layers=2,
        block=SandwichConfig(norm=RMSNormConfig()),
        attention=attention_config(
            rope=RopeConfig(
                theta={"global": 1e4, "local": 1e4},
                fraction=0.5,
                interleaved=True,
                scaling=DynamicNTKScaling(factor=2.0, original_length=32),
            )
        ),
    ),
}


@pytest.fixture(autouse=True)
def _fresh_dynamo() -> Iterator[None]:
    limit = torch._dynamo.config.recompile_limit
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.config.recompile_limit = limit


@pytest.fixture
def microbatches(corpus: Path, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """Micro-batches of the real loader, without end."""
    config = DataConfig(
        path=corpus,
        sampler=PermutationConfig(),
        packing_window=64,  # small ones: rows in the middle of a large window resemble each other
        mask_rate=0.3,
        max_length=64,
        row_length=128,
        num_workers=0,
        cache=tmp_path / "orders",
    )
    splits = {"corpus": Corpus.open(corpus).split("train")}
    loader = loader_of_splits(splits, config, rows_per_update=lambda _: 2, microbatch_rows=2)
    return (microbatch for batch in loader for microbatch in batch["microbatches"])


def batch_of(microbatch: dict[str, Any]) -> PackedBatch:
    names = ("input_ids", "cu_seqlens", "max_seqlen", "position_ids")
    return PackedBatch(*(microbatch[name] for name in names))


def traced(config: ModelConfig) -> MaskedLM:
    """The model compiled as a run compiles it, by a backend that needs no compiler."""
    model = build_model(config)
    compile_model(model, autocast=False)
    for module in itertools.chain(*compilation.modules_by_class(model).values()):
        assert module._compiled_call_impl is not None
        module.compile(backend="aot_eager", fullgraph=True, dynamic=False)
    return model


def graphs() -> int:
    return counters["stats"]["unique_graphs"]


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_batches_of_varying_documents_need_no_second_compilation(
    name: str, microbatches: Iterator[dict[str, Any]]
) -> None:
    model = traced(MODELS[name])
    document_counts, warm = set(), 0
    num_batches = 200 if name == "ModernBERT" else 40
    for step, microbatch in enumerate(itertools.islice(microbatches, num_batches)):
        logits = model(batch_of(microbatch), microbatch["masked_positions"])
        logits.logsumexp(-1).sum().backward()
        warm = warm or graphs()
        document_counts.add(int((microbatch["cu_seqlens"].diff() > 0).sum()))
        assert graphs() == warm, f"compiled again at batch {step}"
    assert len(document_counts) > 3
    assert not counters["graph_break"]


def assert_equals_eager(
    eager: MaskedLM, compiled: MaskedLM, microbatches: Iterator[dict[str, Any]]
) -> None:
    """Logits and gradients, with the same weights."""
    compiled.load_state_dict(eager.state_dict())
    for microbatch in itertools.islice(microbatches, 3):
        results = []
        for model in (eager, compiled):
            logits = model(batch_of(microbatch), microbatch["masked_positions"])
            grads = torch.autograd.grad(logits.logsumexp(-1).sum(), list(model.parameters()))
            results.append((logits, *grads))
        for expected, actual in zip(*results, strict=True):
            assert_same(actual, expected)


@pytest.mark.slow
@pytest.mark.parametrize("config", MODELS.values(), ids=MODELS.keys())
def test_compiled_equals_eager(config: ModelConfig, microbatches: Iterator[dict[str, Any]]) -> None:
    assert_equals_eager(build_model(config).eval(), traced(config).eval(), microbatches)


@pytest.mark.slow
def test_layers_that_differ_in_weights_alone_share_a_graph(
    microbatches: Iterator[dict[str, Any]],
) -> None:
    counts = []
    for num_layers in (4, 10):
        torch._dynamo.reset()
        counters.clear()
        model = traced(small_model(vocab_size=VOCAB_SIZE, num_layers=num_layers))
        counters.clear()
        model(batch_of(next(microbatches)))
        counts.append(graphs())
    # Two ropes, the first layer, a local one, a global one, the head.
    assert counts == [6, 6]


@pytest.mark.slow
def test_evaluation_adds_its_own_graphs_once(
    corpus: Path, microbatches: Iterator[dict[str, Any]]
) -> None:
    model = traced(small_model(vocab_size=VOCAB_SIZE))
    config = DataConfig(
        path=corpus,
        sampler=PermutationConfig(),
        mask_rate=0.3,
        max_length=64,
        row_length=128,
        num_workers=0,
    )
    loader = eval_loader(
        Corpus.open(corpus).split("validation"), config, mask_rate=0.15, microbatch_rows=3
    )
    totals = []
    for _ in range(2):
        for microbatch in itertools.islice(microbatches, 3):
            model(batch_of(microbatch), microbatch["masked_positions"])
        with torch.no_grad():
            for batch in loader:
                (microbatch,) = batch["microbatches"]
                model(batch_of(microbatch), microbatch["masked_positions"])
        totals.append(graphs())
    assert totals[0] == totals[1]


class BreakingMLP(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(size, size)

    def forward(self, hidden: Tensor) -> Tensor:
        torch._dynamo.graph_break()
        return self.linear(hidden)


@dataclass(frozen=True, kw_only=True)
class BreakingConfig(MLPConfig):
    name = "breaking"

    def build(self, hidden_size: int) -> BreakingMLP:
        return BreakingMLP(hidden_size)


def test_a_block_that_cannot_be_compiled_is_named_and_left_as_it_is(
    microbatches: Iterator[dict[str, Any]],
) -> None:
    model = build_model(small_model(vocab_size=VOCAB_SIZE, mlp=BreakingConfig()))
    left_out = compile_model(model, autocast=False)
    assert list(left_out) == ["PreNormBlock"]
    assert "graph_break" in left_out["PreNormBlock"]
    assert all(layer._compiled_call_impl is None for layer in model.encoder.layers)
    assert model.head._compiled_call_impl is not None
    assert all(parameter.grad is None for parameter in model.parameters())


def test_without_a_compiler_nothing_is_compiled_and_the_reason_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(compilation.shutil, "which", lambda name: None)
    model = build_model(small_model())
    with pytest.raises(CompileError, match=r"no C\+\+ compiler"):
        compile_model(model, autocast=False)
    assert model.head._compiled_call_impl is None


def test_a_loss_that_cannot_be_compiled_has_its_reason_told() -> None:
    def breaking(logits: DeferredLogits, labels: Tensor) -> Tensor:
        raise RuntimeError("no kernel for this device\nand more")

    def loss(logits: DeferredLogits, labels: Tensor) -> Tensor:
        return CrossEntropyConfig()(logits, labels)

    cpu = torch.device("cpu")
    assert loss_problem(breaking, cpu, True) == "RuntimeError: no kernel for this device"
    assert loss_problem(loss, cpu, True) is None


FAILURES = {
    "CUDA": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "CPU": RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
    "Python": MemoryError(),
    "a failed launch": RuntimeError("CUDA error: an illegal memory access was encountered"),
}


@pytest.mark.parametrize("error", FAILURES.values(), ids=FAILURES.keys())
def test_neither_short_memory_nor_a_failed_device_is_a_reason_not_to_compile(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*arguments: object) -> Tensor:
        raise RuntimeError("backend='inductor' raised:") from error

    model = build_model(small_model(vocab_size=VOCAB_SIZE))
    monkeypatch.setattr(compilation, "_run_tiny_batch", failing)
    with pytest.raises(type(error)) as raised:
        compile_model(model, autocast=False)
    assert raised.value is error
    assert all(layer._compiled_call_impl is None for layer in model.encoder.layers)
    with pytest.raises(type(error)) as raised:
        loss_problem(failing, torch.device("cpu"), True)
    assert raised.value is error


def test_compiled_code_is_deterministic_where_it_is_asked_for() -> None:
    config = small_model(vocab_size=VOCAB_SIZE, num_layers=1)
    try:
        for asked in (True, False):
            torch.use_deterministic_algorithms(asked)
            compile_model(build_model(config), autocast=False)
            assert torch._inductor.config.deterministic is asked
    finally:
        torch.use_deterministic_algorithms(False)


def test_a_backend_that_cannot_serve_is_an_error_before_anything_is_trained() -> None:
    model = build_model(small_model(attention=attention_config(backend="flash_attn_2")))
    with pytest.raises(ConfigError, match=r"model.attention.backend: flash_attn_2 needs a CUDA"):
        check_it_runs(model, autocast=True)


def test_the_trial_draws_no_random_numbers() -> None:
    model = build_model(MODELS["with dropout"])
    state = torch.get_rng_state()
    compile_model(model, autocast=True)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_trial_touches_no_gpu_but_the_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's own choice is every GPU of the machine, and a warning."""
    touched: list[Any] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    monkeypatch.setattr(torch.cuda, "get_rng_state", touched.append)
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda *_: None)
    check_it_runs(build_model(MODELS["with dropout"]), autocast=True)
    assert not touched


@pytest.mark.slow
def test_compiled_code_is_kept_by_the_number_of_threads() -> None:
    """What is in torch's config is in the key under which it keeps code; its default of -1 is not
    the number."""
    before = torch.get_num_threads()
    keys = []
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            compile_model(build_model(MODELS["with dropout"]), autocast=True)
            keys.append(torch._inductor.config.save_config_portable()["cpp.threads"])
    finally:
        torch.set_num_threads(before)
    assert keys == [1, 2]


@pytest.mark.slow
def test_compiled_by_inductor_equals_eager(microbatches: Iterator[dict[str, Any]]) -> None:
    config = small_model(vocab_size=VOCAB_SIZE, num_layers=2)
    eager, compiled = build_model(config), build_model(config)
    assert compile_model(compiled, autocast=False) == {}
    assert_equals_eager(eager, compiled, microbatches)
