"""A judge's LoRA as PEFT writes it, on the host's Qwen3-VL by the host's own loading."""

import json
import logging

import pytest
import torch
from icedit.early_filter.judge import Candidate, Question
from safetensors.torch import save_file
from support import tiny_vlm
from support.pictures import photograph

pytestmark = pytest.mark.host

RANK, ALPHA = 2, 6
CONFIG = {
    "peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "bias": "none", "use_dora": False, "use_rslora": False,
    "modules_to_save": None, "fan_in_fan_out": False, "rank_pattern": {}, "alpha_pattern": {},
}  # fmt: skip
LAYERS = ("self_attn.q_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.down_proj")


@pytest.fixture
def clip(host, monkeypatch):
    pytest.importorskip("comfy.text_encoders.qwen3vl", reason="this ComfyUI has no Qwen3-VL")
    return tiny_vlm.load_qwen(monkeypatch)


def weight(clip, name):
    """The module of the tiny model that PEFT calls by this name below `model.`."""
    inner = clip.cond_stage_model.qwen3vl_8b.transformer
    return inner.get_submodule(name.replace("language_model.", "model."))


def peft_file(clip, names, seed=0, prefix="base_model.model.model."):
    draw = torch.Generator().manual_seed(seed)
    tensors = {}
    for name in names:
        module = weight(clip, name)
        tensors[f"{prefix}{name}.lora_A.weight"] = torch.randn(RANK, module.in_features, generator=draw)
        tensors[f"{prefix}{name}.lora_B.weight"] = torch.randn(module.out_features, RANK, generator=draw)
    return tensors


def names():
    language = [f"language_model.layers.{number}.{layer}" for number in range(3) for layer in LAYERS]
    return [*language, "visual.blocks.1.attn.qkv", "visual.merger.linear_fc1"]


@pytest.fixture
def save():
    """Writes a judge's download into the host's folder of LoRAs; its name there."""
    from pathlib import Path

    import folder_paths

    def write(tensors, config=CONFIG, folder="judge"):
        place = Path(folder_paths.get_folder_paths("loras")[0]) / folder
        place.mkdir(parents=True, exist_ok=True)
        (place / "adapter_config.json").unlink(missing_ok=True)
        if config is not None:
            (place / "adapter_config.json").write_text(config if isinstance(config, str) else json.dumps(config))
        save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, place / "adapter_model.safetensors")
        return f"{folder}/adapter_model.safetensors"

    return write


def load(host, clip, name, **settings):
    return host.call("EditJudgeVLM", clip=clip, checks=False, swap_order=False, lora_name=name, **settings)[0]


def patched_clip(judge):
    """The CLIP that a judge asks."""
    return judge.ask.__closure__[judge.ask.__code__.co_freevars.index("clip")].cell_contents


def merged(clip, name):
    """The weight that the host computes with."""
    key = f"qwen3vl_8b.transformer.{name.replace('language_model.', 'model.')}.weight"
    import comfy.lora

    plain = weight(clip, name).weight.detach().float()
    return plain, comfy.lora.calculate_weight(clip.patcher.patches.get(key, []), plain.clone(), key)


@pytest.mark.parametrize(
    ("changes", "scale"),
    [
        ({}, ALPHA / RANK),
        ({"use_rslora": True}, ALPHA / RANK**0.5),
        ({"alpha_pattern": {"self_attn.q_proj": 1}}, None),
    ],
)
def test_every_layer_gets_its_matrices_with_pefts_scale(host, clip, save, changes, scale):
    tensors = peft_file(clip, names())
    changed = patched_clip(load(host, clip, save(tensors, CONFIG | changes)))
    for name in names():
        plain, now = merged(changed, name)
        by = scale or ((1 if "q_proj" in name else ALPHA) / RANK)
        up, down = (tensors[f"base_model.model.model.{name}.lora_{part}.weight"] for part in "BA")
        assert torch.allclose(now - plain, by * up @ down, rtol=1e-4, atol=1e-4)
    assert not clip.patcher.patches, "the model at clip is left as it is"


@pytest.mark.parametrize("prefix", ["base_model.model.", "base_model.model.model.", "model."])
def test_the_names_of_several_versions_are_known(host, clip, save, prefix):
    name = "language_model.layers.0.self_attn.q_proj"
    changed = patched_clip(load(host, clip, save(peft_file(clip, [name], prefix=prefix))))
    assert len(changed.patcher.patches) == 1


def test_the_hosts_own_loader_would_load_nothing(host, clip, save, caplog):
    """Why this file is not simply given to Load LoRA."""
    import comfy.sd

    with caplog.at_level(logging.WARNING):
        _, changed = comfy.sd.load_lora_for_models(None, clip, peft_file(clip, names()), 0.0, 1.0)
    assert not changed.patcher.patches
    assert "lora key not loaded" in caplog.text


def test_the_lora_changes_what_the_model_says(host, monkeypatch, save):
    pytest.importorskip("comfy.text_encoders.qwen3vl", reason="this ComfyUI has no Qwen3-VL")
    clip = tiny_vlm.load_qwen(monkeypatch, script=["ANS", "WER", ":", " ", "1"])
    name = "language_model.layers.2.mlp.down_proj"
    silent = save({key: tensor * 0 for key, tensor in peft_file(clip, [name]).items()}, folder="silent")
    question, edits = (
        Question(photograph(0, 48, 64), "x"),
        [Candidate(seed, photograph(seed, 48, 64)) for seed in (1, 2)],
    )
    said = [load(host, clip, lora).compare(question, *edits, lambda: None).answers for lora in ("None", silent)]
    assert said == [("ANSWER: 1",)] * 2
    loud = save({key: tensor * 30 for key, tensor in peft_file(clip, [name]).items()}, folder="loud")
    judge = load(host, clip, loud)
    monkeypatch.setattr(judge.ask.__globals__["text_generation"], "MAX_TOKENS", 8)
    assert judge.compare(question, *edits, lambda: None).answers != said[0]


def test_a_quantized_model_takes_the_lora_too(host, monkeypatch, save):
    pytest.importorskip("comfy.text_encoders.qwen3vl", reason="this ComfyUI has no Qwen3-VL")
    clip = tiny_vlm.load_qwen(monkeypatch, script=["ANS", "WER", ":", " ", "1"], quantized=True)
    name = "language_model.layers.2.mlp.down_proj"
    assert not isinstance(weight(clip, name), torch.nn.Linear), "this host's quantized layers are none"
    question = Question(photograph(0, 48, 64), "x")
    edits = [Candidate(seed, photograph(seed, 48, 64)) for seed in (1, 2)]
    loud = save({key: tensor * 30 for key, tensor in peft_file(clip, [name]).items()}, folder="loud")
    said = []
    for lora_name in ("None", loud):
        judge = load(host, clip, lora_name)
        monkeypatch.setattr(judge.ask.__globals__["text_generation"], "MAX_TOKENS", 8)
        said.append(judge.compare(question, *edits, lambda: None).answers)
    assert said[0] == ("ANSWER: 1",)
    assert said[1] != said[0]


def foreign_key(tensors):
    return tensors | {"base_model.model.model.language_model.layers.7.mlp.up_proj.lora_A.weight": torch.ones(2, 16)}


def one_matrix(tensors):
    return {
        key: tensor for key, tensor in tensors.items() if not key.endswith("layers.0.self_attn.q_proj.lora_B.weight")
    }


def other_size(tensors):
    return {key: torch.cat([tensor, tensor], 1) if "lora_A" in key else tensor for key, tensor in tensors.items()}


def magnitudes(tensors):
    return tensors | {
        "base_model.model.model.language_model.layers.0.mlp.up_proj.lora_magnitude_vector": torch.ones(32)
    }


@pytest.mark.parametrize(
    ("change", "config", "said"),
    [
        (foreign_key, CONFIG, r"1 of 29 keys .*such as .*layers\.7\.mlp\.up_proj.*Qwen3-VL 4B goes on the 4B"),
        (magnitudes, CONFIG, r"1 of 29 keys .*lora_magnitude_vector"),
        (lambda _: {"x": torch.ones(1)}, CONFIG, r"1 of 1 keys"),
        (one_matrix, CONFIG, r"lora_A alone for the layer layers\.0\.self_attn\.q_proj"),
        (other_size, CONFIG, r"belongs to a model of another size"),
        (dict, None, r"no adapter_config.json beside it"),
        (dict, "{", r"adapter_config.json .* cannot be read"),
        (dict, "[]", r"holds no settings"),
        (dict, {"peft_type": "IA3"}, r"not that of a LoRA"),
        (dict, CONFIG | {"use_dora": True}, r"sets use_dora to True, expected False"),
        (dict, CONFIG | {"modules_to_save": ["lm_head"]}, r"sets modules_to_save"),
    ],
)
def test_what_is_not_used_or_not_known_is_an_error(host, clip, save, change, config, said):
    name = save(change(peft_file(clip, names())), config)
    with pytest.raises(ValueError, match=said):
        load(host, clip, name)
    assert not clip.patcher.patches


def test_the_node_offers_the_loras_of_the_host(host, clip, save):
    import nodes

    name = save(peft_file(clip, names()))
    offered, settings = nodes.NODE_CLASS_MAPPINGS["EditJudgeVLM"].INPUT_TYPES()["optional"]["lora_name"]
    assert "None" in (settings.get("options") or offered)
    from icedit.host.judges.lora import lora_names

    assert name in lora_names()
