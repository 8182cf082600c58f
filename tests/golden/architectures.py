"""Real architectures, built small and on the meta device from configuration only: nothing is downloaded."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

LANGUAGE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 96,
}
DECODER = LANGUAGE | {"num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 0}
VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 32,
    "patch_size": 8,
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}


def _of(model: str, config: str, **settings: Any) -> Callable[[], nn.Module]:
    """A builder of a transformers model."""

    def build() -> nn.Module:
        transformers = importlib.import_module("transformers")
        made = getattr(transformers, config)(**settings)
        with torch.device("meta"):
            return getattr(transformers, model)(made)

    return build


def _clip() -> nn.Module:
    from transformers import CLIPConfig, CLIPModel

    made = CLIPConfig(text_config=LANGUAGE | {"projection_dim": 16}, vision_config=VISION | {"projection_dim": 16})
    with torch.device("meta"):
        return CLIPModel(made)


def _siglip() -> nn.Module:
    from transformers import SiglipConfig, SiglipModel

    with torch.device("meta"):
        return SiglipModel(SiglipConfig(text_config=LANGUAGE, vision_config=VISION))


def _torch_transformer() -> nn.Module:
    with torch.device("meta"):
        return nn.Transformer(32, 4, 2, 2, 64, batch_first=True)


def _torch_modules() -> nn.Module:
    """One of each torch.nn module whose parameters need telling apart, and the ways to parametrize one."""
    from torch.nn.utils import parametrizations, spectral_norm, weight_norm

    return nn.ModuleDict(
        {
            "linear": nn.Linear(8, 6),
            "bilinear": nn.Bilinear(4, 5, 6),
            "conv": nn.Conv2d(3, 6, 3),
            "deconv": nn.ConvTranspose1d(3, 6, 3),
            "batch_norm": nn.BatchNorm2d(6),
            "instance_norm": nn.InstanceNorm2d(6, affine=True),
            "group_norm": nn.GroupNorm(2, 6),
            "layer_norm": nn.LayerNorm((6, 4)),
            "rms_norm": nn.RMSNorm(6),
            "prelu": nn.PReLU(6),
            "embedding": nn.Embedding(9, 6),
            "bag": nn.EmbeddingBag(9, 6),
            "lstm": nn.LSTM(6, 5, 2, bidirectional=True, proj_size=3),
            "gru": nn.GRU(6, 5),
            "cell": nn.LSTMCell(6, 5),
            "attention": nn.MultiheadAttention(6, 2, kdim=5, vdim=4, add_bias_kv=True),
            "softmax": nn.AdaptiveLogSoftmaxWithLoss(32, 20, [5, 10]),
            "weight_norm": parametrizations.weight_norm(nn.Linear(4, 6)),
            "weight_norm_old": weight_norm(nn.Conv1d(4, 6, 3)),
            "spectral": parametrizations.spectral_norm(nn.Linear(4, 6)),
            "spectral_old": spectral_norm(nn.Linear(4, 6)),
            "orthogonal": parametrizations.orthogonal(nn.Linear(6, 6)),
        }
    )


def _peft(**settings: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        peft = importlib.import_module("peft")
        base = _of("LlamaForCausalLM", "LlamaConfig", **DECODER)().to_empty(device="cpu")
        return peft.get_peft_model(base, getattr(peft, settings["config"])(**settings["with"]))

    return build


def _timm(name: str) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        timm = importlib.import_module("timm")
        with torch.device("meta"):
            return timm.create_model(name, pretrained=False)

    return build


TORCH: dict[str, Callable[[], nn.Module]] = {
    "torch_modules": _torch_modules,
    "torch_transformer": _torch_transformer,
}

TRANSFORMERS: dict[str, Callable[[], nn.Module]] = {
    "albert": _of("AlbertForMaskedLM", "AlbertConfig", **LANGUAGE, embedding_size=16),
    "bart": _of(
        "BartForConditionalGeneration",
        "BartConfig",
        vocab_size=96,
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
    ),
    "beit": _of("BeitForImageClassification", "BeitConfig", **VISION, use_relative_position_bias=True),
    "bert": _of("BertForMaskedLM", "BertConfig", **LANGUAGE),
    "clip": _clip,
    "convnext": _of(
        "ConvNextForImageClassification", "ConvNextConfig", depths=[1, 1], hidden_sizes=[16, 32], num_stages=2
    ),
    "convnextv2": _of(
        "ConvNextV2ForImageClassification", "ConvNextV2Config", depths=[1, 1], hidden_sizes=[16, 32], num_stages=2
    ),
    "deberta": _of(
        "DebertaForMaskedLM",
        "DebertaConfig",
        **LANGUAGE,
        relative_attention=True,
        pos_att_type=["c2p", "p2c"],
        max_relative_positions=16,
    ),
    "deberta_v2": _of(
        "DebertaV2ForMaskedLM",
        "DebertaV2Config",
        **LANGUAGE,
        relative_attention=True,
        pos_att_type=["c2p", "p2c"],
        position_buckets=8,
        norm_rel_ebd="layer_norm",
    ),
    "deepseek_v3": _of(
        "DeepseekV3ForCausalLM",
        "DeepseekV3Config",
        **LANGUAGE,
        moe_intermediate_size=16,
        n_routed_experts=4,
        n_group=2,
        topk_group=1,
        num_experts_per_tok=2,
        first_k_dense_replace=1,
        q_lora_rank=8,
        kv_lora_rank=8,
        qk_rope_head_dim=4,
        qk_nope_head_dim=4,
        v_head_dim=8,
        num_key_value_heads=4,
        pad_token_id=0,
    ),
    "dinov2": _of("Dinov2ForImageClassification", "Dinov2Config", **VISION),
    "electra": _of("ElectraForPreTraining", "ElectraConfig", **LANGUAGE, embedding_size=16),
    "gemma": _of("GemmaForCausalLM", "GemmaConfig", **DECODER),
    "gemma3": _of("Gemma3ForCausalLM", "Gemma3TextConfig", **DECODER),
    "gpt2": _of("GPT2LMHeadModel", "GPT2Config", n_embd=32, n_layer=2, n_head=4, vocab_size=96, n_positions=16),
    "gpt_oss": _of("GptOssForCausalLM", "GptOssConfig", **DECODER, num_local_experts=4),
    "llama": _of("LlamaForCausalLM", "LlamaConfig", **DECODER),
    "mamba": _of("MambaForCausalLM", "MambaConfig", hidden_size=32, num_hidden_layers=2, vocab_size=96, state_size=4),
    "mamba2": _of(
        "Mamba2ForCausalLM",
        "Mamba2Config",
        hidden_size=32,
        num_hidden_layers=2,
        vocab_size=96,
        state_size=4,
        num_heads=8,
        head_dim=8,
        n_groups=1,
    ),
    "mistral": _of("MistralForCausalLM", "MistralConfig", **DECODER),
    "mixtral": _of("MixtralForCausalLM", "MixtralConfig", **DECODER, num_local_experts=4),
    "modernbert": _of("ModernBertForMaskedLM", "ModernBertConfig", **LANGUAGE, pad_token_id=0),
    "qwen2": _of("Qwen2ForCausalLM", "Qwen2Config", **DECODER),
    "qwen3": _of("Qwen3ForCausalLM", "Qwen3Config", **DECODER),
    "qwen3_moe": _of("Qwen3MoeForCausalLM", "Qwen3MoeConfig", **DECODER, **EXPERTS),
    "qwen3_next": _of(
        "Qwen3NextForCausalLM",
        "Qwen3NextConfig",
        **DECODER,
        **EXPERTS,
        shared_expert_intermediate_size=16,
        linear_num_key_heads=2,
        linear_num_value_heads=4,
        linear_key_head_dim=8,
        linear_value_head_dim=8,
        layer_types=["linear_attention", "full_attention"],
    ),
    "recurrent_gemma": _of("RecurrentGemmaForCausalLM", "RecurrentGemmaConfig", **LANGUAGE | {"num_hidden_layers": 3}),
    "resnet": _of(
        "ResNetForImageClassification", "ResNetConfig", embedding_size=16, hidden_sizes=[16, 32], depths=[2, 2]
    ),
    "roberta": _of("RobertaForMaskedLM", "RobertaConfig", **LANGUAGE),
    "rwkv": _of("RwkvForCausalLM", "RwkvConfig", hidden_size=32, num_hidden_layers=2, vocab_size=96),
    "siglip": _siglip,
    "swin": _of(
        "SwinForImageClassification", "SwinConfig", image_size=32, embed_dim=16, depths=[1, 1], num_heads=[2, 2]
    ),
    "swinv2": _of(
        "Swinv2ForImageClassification", "Swinv2Config", image_size=32, embed_dim=16, depths=[1, 1], num_heads=[2, 2]
    ),
    "t5": _of(
        "T5ForConditionalGeneration", "T5Config", d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, vocab_size=96
    ),
    "vit": _of("ViTForImageClassification", "ViTConfig", **VISION),
    "wav2vec2": _of(
        "Wav2Vec2ForPreTraining",
        "Wav2Vec2Config",
        **LANGUAGE,
        conv_dim=[16, 16],
        conv_kernel=[4, 2],
        conv_stride=[2, 2],
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
        codevector_dim=16,
    ),
    "whisper": _of(
        "WhisperForConditionalGeneration",
        "WhisperConfig",
        vocab_size=96,
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        num_mel_bins=8,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=1,
        decoder_start_token_id=1,
    ),
    "xlnet": _of("XLNetLMHeadModel", "XLNetConfig", vocab_size=96, d_model=32, n_layer=2, n_head=4, d_inner=64),
    "zamba2": _of(
        "Zamba2ForCausalLM",
        "Zamba2Config",
        vocab_size=96,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=6,
        layers_block_type=["mamba", "hybrid", "mamba", "hybrid", "mamba", "hybrid"],
        num_attention_heads=4,
        num_key_value_heads=4,
        attention_hidden_size=64,
        attention_head_dim=16,
        mamba_d_state=4,
        mamba_headdim=8,
        mamba_ngroups=1,
        n_mamba_heads=8,
        num_mem_blocks=1,
        use_shared_attention_adapter=True,
        adapter_rank=4,
        hybrid_layer_ids=[1, 3, 5],
    ),
}

_TARGETS = {"target_modules": ["q_proj", "v_proj"]}
PEFT: dict[str, Callable[[], nn.Module]] = {
    "peft_dora": _peft(config="LoraConfig", **{"with": _TARGETS | {"r": 4, "use_dora": True}}),
    "peft_ia3": _peft(
        config="IA3Config",
        **{"with": {"target_modules": ["k_proj", "down_proj"], "feedforward_modules": ["down_proj"]}},
    ),
    "peft_lora": _peft(
        config="LoraConfig",
        **{"with": {"target_modules": ["q_proj", "embed_tokens"], "r": 4, "modules_to_save": ["lm_head"]}},
    ),
    "peft_prompt": _peft(
        config="PromptTuningConfig", **{"with": {"task_type": "CAUSAL_LM", "num_virtual_tokens": 4, "token_dim": 32}}
    ),
}

TIMM: dict[str, Callable[[], nn.Module]] = {
    "timm_beit": _timm("beit_base_patch16_224"),
    "timm_convnextv2": _timm("convnextv2_atto"),
    "timm_levit": _timm("levit_128s"),
    "timm_nfnet": _timm("nfnet_l0"),
    "timm_swinv2": _timm("swinv2_tiny_window8_256"),
    "timm_vit": _timm("vit_tiny_patch16_224"),
    "timm_xcit": _timm("xcit_nano_12_p16_224"),
}

LIBRARY = dict.fromkeys(TORCH, "torch") | dict.fromkeys(TRANSFORMERS, "transformers") | dict.fromkeys(PEFT, "peft")
LIBRARY |= dict.fromkeys(TIMM, "timm")
ARCHITECTURES = TORCH | TRANSFORMERS | PEFT | TIMM
