"""Tiny random models whose output layer is not that of a Llama, and what transformers itself makes of a sentence."""

from __future__ import annotations

from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    CohereConfig,
    FalconH1Config,
    Gemma2Config,
    GPT2Config,
    GraniteConfig,
    HyperCLOVAXConfig,
    LlamaConfig,
    MambaConfig,
    MiniCPM3Config,
    ModernBertDecoderConfig,
    OPTConfig,
    PhiConfig,
    RecurrentGemmaConfig,
)

from fishersft.models.tokenising import Tokenised

VOCABULARY = 400
_SMALL: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
_GROUPED: dict[str, Any] = {**_SMALL, "num_key_value_heads": 2}
_LATENT = {"q_lora_rank": 16, "kv_lora_rank": 16, "qk_nope_head_dim": 4, "qk_rope_head_dim": 4, "v_head_dim": 8}
_MAMBA = {"mamba_d_ssm": 64, "mamba_n_heads": 4, "mamba_d_head": 16, "mamba_n_groups": 1, "mamba_d_state": 8}
CONFIGS: dict[str, Any] = {
    "Llama": LlamaConfig(**_GROUPED),
    "GPT-2, tied": GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=64),
    "Mamba": MambaConfig(vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, state_size=4),
    "OPT with word_embed_proj_dim": OPTConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        ffn_dim=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=64,
        word_embed_proj_dim=16,
        do_layer_norm_before=False,
    ),
    "Granite, logits divided by 8": GraniteConfig(**_GROUPED, logits_scaling=8.0),
    "HyperCLOVA X, logits times 0.25": HyperCLOVAXConfig(**_GROUPED, logits_scaling=0.25),
    "MiniCPM3, states divided by 4": MiniCPM3Config(**_SMALL, **_LATENT, dim_model_base=8),
    "Cohere, logits times 0.0625": CohereConfig(**_GROUPED, logit_scale=0.0625),
    "Falcon-H1, logits times 0.04": FalconH1Config(**_GROUPED, **_MAMBA, lm_head_multiplier=0.04),
    "Gemma 2, soft-capped": Gemma2Config(**_GROUPED, head_dim=8, final_logit_softcapping=5.0),
    "RecurrentGemma, soft-capped": RecurrentGemmaConfig(
        **{name: value for name, value in _GROUPED.items() if name != "max_position_embeddings"},
        head_dim=8,
        lru_width=32,
        logits_soft_cap=5.0,
        block_types=["recurrent", "attention"],
    ),
    "Phi, a bias on the head": PhiConfig(**_SMALL),
    "ModernBERT as decoder, layers in the head": ModernBertDecoderConfig(**_SMALL),
    "BERT as decoder, layers in the head": BertConfig(**_SMALL, is_decoder=True),
}


def random_model(name: str, surer: float = 1.0) -> Any:
    """A model of that architecture with random weights, biases included; its logits times `surer`."""
    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_config(CONFIGS[name]).eval()
    head = model.get_output_embeddings()
    head.weight.data.mul_(surer)
    if head.bias is not None:
        head.bias.data.normal_()
    return model


def random_sentences(lengths: tuple[int, ...] = (9, 30, 4, 17, 12, 25)) -> list[Tokenised]:
    """Plain texts of so many tokens."""
    generator = torch.Generator().manual_seed(0)
    ids = [torch.randint(5, VOCABULARY, (length,), generator=generator).tolist() for length in lengths]
    return [Tokenised(row, [False, *[True] * (len(row) - 1)], truncated=False) for row in ids]


def entering_the_head(model: Any, sentence: Tokenised) -> torch.Tensor:
    """What transformers gives the output projection in a plain forward pass, at the predicting positions."""
    seen: list[torch.Tensor] = []
    handle = model.get_output_embeddings().register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.inference_mode():
        model(input_ids=torch.tensor([sentence.input_ids]))
    handle.remove()
    (states,) = seen
    return states[0, sentence.predicting_positions]


def own_nll(model: Any, sentence: Tokenised) -> torch.Tensor:
    """Of every token but the first, by cross entropy in float64 from the model's own logits."""
    ids = torch.tensor([sentence.input_ids])
    logits = model(input_ids=ids).logits[0, :-1].double()
    return torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="none")
