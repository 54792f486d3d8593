"""A custom node package for the private server only: lets the stock loaders read small text encoders.

ComfyUI fixes the sizes of CLIP-L and T5-XXL in its code. The small files have theirs in their metadata, with the length
to which sentences are padded; this passes them on. Files without that metadata load as usual. It defines no node.
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
    padding = sizes.pop("tokenizer_options", {})
    clip = _load_clip(ckpt_paths, *args, model_options={**(model_options or {}), **sizes}, **kwargs)
    for name, value in padding.items():
        clip.set_tokenizer_option(name, value)
    return clip


comfy.sd.load_clip = _load_clip_with_sizes

NODE_CLASS_MAPPINGS = {}
