"""The training loss against float64."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from flexbert.config.training import IGNORE
from flexbert.nn import cross_entropy
from flexbert.nn.cross_entropy import token_scores
from flexbert.nn.logits import DeferredLogits
from flexbert.nn.loss import CrossEntropyConfig, LossFunction

VOCAB, WIDTH = 11, 5
LOSSES = [(0.0, 0.0), (0.1, 0.0), (0.0, 1e-2), (0.2, 0.3)]


@pytest.fixture(params=[None, 3], ids=["one group", "groups of 3 rows"])
def _few_rows_at_a_time(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param:
        monkeypatch.setitem(cross_entropy._GROUP, "cpu", request.param * VOCAB)
        monkeypatch.setitem(cross_entropy._PASS, "cpu", 2 * VOCAB)


@pytest.fixture
def _fresh_dynamo() -> Iterator[None]:
    """So that the graphs of many cases do not add up to torch's limit."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.fixture(params=["in passes", "compiled"])
def loss_of(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, _fresh_dynamo: None
) -> Callable[[CrossEntropyConfig], LossFunction]:
    """What computes a loss: as it is, or compiled by a backend that needs no compiler."""
    if request.param == "in passes":
        return lambda config: config
    traced = torch.compile(
        cross_entropy._gradients_at_once, backend="aot_eager", fullgraph=True, dynamic=False
    )
    monkeypatch.setattr(cross_entropy, "_compiled_gradients", lambda: traced)
    return CrossEntropyConfig.compiled


def parameters(count: int, bias: bool = True) -> list[Tensor]:
    """Features, matrix and bias."""
    shapes = [(count, WIDTH), (VOCAB, WIDTH), (VOCAB,)][: 3 if bias else 2]
    return [torch.randn(shape, dtype=torch.float64).mul_(2).requires_grad_() for shape in shapes]


def exact_loss(logits: Tensor, labels: Tensor, smoothing: float, z: float) -> Tensor:
    """The mean over rows that have a label, a row at a time."""
    terms = []
    for row, label in zip(logits, labels.tolist(), strict=True):
        if label == IGNORE:
            continue
        target = torch.full((VOCAB,), smoothing / VOCAB, dtype=torch.float64)
        target[label] += 1 - smoothing
        terms.append(-(target * row.log_softmax(-1)).sum() + z * row.logsumexp(-1) ** 2)
    return torch.stack(terms).mean()


def with_gradients(
    loss: Callable[..., Tensor], tensors: list[Tensor], dtype: torch.dtype
) -> list[Tensor]:
    """The loss and its gradients, for copies of the tensors in a dtype."""
    copies = [tensor.detach().to(dtype).requires_grad_() for tensor in tensors]
    value = loss(*copies)
    # As Composer weighs micro-batches.
    return [value.detach(), *torch.autograd.grad(0.3 * value, copies)]


@pytest.mark.usefixtures("_few_rows_at_a_time")
@pytest.mark.parametrize(("smoothing", "z"), LOSSES)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-6), (torch.bfloat16, 2e-2)]
)
def test_loss_and_gradients_are_those_of_the_mean_over_labels(
    loss_of: Callable[[CrossEntropyConfig], LossFunction],
    smoothing: float,
    z: float,
    bias: bool,
    dtype: torch.dtype,
    tolerance: float,
) -> None:
    tensors = parameters(9, bias)
    labels = torch.randint(VOCAB, (9,))
    labels[[0, 4, 5, 8]] = IGNORE
    loss = loss_of(CrossEntropyConfig(label_smoothing=smoothing, z_loss=z))

    def ours(features: Tensor, matrix: Tensor, bias: Tensor | None = None) -> Tensor:
        return loss(DeferredLogits(features, matrix, bias, dtype), labels)

    def exact(features: Tensor, matrix: Tensor, bias: Tensor | None = None) -> Tensor:
        logits = features @ matrix.T
        return exact_loss(logits if bias is None else logits + bias, labels, smoothing, z)

    found = with_gradients(ours, tensors, dtype)
    expected = with_gradients(exact, tensors, torch.float64)
    for ours_, exact_ in zip(found, expected, strict=True):
        scale = exact_.abs().max().item()
        assert (ours_.double() - exact_).abs().max().item() <= tolerance * max(scale, 1e-3)


@pytest.mark.slow
@pytest.mark.usefixtures("_fresh_dynamo")
@pytest.mark.parametrize(
    ("smoothing", "z", "dtype"),
    [
        (0.0, 0.0, torch.bfloat16),
        (0.1, 0.0, torch.float32),
        (0.0, 1e-2, torch.bfloat16),
        (0.2, 0.3, torch.float32),
    ],
)
def test_what_inductor_compiles_gives_what_torch_gives(
    smoothing: float, z: float, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So many logits that they are vectorised, and two groups of unlike numbers of rows."""
    count, vocab = 37, 4100
    monkeypatch.setitem(cross_entropy._GROUP, "cpu", 20 * vocab)
    tensors = [
        torch.randn(shape).requires_grad_() for shape in ((count, 32), (vocab, 32), (vocab,))
    ]
    labels = torch.randint(vocab, (count,))
    labels[::5] = IGNORE

    def ours(features: Tensor, matrix: Tensor, bias: Tensor) -> Tensor:
        logits = DeferredLogits(features, matrix, bias, dtype)
        config = CrossEntropyConfig(label_smoothing=smoothing, z_loss=z)
        return config.compiled()(logits, labels)

    def exact(features: Tensor, matrix: Tensor, bias: Tensor) -> Tensor:
        logits = F.linear(features, matrix, bias)
        entropy = F.cross_entropy(logits, labels, ignore_index=IGNORE, label_smoothing=smoothing)
        return entropy + z * logits[labels != IGNORE].logsumexp(-1).square().mean()

    found = with_gradients(ours, tensors, torch.float32)
    expected = with_gradients(exact, tensors, torch.float64)
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    for ours_, exact_ in zip(found, expected, strict=True):
        error = (ours_.double() - exact_).norm() / exact_.norm()
        assert error.item() <= tolerance


def test_under_autocast_parameters_have_float32_gradients() -> None:
    """Logits in bfloat16, as the decoder gives them there; sums and parameters in float32."""
    tensors = parameters(7)
    labels = torch.randint(VOCAB, (7,))

    def ours(*three: Tensor) -> Tensor:
        return CrossEntropyConfig()(DeferredLogits(*three, torch.bfloat16), labels)

    def exact(features: Tensor, matrix: Tensor, bias: Tensor) -> Tensor:
        return exact_loss(features @ matrix.T + bias, labels, 0, 0)

    found = with_gradients(ours, tensors, torch.float32)
    assert {tensor.dtype for tensor in found} == {torch.float32}
    for ours_, exact_ in zip(found, with_gradients(exact, tensors, torch.float64), strict=True):
        torch.testing.assert_close(ours_.double(), exact_, rtol=0.05, atol=0.02)


@pytest.mark.parametrize("count", [4, 0])
def test_nothing_masked_is_zero_with_zero_gradients(
    loss_of: Callable[[CrossEntropyConfig], LossFunction], count: int
) -> None:
    tensors = parameters(count)
    labels = torch.full((count,), IGNORE)
    function = loss_of(CrossEntropyConfig(label_smoothing=0.1, z_loss=0.1))
    loss = function(DeferredLogits(*tensors, torch.float64), labels)
    loss.backward()
    assert loss.item() == 0
    assert all(tensor.grad is not None and not tensor.grad.any() for tensor in tensors)


def test_what_is_frozen_gets_no_gradient() -> None:
    features, matrix, bias = parameters(4)
    matrix.requires_grad_(False)
    labels = torch.randint(VOCAB, (4,))
    CrossEntropyConfig()(DeferredLogits(features, matrix, bias, torch.float64), labels).backward()
    assert matrix.grad is None
    assert features.grad is not None


@pytest.mark.usefixtures("_few_rows_at_a_time")
def test_scores_are_those_of_each_token() -> None:
    features, matrix, bias = (tensor.detach() for tensor in parameters(8))
    logits = features @ matrix.T + bias
    labels = torch.where(torch.arange(8) % 2 == 0, logits.argmax(-1), torch.randint(VOCAB, (8,)))
    labels[3] = IGNORE
    scores = token_scores(DeferredLogits(features, matrix, bias, torch.float64), labels)
    has_label = labels != IGNORE
    exact = -logits.log_softmax(-1).gather(1, labels.where(has_label, 0)[:, None])[:, 0]
    torch.testing.assert_close(scores.losses, exact.where(has_label, 0).float())
    assert torch.equal(scores.hits, logits.argmax(-1) == labels)
    assert torch.equal(scores.counts, has_label)


def test_all_logits_are_never_there_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No tensor has as many entries as there are logits; nothing waits for the device either."""
    count, vocab = 64, 512
    monkeypatch.setitem(cross_entropy._GROUP, "cpu", count * vocab // 4)
    largest = 0

    class Largest(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            if isinstance(out, Tensor):
                largest = max(largest, out.numel())
            return out

    with FakeTensorMode(), Largest():
        features = torch.randn(count, WIDTH, requires_grad=True)
        matrix = torch.randn(vocab, WIDTH, requires_grad=True)
        logits = DeferredLogits(features, matrix, None, torch.bfloat16)
        CrossEntropyConfig()(logits, torch.zeros(count, dtype=torch.int64)).backward()
    assert count * vocab // 8 <= largest <= count * vocab // 4
