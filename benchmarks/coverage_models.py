"""The smallest model of each attention or token-mixing family of timm, transformers and torchvision, without weights.

Needs these three packages, which autoprox itself does not.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch

#: Family → model. The smallest that has all that makes the family; timm's own `test_` models where they do.
TIMM = {
    "vision_transformer": "vit_tiny_patch16_224", "beit": "beit_base_patch16_224", "botnet": "eca_botnext26ts_256",
    "halonet": "halonet_h1", "lambdanet": "lambda_resnet26t", "caformer": "caformer_s18",
    "convformer": "convformer_s18", "poolformer": "poolformer_s12", "poolformerv2": "poolformerv2_s12",
    "cait": "cait_xxs24_224", "coat": "coat_tiny", "coatnet": "test_coatnet", "coatnext": "coatnext_nano_rw_224",
    "maxvit": "test_maxvit", "maxxvit": "maxxvit_rmlp_nano_rw_256", "convit": "convit_tiny",
    "convmixer": "convmixer_768_32", "convnext": "test_convnext", "cpubone": "cpubone_nano",
    "crossvit": "crossvit_tiny_240", "csatv2": "csatv2", "davit": "davit_tiny", "deepseek_vit": "deepseek_vit_412m",
    "deit": "deit_tiny_patch16_224", "edgenext": "edgenext_xx_small", "efficientformer": "efficientformer_l1",
    "efficientformer_v2": "efficientformerv2_s0", "efficientvim": "efficientvim_m1",
    "efficientvit_mit": "efficientvit_b0", "efficientvit_msra": "efficientvit_m0",
    "eva": "vit_tiny_patch16_dinov3_qkvb", "fastvit": "fastvit_t8", "fastvit_sa": "fastvit_sa12",
    "focalnet": "focalnet_tiny_srf", "gcvit": "gcvit_xxtiny", "gemma4_vit": "gemma4_vit_167m",
    "gmixer": "gmixer_12_224", "gmlp": "gmlp_ti16_224", "hiera": "hiera_tiny_224", "hieradet_sam2": "sam2_hiera_tiny",
    "iformer": "iformer_t", "inception_next": "inception_next_atto", "levit": "levit_128s",
    "lowformer": "lowformer_b0", "mambaout": "test_mambaout", "mixer": "mixer_s16_224",
    "mobilenetv4": "mobilenetv4_hybrid_medium", "mobilenetv5": "mobilenetv5_base", "mobilevit": "mobilevit_xxs",
    "mobilevitv2": "mobilevitv2_050", "mvitv2": "mvitv2_tiny", "naflexvit": "naflexvit_base_patch16_gap",
    "nest": "nest_tiny", "nextvit": "nextvit_small", "pit": "pit_ti_224", "pvt_v2": "pvt_v2_b0",
    "qwen3_vit": "qwen3_vit_88m", "repvit": "repvit_m1", "resmlp": "resmlp_12_224", "sam": "samvit_base_patch16_224",
    "sequencer": "sequencer2d_s", "shvit": "shvit_s1", "starnet": "starnet_s050", "swiftformer": "swiftformer_xs",
    "swin": "swin_tiny_patch4_window7_224", "swinv2": "swinv2_tiny_window8_256", "swinv2_cr": "swinv2_cr_tiny_224",
    "relpos": "vit_relpos_small_patch16_224", "tiny_vit": "tiny_vit_5m_224", "tnt": "tnt_s_legacy_patch16_224",
    "twins_pcpvt": "twins_pcpvt_small", "twins_svt": "twins_svt_small", "visformer": "visformer_tiny",
    "vit_hybrid": "vit_tiny_r_s16_p8_224", "vitamin": "vitamin_small_224", "volo": "volo_d1_224",
    "xcit": "xcit_nano_12_p8_224", "siglip": "vit_base_patch16_siglip_224", "parallel": "vit_small_patch16_36x1_224",
}  # fmt: skip

_SMALL = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 128}
_VISION = _SMALL | {"image_size": 64, "patch_size": 16}
_TOWER = {"vision_config": _VISION}

#: Family → (model class, config class, what its config changes).
# ruff: noqa: E501
TRANSFORMERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "vit": ("ViTForImageClassification", "ViTConfig", _VISION),
    "deit": ("DeiTForImageClassification", "DeiTConfig", _VISION),
    "beit": ("BeitForImageClassification", "BeitConfig", _VISION | {"use_relative_position_bias": True}),
    "data2vec": ("Data2VecVisionForImageClassification", "Data2VecVisionConfig", _VISION),
    "dinov2": ("Dinov2ForImageClassification", "Dinov2Config", _VISION),
    "dinov2_swiglu": ("Dinov2ForImageClassification", "Dinov2Config", _VISION | {"use_swiglu_ffn": True}),
    "dinov2_registers": ("Dinov2WithRegistersForImageClassification", "Dinov2WithRegistersConfig", _VISION),
    "ijepa": ("IJepaForImageClassification", "IJepaConfig", _VISION),
    "vit_msn": ("ViTMSNForImageClassification", "ViTMSNConfig", _VISION),
    "clip": ("CLIPForImageClassification", "CLIPConfig", _TOWER),
    "metaclip_2": ("MetaClip2ForImageClassification", "MetaClip2Config", _TOWER),
    "siglip": ("SiglipForImageClassification", "SiglipConfig", _TOWER),
    "imagegpt": ("ImageGPTForImageClassification", "ImageGPTConfig", {"n_embd": 64, "n_layer": 3, "n_head": 4}),
    "cvt": ("CvtForImageClassification", "CvtConfig", {"embed_dim": [16, 32, 64], "num_heads": [1, 2, 4], "depth": [1, 2, 10]}),
    "swin": ("SwinForImageClassification", "SwinConfig", {"image_size": 64, "embed_dim": 24, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4}),
    "swinv2": ("Swinv2ForImageClassification", "Swinv2Config", {"image_size": 64, "embed_dim": 24, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4}),
    "donut_swin": ("DonutSwinForImageClassification", "DonutSwinConfig", {"image_size": 64, "embed_dim": 24, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4}),
    "hiera": ("HieraForImageClassification", "HieraConfig", {"embed_dim": 24, "depths": [1, 2, 2, 1], "num_heads": [1, 2, 4, 8]}),
    "pvt": ("PvtForImageClassification", "PvtConfig", {"image_size": 64, "hidden_sizes": [16, 32, 40, 64]}),
    "pvt_v2": ("PvtV2ForImageClassification", "PvtV2Config", {"image_size": 64, "hidden_sizes": [16, 32, 40, 64]}),
    "segformer": ("SegformerForImageClassification", "SegformerConfig", {"hidden_sizes": [16, 32, 40, 64]}),
    "mobilevit": ("MobileViTForImageClassification", "MobileViTConfig", {"image_size": 64}),
    "mobilevitv2": ("MobileViTV2ForImageClassification", "MobileViTV2Config", {"image_size": 64}),
    "levit": ("LevitForImageClassification", "LevitConfig", {}),
    "poolformer": ("PoolFormerForImageClassification", "PoolFormerConfig", {"hidden_sizes": [16, 32, 40, 64]}),
    "swiftformer": ("SwiftFormerForImageClassification", "SwiftFormerConfig", {"embed_dims": [16, 32, 48, 64]}),
    "focalnet": ("FocalNetForImageClassification", "FocalNetConfig", {"image_size": 64, "embed_dim": 24, "depths": [1, 1, 2, 1]}),
    "convnext": ("ConvNextForImageClassification", "ConvNextConfig", {"hidden_sizes": [16, 32, 40, 64], "depths": [1, 1, 2, 1]}),
    "convnextv2": ("ConvNextV2ForImageClassification", "ConvNextV2Config", {"hidden_sizes": [16, 32, 40, 64], "depths": [1, 1, 2, 1]}),
    "timesformer": ("TimesformerForVideoClassification", "TimesformerConfig", _VISION | {"num_frames": 2}),
    "videomae": ("VideoMAEForVideoClassification", "VideoMAEConfig", _VISION | {"num_frames": 4}),
    "vivit": ("VivitForVideoClassification", "VivitConfig", _VISION | {"num_frames": 4, "tubelet_size": [2, 16, 16]}),
    "vjepa2": ("VJEPA2ForVideoClassification", "VJEPA2Config", {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "crop_size": 64, "frames_per_clip": 4, "pred_hidden_size": 64, "pred_num_hidden_layers": 2, "pred_num_attention_heads": 4, "num_pooler_layers": 1}),
    "perceiver": ("PerceiverForImageClassificationLearned", "PerceiverConfig", {"num_latents": 16, "d_latents": 64, "num_self_attends_per_block": 2, "num_self_attention_heads": 4, "num_cross_attention_heads": 1, "image_size": 56}),
}  # fmt: skip

TORCHVISION = {"vit": "vit_b_16", "swin": "swin_t", "swin_v2": "swin_v2_t", "maxvit": "maxvit_t"}

#: A name as the tables print it → a function that builds the model and one sample of its inputs.
Maker = Callable[[], tuple[torch.nn.Module, torch.Tensor]]


def makers() -> Iterator[tuple[str, str, str, Maker]]:
    """Library, family, model, and what makes it with one random sample, for every family."""
    for family, name in TIMM.items():
        yield "timm", family, name, lambda name=name: _timm(name)
    for family, (model, config, changes) in TRANSFORMERS.items():
        yield "transformers", family, model, lambda m=model, c=config, k=changes: _transformers(m, c, k)
    for family, name in TORCHVISION.items():
        yield "torchvision", family, name, lambda name=name: _torchvision(name)


def _timm(name: str) -> tuple[torch.nn.Module, torch.Tensor]:
    import timm

    model = timm.create_model(name)
    channels, *size = model.default_cfg["input_size"]
    if not model.default_cfg.get("fixed_input_size", False):
        for side in (128, 112):
            smaller = torch.randn(1, channels, *(min(side, each) for each in size))
            with torch.no_grad(), contextlib.suppress(AssertionError, RuntimeError):  # no multiple of what it needs
                model.eval()(smaller)
                return model, smaller
    return model, torch.randn(1, channels, *size)


def _transformers(model: str, config: str, changes: dict[str, Any]) -> tuple[torch.nn.Module, torch.Tensor]:
    import transformers

    made = getattr(transformers, config)(**changes)
    network = getattr(transformers, model)(made)
    if model.startswith("ImageGPT"):
        return network, torch.randint(0, 512, (1, 64))
    size = getattr(made, "image_size", None) or getattr(getattr(made, "vision_config", None), "image_size", None) or 224
    size = size if isinstance(size, int) else size[0]
    if not model.endswith("VideoClassification"):
        return network, torch.randn(1, 3, size, size)
    frames, size = getattr(made, "num_frames", 4), getattr(made, "crop_size", size)
    return network, torch.randn(1, frames, 3, size, size)


def _torchvision(name: str) -> tuple[torch.nn.Module, torch.Tensor]:
    import torchvision

    return torchvision.models.get_model(name), torch.randn(1, 3, 224, 224)
