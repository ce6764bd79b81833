"""A tiny model of any type that transformers knows, with random weights: nothing is downloaded.

A type's own default configuration is shrunk by the names of its sizes; where that is no model, the
type has lines of its own below.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

WIDTH, LAYERS, HEADS, HEAD_SIZE, VOCABULARY = 128, 4, 4, 32, 128
"""vLLM's CPU attention wants a head size of 32."""
_BY_SIZE: tuple[tuple[int, str], ...] = (
    (
        WIDTH,
        "hidden_size d_model n_embd dim_model word_embed_proj_dim embedding_size lru_width "
        "emb_dim embedding_dim input_embedding_size output_embedding_size",
    ),
    (
        256,
        "intermediate_size ffn_dim decoder_ffn_dim encoder_ffn_dim ffn_hidden_size dff d_inner "
        "dim_ff feed_forward_size max_position_embeddings n_positions n_ctx max_seq_len",
    ),
    (
        64,
        "moe_intermediate_size shared_expert_intermediate_size shared_intermediate_size "
        "expert_ffn_hidden_size moe_shared_expert_intermediate_size",
    ),
    (
        LAYERS,
        "num_hidden_layers n_layer n_layers num_layers decoder_layers encoder_layers "
        "num_blocks depth num_encoder_layers num_decoder_layers",
    ),
    (
        HEADS,
        "num_attention_heads n_head n_heads num_heads decoder_attention_heads "
        "encoder_attention_heads num_encoder_attention_heads num_decoder_attention_heads "
        "attention_heads linear_num_value_heads num_experts num_local_experts n_routed_experts "
        "moe_num_experts",
    ),
    (
        2,
        "num_key_value_heads kv_n_heads num_kv_heads num_experts_per_tok num_experts_per_token "
        "moe_topk moe_top_k moe_k linear_num_key_heads index_n_heads",
    ),
    (
        1,
        "n_group topk_group n_shared_experts num_shared_experts first_k_dense_replace "
        "num_expert_group",
    ),
    (
        HEAD_SIZE,
        "head_dim dim_head d_head attention_head_size q_lora_rank kv_lora_rank o_lora_rank "
        "v_head_dim qk_head_dim linear_key_head_dim linear_value_head_dim index_head_dim "
        "mamba_d_head mamba_head_dim mamba_headdim hidden_size_per_layer_input",
    ),
    (16, "qk_nope_head_dim qk_rope_head_dim mamba_d_state state_size ssm_state_size"),
    (8, "mamba_n_heads mamba_num_heads"),
    (VOCABULARY, "vocab_size vocab_size_per_layer_input decoder_vocab_size"),
)
SIZES = {name: size for size, names in _BY_SIZE for name in names.split()}
LARGEST = 50_000_000
"""Parameters of what is still called tiny."""
OFTEN_NONE = ("head_dim", "num_key_value_heads", "n_routed_experts", "n_group", "topk_group")
"""Sizes that a default leaves open, though a model needs them."""
IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}

_LATENT = {"head_dim": 16, "num_key_value_heads": HEADS}  # of the part with positions
_LATENT_TYPES = (
    *("axk1", "axk2", "deepseek_v2", "deepseek_v3", "deepseek_v32", "glm4_moe_lite"),
    *("glm_moe_dsa", "longcat_flash", "youtu"),
)
_HYBRID = {"layer_types": ["conv", "full_attention"] * 2, "full_attn_idxs": None}
OF_A_TYPE: dict[str, dict[str, Any]] = {
    **dict.fromkeys(_LATENT_TYPES, _LATENT),
    "lfm2": _HYBRID,
    "lfm2_moe": _HYBRID,
    "falcon": {"ffn_hidden_size": 4 * WIDTH, "num_kv_heads": 1},
    "falcon_h1": {"mamba_d_ssm": 256},
    "mamba2": {"num_heads": 8},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]], "attention_layers": None},
    "zaya": {"num_experts_per_tok": 1},
    "reformer": {"is_decoder": True},
    "dbrx": {
        "attn_config": {"kv_n_heads": 2},
        "ffn_config": {"ffn_hidden_size": 256, "moe_num_experts": 4, "moe_top_k": 2},
    },
    "gemma3n_text": {
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "num_kv_shared_layers": 0,
        "activation_sparsity_pattern": [0.0] * LAYERS,
    },
}
DERIVED = ("model_type", "transformers_version", "architectures")


def make(model_type: str, folder: Path, **settings: Any) -> Path:
    """Save a model of a type under `folder`.

    Args:
        model_type: As in `config.json`.
        folder: Where to.
        **settings: Of its configuration, in place of the tiny ones.

    Returns:
        `folder`.

    Raises:
        ValueError: It would not be tiny.
    """
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    kind = CONFIG_MAPPING[model_type]
    sizes = {**shrunk(kind().to_dict()), **OF_A_TYPE.get(model_type, {}), **settings}
    config = kind(**{key: value for key, value in sizes.items() if key not in DERIVED})
    with torch.device("meta"):
        size = AutoModelForCausalLM.from_config(config).num_parameters()
    if size > LARGEST:
        raise ValueError(f"{size:,} parameters, though its sizes were shrunk")
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():  # so that what attention sees moves the log-probs by tenths of a nat
        for parameter in model.parameters():
            if parameter.dim() >= 2:
                parameter.normal_(0, 0.8 / math.sqrt(parameter.shape[-1]))
    model.save_pretrained(folder)
    return folder


def shrunk(config: dict[str, Any]) -> dict[str, Any]:
    """Replace the sizes in a configuration, in its parts too; lists by layer become shorter."""
    layers = next((config[key] for key in ("num_hidden_layers", "n_layer") if key in config), 0)
    return {key: _shrunk(key, value, layers) for key, value in config.items()}


def _shrunk(key: str, value: Any, layers: int) -> Any:
    if isinstance(value, dict) and key.endswith("config"):
        return shrunk(value)
    if key in SIZES and (isinstance(value, int) or (value is None and key in OFTEN_NONE)):
        return SIZES[key]
    if key in IDS and value is not None:
        return IDS[key]
    if isinstance(value, list) and value and len(value) == layers:
        distinct = list(dict.fromkeys(value)) if isinstance(value[0], str) else value
        return (distinct * LAYERS)[:LAYERS]
    return value
