"""The masked-LM as Composer sees it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from composer.models import ComposerModel
from torch import Tensor, nn
from torchmetrics import Metric

from flexbert.config.model import ModelConfig
from flexbert.config.recipe import Precision, Recipe
from flexbert.config.training import LossConfig
from flexbert.errors import ConfigError
from flexbert.nn.build import fill
from flexbert.nn.compilation import CompileError, check_it_runs, compile_model, loss_problem
from flexbert.nn.cross_entropy import TokenScores, token_scores
from flexbert.nn.logits import DeferredLogits
from flexbert.nn.loss import LossFunction, as_loss
from flexbert.nn.masked_lm import MaskedLM
from flexbert.nn.packed_batch import PackedBatch
from flexbert.pretrained.warm_start import init_from
from flexbert.train.masked_metrics import MaskedAccuracy, MaskedLoss

Microbatch = dict[str, Any]


class ComposerMaskedLM(MaskedLM, ComposerModel):
    """:class:`MaskedLM` behind Composer's interface.

    It inherits where it could wrap, so that the names of its parameters carry no prefix, in
    checkpoints and in optimizer states. Autocast happens here and Composer is told fp32, because
    Composer refuses bf16 on a CPU.
    """

    def __init__(self, config: ModelConfig, precision: Precision, loss: LossConfig) -> None:
        super().__init__(config)
        self.loss_function: LossFunction = as_loss(loss)
        self.autocast_enabled = precision == "amp_bf16"

    def forward(self, batch: Microbatch) -> DeferredLogits:  # type: ignore[override]
        """Logits ``[M, V]`` at the masked positions of one micro-batch, to be computed."""
        packed = PackedBatch(
            tokens=batch["input_ids"],
            cu_seqlens=batch["cu_seqlens"],
            max_seqlen=batch["max_seqlen"],
            position_ids=batch["position_ids"],
        )
        device = packed.tokens.device.type
        with torch.autocast(device, torch.bfloat16, enabled=self.autocast_enabled):
            return self.deferred_logits(packed, batch["masked_positions"])

    def loss(self, outputs: DeferredLogits, batch: Microbatch) -> Tensor:
        """Mean over this micro-batch's masked tokens.

        Composer weights it, so that the sum is the mean over the global batch: see
        :func:`flexbert.train.trainer.stage_trainer`.
        """
        return self.loss_function(outputs, batch["labels"])

    def eval_forward(self, batch: Microbatch, outputs: TokenScores | None = None) -> TokenScores:
        """Computed once, for all metrics."""
        return token_scores(self(batch), batch["labels"]) if outputs is None else outputs

    def get_metrics(self, is_train: bool = False) -> dict[str, Metric]:
        return {} if is_train else {"loss": MaskedLoss(), "accuracy": MaskedAccuracy()}

    def update_metric(self, batch: Microbatch, outputs: TokenScores, metric: Metric) -> None:
        metric.update(outputs)


def compile_as_asked(model: ComposerMaskedLM, recipe: Recipe) -> str:
    """Compile what the recipe asks for, in place.

    Returns:
        What torch.compile does and does not, and why.

    Raises:
        ConfigError: if ``compile: always`` cannot be done, or the model cannot run here at all.
    """
    check_it_runs(model, model.autocast_enabled)
    device = next(model.parameters()).device
    if recipe.compile == "never" or (recipe.compile == "auto" and device.type != "cuda"):
        return f"off (compile: {recipe.compile}, device: {device.type})"
    try:
        left_out = compile_model(model, model.autocast_enabled)
    except CompileError as error:
        left_out = {"everything": str(error)}
    else:
        plain = as_loss(recipe.loss)
        loss = plain.compiled()
        # One that is as it was has nothing to be tried.
        is_new = loss is not plain
        reason = loss_problem(loss, device, model.autocast_enabled) if is_new else None
        if reason is None:
            model.loss_function = loss
        else:
            left_out["loss"] = reason
    if not left_out:
        return "on"
    reasons = "; ".join(f"{name} runs uncompiled: {why}" for name, why in left_out.items())
    if recipe.compile == "always":
        raise ConfigError("compile", f"always cannot be done here: {reasons}")
    return reasons


def make_model(
    recipe: Recipe, tokenizer: Mapping[str, str], *, fresh: bool
) -> tuple[ComposerMaskedLM, list[str]]:
    """A stage's model, and notes on where its weights are from.

    Args:
        tokenizer: of the corpus, file name to text.
        fresh: draw its weights, or take them from where the recipe says. Otherwise they are
            loaded later, and are zero until then.

    Raises:
        UserError: if it cannot take its weights from where the recipe says.
    """
    with torch.device("meta"):
        model = ComposerMaskedLM(recipe.model, recipe.precision, recipe.loss)
    if not fresh:
        return model.to_empty(device="cpu").apply(_zero), []
    fill(model, recipe.model)
    if recipe.init_from is None:
        return model, []
    return model, init_from(model, recipe.model, recipe.init_from, tokenizer)


@torch.no_grad()
def _zero(module: nn.Module) -> None:
    for parameter in module.parameters(recurse=False):
        parameter.zero_()
