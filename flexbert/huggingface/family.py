"""What a Hugging Face architecture has to say for itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from flexbert.config.decode import decode
from flexbert.config.encode import encode
from flexbert.config.layer_windows import GLOBAL
from flexbert.config.model import MASKED_LM as MASKED_LM
from flexbert.config.model import ModelConfig
from flexbert.errors import ConfigError, UserError
from flexbert.huggingface.config_keys import Expressed, Leaves, Tables, express, leaves_of, nest
from flexbert.huggingface.parameter_names import NameTable, Sizes, to_theirs

SEQUENCE = "sequence_classification"
TOKEN = "token_classification"
CHOICE = "multiple_choice"
ANSWER = "question_answering"

# A model gets at most this many of anything that a config counts, before any of it is made.
LARGEST_SIZE = 2**28
# The one number that may be larger without costing anything.
LARGEST_THETA = 2**60


@dataclass(frozen=True)
class Facts:
    """What a config says beyond the model's own.

    Args:
        special_ids: role (``pad``, ``cls``, ``mask``, ...) to token id, as the tokenizer has them.
        max_length: the longest document, in tokens.
    """

    special_ids: Mapping[str, int | None]
    max_length: int


def is_tied(model: ModelConfig) -> bool:
    """Whether the decoder's matrix is the embedding's."""
    return bool(getattr(model.head, "tied", False))


class Family(ABC):
    """An architecture of transformers, with each of the heads that it has there.

    Attributes:
        model_type: theirs, in ``config.json``.
        prefix: what the encoder's tensors are named under in a model with a head.
        older_prefix: what they are named under in a release from before transformers had the
            architecture.
        classes: for each task the class of transformers.
        base_class: the class of the encoder alone.
        also_masked_lm: classes with the masked-LM head and more.
        special_keys: config key to the tokenizer's roles, of which the first that is there counts.
        init: name of the initialisation that their config describes, and its values by default.
        older_defaults: keys that only transformers 4.57 has, with its defaults, and those that
            take their place in 5 as None. The tables speak of the older ones.
        zero_biases: our fields that say whether there is a bias, to the name of one that
            transformers always has. One of zeros is none of ours.
    """

    model_type: ClassVar[str]
    title: ClassVar[str]
    prefix: ClassVar[str]
    older_prefix: ClassVar[str | None] = None
    classes: ClassVar[Mapping[str, str]]
    base_class: ClassVar[str]
    also_masked_lm: ClassVar[tuple[str, ...]] = ()
    special_keys: ClassVar[Mapping[str, tuple[str, ...]]]
    init: ClassVar[Mapping[str, Any]]
    older_defaults: ClassVar[Mapping[str, Any]] = {}
    zero_biases: ClassVar[Mapping[str, str]] = {}

    @abstractmethod
    def tables(self, task: str, pad_id: int | None) -> Tables:
        """How the config of a model for ``task`` is written."""

    @abstractmethod
    def names(self, task: str) -> NameTable:
        """Our tensors' names and theirs."""

    def sizes(self, model: ModelConfig) -> Sizes:
        """Rows of those tensors of theirs that are parts of one of ours and not of equal size."""
        return {}

    def rearranged(self, name: str, tensor: Tensor) -> Tensor:
        """A tensor of theirs as ours, and one of ours as theirs."""
        return tensor

    def repeated(self, task: str, tied: bool) -> Mapping[str, str]:
        """Tensors that a folder may hold again, to the names of those that they repeat."""
        return {}

    def weights(self, state: Mapping[str, Tensor], model: ModelConfig) -> dict[str, Tensor]:
        """The tensors of a folder, of a model's state dict, in memory of their own."""
        task = model.head.task
        weights = to_theirs(state, self.names(task), self.sizes(model))
        weights = {name: self.rearranged(name, tensor) for name, tensor in weights.items()}
        if not is_tied(model):
            # transformers 5 ties the bias of a decoder only where it ties the decoder.
            repeated = self.repeated(task, tied=False)
            weights |= {again: weights[name].clone() for again, name in repeated.items()}
        return weights

    def left_out(self, task: str) -> tuple[str, ...]:
        """What else a folder may hold, of which nothing in the model for ``task`` is made."""
        return ()

    def refused(self, config: Mapping[str, Any]) -> Mapping[str, Any]:
        """Keys of ``config.json`` that would change what is computed, with the only value known."""
        return {}

    # What tables cannot say; a family has of these what it needs.

    def adapt_ours(self, leaves: Leaves) -> None:  # noqa: B027
        """Bring a config of ours into the form that the tables speak of, in place."""

    def adapt_theirs(self, config: dict[str, Any], given: frozenset[str]) -> None:  # noqa: B027
        """Bring a ``config.json`` into the form that the tables speak of, in place.

        Args:
            given: the keys that the file has; the others have values by default.

        Raises:
            ValueError: if its keys contradict each other.
        """

    def finish_ours(self, leaves: Leaves) -> None:  # noqa: B027
        """Turn what the tables made of a ``config.json`` into a config of ours, in place."""

    def add_newer_keys(self, config: dict[str, Any]) -> None:  # noqa: B027
        """Say in transformers 5's keys, in place, what those of ``older_defaults`` say."""

    def finish_theirs(self, config: dict[str, Any], facts: Facts) -> None:  # noqa: B027
        """Add what the tables cannot say to a ``config.json``, in place."""

    def training_notes(self, leaves: Leaves) -> list[str]:
        """Differences that only matter in training."""
        return []

    def express(self, model: ModelConfig, facts: Facts) -> Expressed:
        """A model's config as a ``config.json``, with what stands in the way."""
        leaves = leaves_of(encode(model))
        del leaves["name"]
        _list_windows(leaves, model)
        note = self._adapt_common(leaves)
        names = leaves.pop("head.labels", None)
        self.adapt_ours(leaves)
        task = model.head.task
        pad_id = facts.special_ids.get("pad")
        result = express(leaves, self.tables(task, pad_id))
        if note is not None:
            result.notes.append(note)
        result.notes += self.training_notes(leaves)
        if not result.problems:
            self.add_newer_keys(result.config)
            self._add_common(result.config, task, facts, names)
            self.finish_theirs(result.config, facts)
        return result

    def _adapt_common(self, leaves: Leaves) -> str | None:
        heads = leaves.get("attention.num_heads")
        if leaves.get("attention.num_kv_heads") == heads:
            leaves["attention.num_kv_heads"] = None
        if leaves.get("attention.head_dim") == leaves["hidden_size"] / (heads or 1):
            leaves["attention.head_dim"] = None
        for part in ("attention", "mlp"):
            if leaves.get(f"{part}.output_bias") == leaves.get(f"{part}.bias"):
                leaves[f"{part}.output_bias"] = None
        if leaves.get("head.activation") == "identity":
            leaves["head.activation"] = None
        own = {path: value for path, value in leaves.items() if path.startswith("init.")}
        if own.keys() == self.init.keys() and own["init.name"] == self.init["init.name"]:
            return None
        for path in own:
            del leaves[path]
        leaves.update(self.init)
        leaves["init.std"] = own.get("init.std", self.init["init.std"])
        return f"model.init {own['init.name']} is not kept; it only matters for new weights"

    def _add_common(
        self, config: dict[str, Any], task: str, facts: Facts, names: Sequence[str] | None
    ) -> None:
        labels = config.pop("num_labels", None)
        if labels is not None:
            names = names or _unnamed(labels)
            config["id2label"] = {str(index): name for index, name in enumerate(names)}
            config["label2id"] = {name: index for index, name in enumerate(names)}
        for key, roles in self.special_keys.items():
            given = [facts.special_ids.get(role) for role in roles]
            config[key] = next((value for value in given if value is not None), None)
        config |= {
            "architectures": [self.classes[task]],
            "dtype": "float32",
            "model_type": self.model_type,
        }

    def fixed_init(self) -> dict[str, Any]:
        return {key: self.init[key] for key in ("init.name", "init.small_embedding")}

    def read_config(self, config: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
        """A ``config.json`` with every key that the tables name, in the form they speak of.

        Args:
            defaults: what transformers takes for the keys that the file does not have.

        Raises:
            UserError: naming the key that has no counterpart here.
        """
        raw = {**defaults, **config}
        try:
            self.adapt_theirs(raw, frozenset(config))
        except ValueError as error:
            raise UserError(str(error)) from None
        for key, only in self.refused(raw).items():
            if raw.get(key, only) != only:
                raise UserError(f"{key} {raw[key]!r}: only {only!r} is known here")
        return raw

    def to_model(self, raw: Mapping[str, Any], task: str) -> ModelConfig:
        """The model that a ``config.json`` describes, as :meth:`read_config` gives it.

        Raises:
            UserError: naming a key with a wrong value.
        """
        pad_id = raw.get("pad_token_id")
        tables = self.tables(task, pad_id if isinstance(pad_id, int) else None)
        leaves: Leaves = {**self.init, **tables.fixed, **tables.only_training, **tables.ignored}
        for key in tables.keys:
            value = raw[key.name]
            largest = LARGEST_THETA if key.name.endswith("theta") else LARGEST_SIZE
            if isinstance(value, int) and abs(value) > largest:
                raise UserError(f"{key.name}: {value} is no sensible value")
            try:
                leaves |= dict.fromkeys(key.paths, key.to_ours(value))
            except ValueError as error:
                raise UserError(f"{key.name}: {error}") from None
        if task in (SEQUENCE, TOKEN):
            leaves["head.labels"] = _names_of_labels(raw.get("id2label"))
        try:
            self.finish_ours(leaves)
            return decode(ModelConfig, {"name": self.model_type, **nest(leaves)})
        except ConfigError as error:
            # A check on several fields names the one that holds them, which no key is.
            names = [key.name for key in tables.keys if error.path in key.paths]
            raise UserError(f"{names[0]}: {error.problem}" if names else f"model.{error}") from None
        except TypeError as error:
            raise UserError(f"a value has the wrong type ({error})") from None


def _unnamed(count: int) -> list[str]:
    """What transformers calls labels that have no names."""
    return [f"LABEL_{index}" for index in range(count)]


def _names_of_labels(id2label: Any) -> list[str] | None:
    """The names of labels in the order of their numbers; None where they have none."""
    if not isinstance(id2label, Mapping):
        return None
    names = {str(index): str(name) for index, name in id2label.items()}
    ordered = [names.get(str(index), "") for index in range(len(names))]
    is_named = ordered != _unnamed(len(ordered)) and len(set(ordered)) == len(ordered)
    return ordered if is_named and "" not in ordered else None


def _list_windows(leaves: Leaves, model: ModelConfig) -> None:
    """One leaf for every way to write windows: ``global``, or a list with one for each layer."""
    for path in [path for path in leaves if path.startswith("attention.windows")]:
        del leaves[path]
    of = model.attention.windows.of
    windows = [of(index, model.num_layers) or GLOBAL for index in range(model.num_layers)]
    leaves["attention.windows"] = GLOBAL if set(windows) == {GLOBAL} else windows
