"""What other frameworks call our keys and names, for the hints of messages about unknown ones.

The names are those of transformers, Composer and LLM Foundry, timm, PyTorch and the papers. Nothing
is accepted because of this table: a recipe has one spelling.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from flexbert.errors import did_you_mean

# Ours, by its dotted path, and others' for it.
_KEYS = {
    "batch.microbatch_rows": "device_train_microbatch_size gradient_accumulation_steps "
    "micro_batch_size microbatch_size per_device_train_batch_size",
    "batch.size": "batch_size global_batch_size global_train_batch_size train_batch_size",
    "batch.warmup": "batch_size_schedule batch_size_warmup",
    "checkpoints.interval": "save_interval save_steps",
    "checkpoints.keep": "save_num_checkpoints_to_keep save_total_limit",
    "compile": "compile_config torch_compile",
    "data.mask_rate": "mask_prob masking_rate masking_ratio mlm_prob mlm_probability",
    "data.max_length": "context_length max_position_embeddings max_seq_len max_seq_length "
    "max_seqlen model_max_length seq_len seq_length sequence_length",
    "data.num_workers": "dataloader_num_workers",
    "data.path": "corpus data_local data_path dataset local",
    "data.sources": "datasets mixture streams",
    "deterministic": "deterministic_mode use_deterministic_algorithms",
    "duration": "epochs max_duration max_steps max_tokens num_epochs num_train_epochs train_steps",
    "evaluation": "eval eval_loader evaluators",
    "evaluation.interval": "eval_interval eval_steps",
    "evaluation.microbatch_rows": "device_eval_batch_size eval_batch_size "
    "per_device_eval_batch_size",
    "init_from.checkpoint": "from_pretrained pretrained pretrained_model_name "
    "pretrained_model_name_or_path",
    "logging.interval": "console_log_interval log_interval logging_steps",
    "logging.wandb": "loggers report_to",
    "loss.label_smoothing": "label_smoothing_factor smoothing",
    "loss.z_loss": "z_loss_coef z_loss_weight",
    "model.attention.backend": "attention_implementation attn_impl attn_implementation",
    "model.attention.bias": "attention_bias attn_qkv_bias qkv_bias",
    "model.attention.dropout": "attention_dropout attention_probs_dropout_prob attn_drop "
    "attn_dropout attn_pdrop",
    "model.attention.head_dim": "d_head d_kv head_size",
    "model.attention.num_heads": "heads n_head n_heads num_attention_heads",
    "model.attention.num_kv_heads": "kv_heads kv_n_heads n_kv_heads num_key_value_heads",
    "model.attention.qk_norm": "qk_ln qk_layernorm use_qk_norm",
    "model.attention.rope": "position_embedding_type rotary",
    "model.attention.rope.fraction": "partial_rotary_factor rope_fraction rotary_pct",
    "model.attention.rope.scaling": "rope_parameters rope_scaling",
    "model.attention.rope.theta": "base global_rope_theta local_rope_theta rope_base rope_theta "
    "rotary_emb_base rotary_emb_scale_base",
    "model.attention.windows": "attention_window global_attn_every_n_layers layer_types "
    "local_attention sliding_window window window_size",
    "model.block.norm": "norm_layer norm_type normalization",
    "model.block.norm.bias": "norm_bias",
    "model.block.norm.eps": "layer_norm_eps layernorm_eps norm_eps rms_norm_eps",
    "model.embedding.dropout": "embd_pdrop embed_dropout embedding_dropout",
    "model.head.num_labels": "num_classes",
    "model.head.tied": "tie_embeddings tie_word_embeddings weight_tying",
    "model.hidden_size": "d_model dim embed_dim hidden_dim n_embd width",
    "model.init": "init_config init_method initializer",
    "model.init.std": "init_std initializer_range",
    "model.mlp.activation": "act act_fn act_layer activation_function hidden_act hidden_activation",
    "model.mlp.bias": "mlp_bias",
    "model.mlp.dropout": "ffn_dropout mlp_dropout",
    "model.mlp.intermediate_size": "d_ff dim_feedforward expansion_ratio ffn_dim ffn_hidden_size "
    "mlp_dim mlp_ratio n_inner",
    "model.mlp.output_dropout": "hidden_dropout hidden_dropout_prob resid_pdrop",
    "model.num_layers": "depth n_layer n_layers num_hidden_layers",
    "model.vocab_size": "num_embeddings vocabulary_size",
    "moving_average": "ema",
    "moving_average.decay": "ema_decay smoothing_factor",
    "optimizer": "optim optimizers",
    "optimizer.betas": "adam_beta1 adam_beta2 adam_betas beta beta1 beta2",
    "optimizer.clip_norm": "clip_grad clip_grad_norm clipping_threshold grad_clip "
    "gradient_clip_val gradient_clipping max_grad_norm",
    "optimizer.eps": "adam_eps adam_epsilon epsilon",
    "optimizer.lr": "base_lr learning_rate lr_max max_learning_rate max_lr peak_lr",
    "optimizer.weight_decay": "l2 wd",
    "precision": "bf16 dtype fp16 mixed_precision torch_dtype",
    "run_name": "exp_name experiment experiment_name",
    "runs_folder": "log_dir output_dir save_dir save_folder",
    "schedule": "lr_schedule lr_scheduler lr_scheduler_type scheduler schedulers",
    "schedule.decay": "cooldown decay_steps t_decay",
    "schedule.final_fraction": "alpha_f end_lr_ratio min_lr min_lr_ratio",
    "schedule.warmup": "lr_warmup num_warmup_steps t_warmup warmup warmup_epochs warmup_ratio "
    "warmup_steps",
    "seed": "global_seed random_seed",
    "start_from": "load_path resume resume_from resume_from_checkpoint",
}
# A component's name or another value, and others' for it.
_NAMES = {
    "adamw": "adam adam_w adamw_torch adamw_torch_fused fused_adamw",
    "amp_bf16": "amp amp_fp16 bf16 bfloat16 fp16 bf16_mixed",
    "cls": "cls_token first",
    "constant": "none",
    "cosine": "cosine_annealing cosine_decay cosine_with_warmup",
    "cross_entropy": "ce cross_entropy_loss crossentropy fa_cross_entropy",
    "decoupled_adamw": "decoupledadamw",
    "flash_attn_2": "fa2 flash flash2 flash_attention flash_attention_2 flash_attn",
    "flash_attn_3": "fa3 flash3 flash_attention_3",
    "fp32": "float float32 full no",
    "gelu_quick": "quick_gelu",
    "gelu_tanh": "gelu_fast gelu_new gelu_pytorch_tanh",
    "global": "full full_attention",
    "glu": "geglu gated gated_mlp reglu swiglu",
    "identity": "linear",
    "inverse_sqrt": "inv_sqrt rsqrt",
    "kaiming": "he kaiming_normal",
    "layernorm": "layer_norm ln low_precision_layernorm",
    "learned": "absolute",
    "local": "sliding sliding_attention",
    "mean": "average avg mean_pooling",
    "mlm": "masked_lm",
    "mlp": "ffn feed_forward",
    "multi_head": "gqa mha mqa multihead self_attention",
    "one_minus_sqrt": "1-sqrt 1_sqrt sqrt",
    "post_norm": "post post_ln postln postnorm",
    "pre_norm": "pre pre_ln preln prenorm",
    "reference": "eager math",
    "relu_squared": "relu2 squared_relu",
    "rmsnorm": "low_precision_rmsnorm rms rms_norm",
    "rope": "rotary",
    "sandwich": "sandwich_norm",
    "sdpa": "torch_sdpa",
    "silu": "swish",
    "stable_adamw": "stableadam stable_adam stableadamw",
    "torch_varlen": "flex varlen",
    "trapezoidal": "linear linear_decay_with_warmup trapezoid warmup_stable_decay wsd",
    "truncated_normal": "trunc_normal",
    "yarn": "yarn_scaling",
}


def _by_other_name(table: dict[str, str]) -> dict[str, list[str]]:
    """Ours for each name of others."""
    found: dict[str, list[str]] = {}
    for ours, others in table.items():
        for other in others.split():
            found.setdefault(other, []).append(ours)
    return found


KEYS_OF, NAMES_OF = _by_other_name(_KEYS), _by_other_name(_NAMES)
_MOST_KEYS = 3


def key_hint(node: Sequence[str], given: str, known: Collection[str], keys: Iterable[str]) -> str:
    """What a message about an unknown key adds: the key that was meant, and those of the node.

    Args:
        node: path of the node that the key was given in.
        known: the node's keys.
        keys: dotted path of every key of the config, ``*`` for one name of a mapping.
    """
    meant = _meant(node, given, known, list(keys))
    if not meant:
        return did_you_mean(given, known)
    return f"did you mean {' or '.join(meant)}? (known: {', '.join(sorted(known))})"


def _meant(
    node: Sequence[str], given: str, known: Collection[str], keys: Sequence[str]
) -> list[str]:
    here = "".join(f"{part}." for part in node)
    own = [f"{here}{leaf}" for leaf in map(_leaf, KEYS_OF.get(_plain(given), ())) if leaf in known]
    if own:
        return own[:1]
    others = [key for key in KEYS_OF.get(_plain(given), ()) if key in keys]
    # One of ours, in another node.
    same = [key for key in dict.fromkeys(keys) if _leaf(key) == given and "*" not in key]
    below = [key for key in same if here and key.startswith(here)]
    return (others or below or same)[:_MOST_KEYS]


def name_hint(given: str, known: Iterable[str]) -> str:
    """What a message about an unknown name or value adds: the one that was meant, and all."""
    names = sorted(known)
    meant = next((ours for ours in NAMES_OF.get(_plain(given), ()) if ours in names), None)
    if meant is None:
        return did_you_mean(given, names)
    return f"did you mean {meant!r}? (known: {', '.join(names)})"


def _leaf(key: str) -> str:
    return key.rpartition(".")[2]


def _plain(name: str) -> str:
    """As the table spells it."""
    return name.lower().replace("-", "_")
