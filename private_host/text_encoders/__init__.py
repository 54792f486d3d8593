"""A custom node package for the embedded server only: lets the stock loaders read small text encoders.

ComfyUI fixes the sizes of CLIP-L and T5-XXL in its code. The small files say theirs in their metadata, and how far
sentences are filled up; this hands it on. Files without that metadata load as ever. It defines no node.
"""

import json

import comfy.sd
import safetensors

_load_clip = comfy.sd.load_clip


def _load_clip_with_sizes(ckpt_paths, *args, model_options=None, **kwargs):
    sizes = {}
    for path in ckpt_paths:
        with safetensors.safe_open(path, framework="pt") as file:
            sizes |= json.loads((file.metadata() or {}).get("tiny_text_encoder", "{}"))
    filled_up = sizes.pop("tokenizer_options", {})
    clip = _load_clip(ckpt_paths, *args, model_options={**(model_options or {}), **sizes}, **kwargs)
    for name, value in filled_up.items():
        clip.set_tokenizer_option(name, value)
    return clip


comfy.sd.load_clip = _load_clip_with_sizes

NODE_CLASS_MAPPINGS = {}
