"""What a model is made of: the abstract families that blocks belong to, and the model's own node.

Nothing here imports torch. Members of the families live in ``flexbert.nn``, each in the file that
implements it; every one of them turns itself into a module with ``build``.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from flexbert.config.fields import COMPUTATION, FIRST_STAGE, FUNCTION, OPERATIONAL, Node, key
from flexbert.config.keys import leaves
from flexbert.config.layer_range import LayerRange
from flexbert.config.layer_windows import LayerWindows, Window
from flexbert.config.registry import Component
from flexbert.errors import ConfigError, config_errors_under

if TYPE_CHECKING:
    from torch import nn


AttentionKind = Literal["global", "local"]

# Which vector stands for a sequence.
Pooling = Literal["cls", "mean", "max"]
MASKED_LM = "masked_lm"
# Far beyond any encoder.
MOST_LAYERS = 1024
LARGEST_SIZE = 1 << 24


class NormConfig(Component, ABC, family="norm"):
    @abstractmethod
    def build(self, size: int) -> nn.Module:
        """A module from ``[..., size]`` to ``[..., size]``, over the last dimension."""


class AbsolutePositionConfig(Component, ABC, family="absolute_position"):
    """What is added to token embeddings for their place in a document."""

    @property
    def max_length(self) -> int | None:
        """The longest document that has a position for every token; None if there is no longest."""
        return None

    def check(self, size: int) -> None:
        """Raises: ConfigError if there are no such positions of this size."""
        return None

    @abstractmethod
    def build(self, size: int) -> nn.Module:
        """A module from position ids ``[N]`` to ``[N, size]``."""


class EmbeddingConfig(Component, ABC, family="embedding"):
    @property
    def max_length(self) -> int | None:
        """The longest document that can be embedded; None if there is no longest."""
        return None

    @property
    def knows_positions(self) -> bool:
        """Whether the order of tokens enters here."""
        return False

    def matrix_size(self, hidden_size: int) -> int:
        """The width E of the token matrix ``[V, E]``."""
        return hidden_size

    def check(self, hidden_size: int) -> None:
        """Raises: ConfigError if it cannot serve a model of this width."""
        return None

    @abstractmethod
    def build(self, vocab_size: int, hidden_size: int) -> nn.Module:
        """A module from a packed batch to hidden states ``[N, C]``; its ``tokens.weight`` is the
        matrix ``[V, E]`` that a decoder can be tied to."""


class PositionConfig(Component, ABC, family="position"):
    """How attention learns of relative position by turning queries and keys."""

    @abstractmethod
    def layer_theta(self, window: Window) -> float:
        """The rotary base of layers with this window; None is the whole document."""

    @abstractmethod
    def check(self, head_dim: int, windows: frozenset[Window]) -> None:
        """Raises: ConfigError if it cannot serve heads of this size in layers of these windows."""

    @abstractmethod
    def build(self, head_dim: int, theta: float) -> nn.Module:
        """A module from a packed batch to the rotation of its queries and keys."""


@dataclass(frozen=True, kw_only=True)
class AttentionConfig(Component, ABC, family="attention"):
    """What every member has: it decides the layer plan.

    Attributes:
        num_heads: heads of queries.
        head_dim: size of a head; ``hidden_size / num_heads`` when null.
        windows: which layers are global, and the windows of the others.
        rope: rotary embeddings; null is none.
    """

    num_heads: int = key(FUNCTION, above=0)
    head_dim: int | None = key(FUNCTION, default=None, above=0)
    windows: LayerWindows = key(FUNCTION, default=LayerWindows())
    rope: PositionConfig | None = key(FUNCTION, default=None)

    @property
    def knows_positions(self) -> bool:
        """Whether the order of tokens enters here."""
        return self.rope is not None

    def size_of_head(self, hidden_size: int) -> int:
        """Raises: ConfigError if ``hidden_size`` does not divide into heads."""
        if self.head_dim is not None:
            return self.head_dim
        if hidden_size % self.num_heads:
            raise ConfigError(
                "num_heads", f"must divide hidden_size {hidden_size}, got {self.num_heads}"
            )
        return hidden_size // self.num_heads

    def check(self, hidden_size: int, num_layers: int) -> None:
        """Raises: ConfigError if it cannot serve a model of this width and depth."""
        head_dim = self.size_of_head(hidden_size)
        with config_errors_under("windows"):
            self.windows.check(num_layers)
        if self.rope is not None:
            with config_errors_under("rope"):
                self.rope.check(head_dim, self.windows.distinct)

    @abstractmethod
    def build(self, hidden_size: int, layer: LayerPlan) -> nn.Module:
        """A module from hidden states ``[N, C]``, a packed batch and a rotation to ``[N, C]``."""


class MLPConfig(Component, ABC, family="mlp"):
    @abstractmethod
    def build(self, hidden_size: int) -> nn.Module:
        """A module from ``[N, C]`` to ``[N, C]``."""


class BlockConfig(Component, ABC, family="block"):
    """How norms and residuals surround attention and MLP."""

    # Whether a layer's output is normalised, so that a final norm would normalise it twice.
    ends_with_norm: ClassVar[bool] = False

    def skips_attention_norm(self, index: int) -> bool:
        """Whether the attention of layer ``index`` reads the residual stream as it is."""
        return False

    @abstractmethod
    def build(self, model: ModelConfig, layer: LayerPlan) -> nn.Module:
        """One encoder layer: a module from hidden states ``[N, C]``, a packed batch and a rotation
        to ``[N, C]``."""


class HeadConfig(Component, ABC, family="head"):
    """What is predicted from hidden states."""

    task: ClassVar[str]
    # Whether there are logits for each token, and not for each sequence.
    per_token: ClassVar[bool] = True
    # Whether a sequence is one of several choices, and has one score.
    per_choice: ClassVar[bool] = False
    # What a new head takes over from one that has it too: fields, and modules with their weights.
    shared_fields: ClassVar[tuple[str, ...]] = ()
    shared_modules: ClassVar[tuple[str, ...]] = ()

    @property
    def pooled(self) -> Pooling | None:
        """How a sequence becomes one vector before the head, if it does."""
        return None

    def check(self, model: ModelConfig) -> None:
        """Raises: ConfigError if the head does not fit the rest of the model."""
        return None

    @abstractmethod
    def build(self, model: ModelConfig) -> nn.Module:
        """A module from hidden states ``[M, C]`` to logits.

        One with logits for each sequence that does not have them pooled gets all hidden states and
        the packed batch. That of a masked-LM head, whose ``task`` is ``masked_lm``, gives what its
        decoder reads, and has a method ``logits(hidden, token_matrix)`` that gives
        :class:`~flexbert.nn.logits.DeferredLogits`.
        """


class InitConfig(Component, ABC, family="init"):
    def check(self, model: ModelConfig) -> None:
        """Raises: ConfigError if the scheme does not fit the model."""
        return None

    @abstractmethod
    def apply(self, module: nn.Module, model: ModelConfig) -> None:
        """Fill every parameter of a built model in place."""


@dataclass(frozen=True, kw_only=True)
class LayerConfig(Node):
    """Other parts of some layers; null keeps the model's own.

    Attributes:
        block: how norms and residuals surround attention and MLP.
        attention: what mixes tokens.
        mlp: what transforms each token.
    """

    block: BlockConfig | None = key(FUNCTION, default=None)
    attention: AttentionConfig | None = key(FUNCTION, default=None)
    mlp: MLPConfig | None = key(FUNCTION, default=None)


@dataclass(frozen=True, kw_only=True)
class LayerParts:
    """The parts that a layer is built of."""

    block: BlockConfig
    attention: AttentionConfig
    mlp: MLPConfig


@dataclass(frozen=True)
class LayerPlan:
    """One layer of the plan.

    Args:
        index: counted from 0.
        parts: what it is built of.
        attention: ``global`` layers see the whole document, ``local`` ones a window.
        window: total width of the window, even: a query sees the keys with
            ``|q - k| <= window // 2``. None in a global layer.
        theta: rotary base, None without rotary embeddings.
        head_dim: size of a head.
        skip_attention_norm: whether attention reads the residual stream as it is.
    """

    index: int
    parts: LayerParts
    attention: AttentionKind
    window: int | None
    theta: float | None
    head_dim: int
    skip_attention_norm: bool

    @property
    def attention_size(self) -> int:
        """The size of all heads together."""
        return self.parts.attention.num_heads * self.head_dim


@dataclass(frozen=True, kw_only=True)
class ModelConfig(Node):
    """An encoder with a head; each part is a node of its own.

    Attributes:
        name: of the architecture. In a recipe a model of another name replaces this one whole, as
            any node does, so that a published encoder may be included over another.
        vocab_size: rows of the token matrix; at least as many as the tokenizer has entries.
        hidden_size: width of the residual stream.
        num_layers: how many encoder layers there are.
        embedding: from tokens to hidden states.
        block: how norms and residuals surround attention and MLP.
        attention: what mixes tokens.
        mlp: what transforms each token.
        layers: other parts for some layers, by their numbers: ``"0-2"``, ``"-1"``, ``"0,3-5"``.
        final_norm: after the last layer; null is none.
        head: what is predicted from hidden states.
        init: how a new model's parameters get their values.
    """

    name: str = key(OPERATIONAL, default="custom", compare=False)
    vocab_size: int = key(FUNCTION, above=0)
    hidden_size: int = key(FUNCTION, above=0)
    num_layers: int = key(FUNCTION, above=0)
    embedding: EmbeddingConfig = key(FUNCTION)
    block: BlockConfig = key(FUNCTION)
    attention: AttentionConfig = key(FUNCTION)
    mlp: MLPConfig = key(FUNCTION)
    layers: dict[str, LayerConfig] = key(FUNCTION, default_factory=dict)
    final_norm: NormConfig | None = key(FUNCTION)
    head: HeadConfig = key(FUNCTION)
    init: InitConfig = key(COMPUTATION, scope=FIRST_STAGE)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_sizes()
        self._check_layer_ranges()
        self._check_attention()
        with config_errors_under("embedding"):
            self.embedding.check(self.hidden_size)
        last_block = self.layer(self.num_layers - 1).block
        if self.final_norm is not None and last_block.ends_with_norm:
            raise ConfigError(
                "final_norm", f"{last_block.name} already ends each layer with a norm: give null"
            )
        with config_errors_under("head"):
            self.head.check(self)
        with config_errors_under("init"):
            self.init.check(self)

    def layer(self, index: int) -> LayerParts:
        """The parts of layer ``index``: the model's own, or what ``layers`` says instead."""
        parts = LayerParts(block=self.block, attention=self.attention, mlp=self.mlp)
        for which, other in self.layers.items():
            if index in LayerRange.parse(which).indices(self.num_layers):
                given = {
                    field.name: value
                    for field in dataclasses.fields(other)
                    if (value := getattr(other, field.name)) is not None
                }
                parts = dataclasses.replace(parts, **given)
        return parts

    def _check_sizes(self) -> None:
        """Refuse what no machine could plan, let alone hold: it would be worked at without end."""
        if self.num_layers > MOST_LAYERS:
            raise ConfigError("num_layers", f"{self.num_layers} is more than {MOST_LAYERS}")
        for leaf in leaves(self):
            if isinstance(leaf.value, int) and leaf.value > LARGEST_SIZE:
                raise ConfigError(leaf.path, f"{leaf.value} is more than {LARGEST_SIZE}")

    def _check_layer_ranges(self) -> None:
        taken: dict[tuple[str, int], str] = {}
        for which, other in self.layers.items():
            try:
                indices = LayerRange.parse(which).indices(self.num_layers)
            except ValueError as error:
                raise ConfigError(f"layers.{which}", str(error)) from None
            families = [f.name for f in dataclasses.fields(other) if getattr(other, f.name)]
            if not families:
                raise ConfigError(
                    f"layers.{which}", "changes nothing: give block, attention or mlp"
                )
            for index in indices:
                for family in families:
                    first = taken.setdefault((family, index), which)
                    if first != which:
                        raise ConfigError(
                            f"layers.{which}.{family}", f"layer {index} has one from {first!r} too"
                        )

    def _check_attention(self) -> None:
        nodes = {"attention": self.attention} | {
            f"layers.{key}.attention": other.attention
            for key, other in self.layers.items()
            if other.attention is not None
        }
        for where, attention in nodes.items():
            with config_errors_under(where):
                attention.check(self.hidden_size, self.num_layers)
        knows_positions = self.embedding.knows_positions or any(
            self.layer(index).attention.knows_positions for index in range(self.num_layers)
        )
        if not knows_positions:
            raise ConfigError(
                "attention.rope",
                "nothing tells the model in which order tokens stand: give rope or alibi here, or "
                "positions to the embedding",
            )
