"""The model files that the workflows need, with the addresses from which the page offers to download them."""

ModelFile = dict[str, str]
"""Name, address, and the folder in models."""

HUB = "https://huggingface.co"

FLUX_FILL = {
    "name": "flux1-fill-dev.safetensors",
    "url": f"{HUB}/Comfy-Org/flux1-dev/resolve/main/split_files/diffusion_models/flux1-fill-dev.safetensors",
    "directory": "diffusion_models",
}
FLUX_DEV = {
    "name": "flux1-dev.safetensors",
    "url": f"{HUB}/Comfy-Org/flux1-dev/resolve/main/flux1-dev.safetensors",
    "directory": "diffusion_models",
}
CLIP_L = {
    "name": "clip_l.safetensors",
    "url": f"{HUB}/comfyanonymous/flux_text_encoders/resolve/main/clip_l.safetensors",
    "directory": "text_encoders",
}
T5 = {
    "name": "t5xxl_fp8_e4m3fn.safetensors",
    "url": f"{HUB}/comfyanonymous/flux_text_encoders/resolve/main/t5xxl_fp8_e4m3fn.safetensors",
    "directory": "text_encoders",
}
VAE = {
    "name": "ae.safetensors",
    "url": f"{HUB}/Comfy-Org/Lumina_Image_2.0_Repackaged/resolve/main/split_files/vae/ae.safetensors",
    "directory": "vae",
}
QWEN3_VL = {
    "name": "qwen3vl_4b_fp8_scaled.safetensors",
    "url": f"{HUB}/Comfy-Org/Qwen3-VL/resolve/main/text_encoders/qwen3vl_4b_fp8_scaled.safetensors",
    "directory": "text_encoders",
}
SAM3 = {
    "name": "sam3.1_multiplex_fp16.safetensors",
    "url": f"{HUB}/Comfy-Org/sam3.1/resolve/main/checkpoints/sam3.1_multiplex_fp16.safetensors",
    "directory": "checkpoints",
}
NORMAL_LORA = {
    "name": "icedit_normal_lora.safetensors",
    "url": f"{HUB}/RiverZ/normal-lora/resolve/main/pytorch_lora_weights.safetensors",
    "directory": "loras",
}
MOE_LORA = {
    "name": "icedit_moe_lora.safetensors",
    "url": f"{HUB}/sanaka87/ICEdit-MoE-LoRA/resolve/main/pytorch_lora_weights.safetensors",
    "directory": "loras",
}
