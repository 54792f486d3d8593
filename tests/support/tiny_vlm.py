"""Tiny Qwen3-VL and Gemma 3 models that the host loads and runs as it would the real ones; only their sizes differ."""

import io
from typing import Any

import torch
from torch import Tensor

TEXT = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
TEXT |= {"num_key_value_heads": 1}
VISION = {"hidden_size": 128, "intermediate_size": 64, "depth": 2, "deepstack_visual_indexes": [0, 1]}
STOP = 151645
WORDS = ("source", "edit", "answer", "is", "the", "picture", "instruction", "make", "grey", "which", "better", "1", "2")


def load_qwen(
    monkeypatch: Any, script: list[str] | None = None, clip_type: str = "STABLE_DIFFUSION", quantized: bool = False
) -> Any:
    """A host CLIP object with random weights, or one whose every answer is the tokens of `script`, each used once.

    `quantized`: the language model's layers in float8 with a scale, as the published file has them.
    """
    import comfy.ops
    import comfy.sd
    from comfy.text_encoders import qwen3vl

    # The host fixes the vision tower's sizes in its code.
    monkeypatch.setitem(qwen3vl.QWEN3VL_VISION, "qwen3vl_8b", VISION)
    model = qwen3vl._make_qwen3vl_model("qwen3vl_8b")(dict(TEXT), torch.float32, "cpu", comfy.ops.manual_cast)
    weights = _random(model.state_dict())
    options = {f"{name}_model_config": dict(TEXT) for name in ("qwen3vl_8b", "qwen3_8b")}
    if script is not None:
        _speak(weights, _tokens(script))
    saved = {_file_key(name): value for name, value in weights.items()}
    if quantized:
        _quantize(saved)
    kind = getattr(comfy.sd.CLIPType, clip_type)
    return comfy.sd.load_text_encoder_state_dicts([saved], clip_type=kind, model_options=options)


def load_gemma(monkeypatch: Any) -> Any:
    """A Gemma 3 with vision and random weights, which writes the words of a tiny vocabulary."""
    import comfy.ops
    import comfy.sd
    import sentencepiece
    from comfy.text_encoders import llama

    small = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    for name, value in (small | {"image_size": 224}).items():
        monkeypatch.setitem(llama.GEMMA3_VISION_CONFIG, name, value)
    vocabulary = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(WORDS * 20),
        model_writer=vocabulary,
        vocab_size=120,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    model = llama.Gemma3_4B_Vision(dict(TEXT), torch.float32, "cpu", comfy.ops.manual_cast)
    weights = _random(model.state_dict())
    words = sentencepiece.SentencePieceProcessor(model_proto=vocabulary.getvalue()).get_piece_size()
    # What it writes must be in the vocabulary; the row of a picture's placeholder is never looked at.
    weights["model.embed_tokens.weight"][words:] = 0.0
    weights["spiece_model"] = torch.frombuffer(bytearray(vocabulary.getvalue()), dtype=torch.uint8)
    options = {"gemma3_4b_vision_model_config": dict(TEXT)}
    return comfy.sd.load_text_encoder_state_dicts([weights], model_options=options)


def _random(shapes: dict[str, Tensor]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    drawn = {}
    for name, value in shapes.items():
        scale = 1.0 if value.ndim < 2 or "embed" in name else value[0].numel() ** -0.5
        drawn[name] = torch.randn(value.shape, generator=generator) * scale
    return drawn


def _file_key(name: str) -> str:
    """The names of the published files."""
    if name.startswith("model.lm_head."):
        return name.removeprefix("model.")
    return name.replace("model.", "model.language_model.", 1) if name.startswith("model.") else f"model.{name}"


def _quantize(saved: dict[str, Tensor]) -> None:
    for key in [key for key in saved if ".layers." in key and key.endswith("_proj.weight")]:
        scale = saved[key].abs().max().clamp(min=1e-6) / 400.0
        saved[key] = (saved[key] / scale).to(torch.float8_e4m3fn)
        layer = key.removesuffix(".weight")
        saved[f"{layer}.weight_scale"] = scale
        saved[f"{layer}.comfy_quant"] = torch.tensor(list(b'{"format": "float8_e4m3fn"}'), dtype=torch.uint8)


def _tokens(script: list[str]) -> list[int]:
    from comfy.text_encoders.qwen3vl import Qwen3VLSDTokenizer

    tokenizer = Qwen3VLSDTokenizer().tokenizer
    ids = [tokenizer(piece)["input_ids"] for piece in script]
    assert all(len(piece) == 1 for piece in ids), ids
    return [piece[0] for piece in ids]


def _speak(weights: dict[str, Tensor], tokens: list[int]) -> None:
    """Every layer adds nothing, and the head says after each token of the script the next one."""
    assert len(set(tokens)) == len(tokens) < TEXT["hidden_size"] - 1
    for name, value in weights.items():
        if name.startswith("model.layers.") and name.endswith(("o_proj.weight", "down_proj.weight")):
            value.zero_()
    embeddings, head = weights["model.embed_tokens.weight"], weights["model.lm_head.weight"]
    head.zero_()
    weights["model.norm.weight"].fill_(1.0)
    embeddings.zero_()
    # Whatever is not in the script, the prompt's end above all, is followed by its first token.
    embeddings[:, 0] = 1.0
    head[tokens[0], 0] = 1.0
    for place, token in enumerate(tokens, 1):
        embeddings[token] = 0.0
        embeddings[token, place] = 1.0
        head[([*tokens[1:], STOP])[place - 1], place] = 1.0
