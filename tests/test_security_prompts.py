"""Prompts made by somebody who wants in, over HTTP against a real, watched server: each is told why not."""

import json
import math
import os
import re
from typing import Any

import pytest
from support.guarded import Guarded, Prompt

pytestmark = [pytest.mark.server, pytest.mark.skipif(os.name == "nt", reason="the paths are those of Linux and macOS")]

# fmt: off
PICTURE: Prompt = {
    "1": {"class_type": "DiptychCreate", "inputs": {"image": "fine.png", "panel_width": 64}},
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "icedit"}},
}
LORA: Prompt = {
    "0": {"class_type": "UNETLoader", "inputs": {"unet_name": "flux1-fill-dev.safetensors", "weight_dtype": "default"}},
    "1": {"class_type": "MoELoRALoader", "inputs": {
        "model": ["0", 0], "lora_name": "icedit_moe_lora.safetensors", "strength": 1.0}},
    "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 1]}},
}
CLIP: Prompt = {
    "1": {"class_type": "EditJudgeCLIP", "inputs": {
        "model_name": "None found in models/clip_vision",
        "text_weight": 1.0, "source_weight": 0.5, "direction_weight": 0.5}},
    "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}},
}
SERVER: Prompt = {
    "1": {"class_type": "EditJudgeEndpoint", "inputs": {
        "base_url": "http://localhost:1/v1", "model": "m", "checks": False, "swap_order": False}},
    "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}},
}
TEXT: Prompt = {
    "0": {"class_type": "DualCLIPLoader", "inputs": {
        "clip_name1": "clip_l.safetensors", "clip_name2": "t5xxl_fp8_e4m3fn.safetensors", "type": "flux"}},
    "1": {"class_type": "InContextEditInstruction", "inputs": {"editText": "make it red", "clip": ["0", 0]}},
    "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 1]}},
}
PAIRS: Prompt = {
    "1": {"class_type": "LoadEditPairs", "inputs": {"sources": "linked"}},
    "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 1]}},
}
# fmt: on


def linked(text: str) -> Prompt:
    """Nodes that hand a text on as "any type": the host then compares it with no list of choices."""
    return {
        "text": {"class_type": "PrimitiveString", "inputs": {"value": text}},
        "link": {
            "class_type": "ComfySwitchNode",
            "inputs": {"switch": True, "on_true": ["text", 0], "on_false": ["text", 0]},
        },
    }


OUTSIDE = "outside ComfyUI's input folder"
NOT_THERE = "is not in ComfyUI's input folder"
NO_NAME = "expected the name of a picture"
NO_LORA = "There is no file .* in ComfyUI's loras folders"
NO_MODEL = "There is no CLIP or SigLIP model"
NOT_LISTED = "Value not in list"
NO_ADDRESS = "base_url is not an address of a server"
STRANGER = "not this machine.*ICEDIT_JUDGE_API_HOSTS"
SECRET_IN_ADDRESS = "must not hold a user, password, key"
OUTSIDE_OUTPUT = "outside the output folder"
LINK = ["link", 0]

# {out}: the folder that nobody may touch; {up}: the way there from the server's input or output folder.
PICTURES: list[tuple[Any, str]] = [
    ("{up}/secret.png", OUTSIDE),
    ("{out}/secret.png", OUTSIDE),
    ("/{out}/secret.png", OUTSIDE),
    ("{up}/secret.png [output]", OUTSIDE),
    ("{up}/secret.png [temp]", OUTSIDE),
    ("{out}/secret.png [input]", OUTSIDE),
    ("x/../{up}/secret.png", OUTSIDE),
    ("linked/../secret.png", NOT_THERE),
    ("linked/../../{up}/secret.png", OUTSIDE),
    ("..\\..\\outside\\secret.png", NOT_THERE),
    ("C:\\Windows\\win.ini", NOT_THERE),
    ("\\\\evil.example.org\\share\\secret.png", NOT_THERE),
    ("//evil.example.org/share/secret.png", OUTSIDE),
    ("file://{out}/secret.png", NOT_THERE),
    ("http://evil.example.org/secret.png", NOT_THERE),
    ("~/secret.png", NOT_THERE),
    ("fine.png\0", NOT_THERE),
    ("fine.png\0/{up}/secret.png", OUTSIDE),
    ("/dev/zero", OUTSIDE),
    ("/proc/self/environ", OUTSIDE),
    ("folder.png", NOT_THERE),
    ("", NOT_THERE),
    ("x" * 100_000 + ".png", NOT_THERE),
    ("text.png", "not a picture that can be read"),
    ("bomb.png", "60000 x 60000, 3600 megapixels, more than the"),
    (5, NO_NAME),
    (True, NO_NAME),
    (math.nan, NO_NAME),
    ({"path": "{out}/secret.png"}, NO_NAME),
    ({"__value__": ["{out}/secret.png"]}, NO_NAME),
    (["{out}/secret.png"], "Bad linked input"),
]
NUMBERS: list[tuple[Prompt, str, Any, str]] = [
    (PICTURE, "panel_width", 10**9, "bigger than max"),
    (PICTURE, "panel_width", 2**70, "bigger than max"),
    (PICTURE, "panel_width", -1, "smaller than min"),
    (PICTURE, "panel_width", math.nan, "Failed to convert"),
    (PICTURE, "panel_width", math.inf, "Failed to convert"),
    (PICTURE, "panel_width", "9" * 5000, "Failed to convert"),
    (PICTURE, "fit", "__import__('os')", NOT_LISTED),
    (LORA, "strength", math.nan, "strength is nan"),
    (LORA, "strength", math.inf, "bigger than max"),
    (LORA, "top_k", 10**6, "bigger than max"),
    (LORA, "strength", {"a": 1}, "Failed to convert"),
    (TEXT, "guidance", math.nan, "guidance is nan"),
    (TEXT, "template", "{instruction.__class__}", NOT_LISTED),
    (SERVER, "timeout", -1, "smaller than min"),
    (SERVER, "parallel", 10**6, "bigger than max"),
]
FILES: list[tuple[Prompt, str, Any, str]] = [
    (LORA, "lora_name", "{up}/secret.safetensors", NOT_LISTED),
    (LORA, "lora_name", "{out}/secret.safetensors", NOT_LISTED),
    (LORA | linked("../../outside/secret.safetensors"), "lora_name", LINK, NO_LORA),
    (LORA | linked("{out}/secret.safetensors"), "lora_name", LINK, NO_LORA),
    (LORA | linked("icedit\0.safetensors"), "lora_name", LINK, NO_LORA),
    (LORA | linked("pickled.pt"), "lora_name", LINK, "is not a safetensors file"),
    (LORA, "lora_name", "pickled.safetensors", "cannot be read as safetensors"),
    (LORA, "lora_name", "endless.safetensors", "cannot be read as safetensors"),
    (CLIP, "model_name", "{out}/clip", NOT_LISTED),
    (CLIP | linked("{out}/clip"), "model_name", LINK, NO_MODEL),
    (CLIP | linked("../../outside/clip"), "model_name", LINK, NO_MODEL),
    (CLIP | linked("openai/clip-vit-base-patch32"), "model_name", LINK, NO_MODEL),
    (CLIP, "model_name", "code", r"holds no \*\.safetensors file"),
    (PAIRS, "sources", "{out}", OUTSIDE),
    (PAIRS, "sources", "{up}", OUTSIDE),
    (PAIRS, "edited", "{up} [temp]", OUTSIDE),
    (PAIRS, "sources", "stolen.jsonl", "2 with a file outside the folder that may be read: line 1 .*; line 2"),
    (PAIRS, "sources", "bomb.csv", "3600 megapixels, more than the"),
]
ADDRESSES = [
    ("file:///etc/passwd", NO_ADDRESS),
    ("gopher://localhost/v1", NO_ADDRESS),
    ("unix:///var/run/docker.sock", NO_ADDRESS),
    ("javascript:alert(1)", NO_ADDRESS),
    ("", NO_ADDRESS),
    ("http://evil.example.org/v1", STRANGER),
    ("http://169.254.169.254/latest/meta-data", STRANGER),
    ("http://2852039166/", STRANGER),
    ("http://0.0.0.0:8188", STRANGER),
    ("http://127.0.0.1.evil.example.org/v1", STRANGER),
    ("http://localhost\r\nX-Evil: 1.example.org/v1", NO_ADDRESS),
    ("http://localhost:80@evil.example.org/v1", SECRET_IN_ADDRESS),
    ("http://localhost\\@evil.example.org/v1", SECRET_IN_ADDRESS),
    ("http://localhost/v1?next=", SECRET_IN_ADDRESS),
    ("http://localhost/prompt#/", SECRET_IN_ADDRESS),
]
PREFIXES = ["{up}/icedit", "{out}/icedit", "x/../{up}/icedit", "%date%/../{up}/icedit"]
LINKS = [
    (PICTURE, {"2.images": ["1", 99]}, "index out of range"),
    (PICTURE, {"2.images": ["1", 3]}, "Return type mismatch"),
    (PICTURE, {"2.images": ["nobody", 0]}, "nobody"),
    # ComfyUI 0.16.3 refuses what runs in a circle, but does not say so.
    (PICTURE, {"1.image_input": ["1", 0]}, "cycle|failed validation: $"),
    (LORA, {"1.model": ["2", 0]}, "mismatch|cycle|index out of range"),
    (PICTURE, {"1.image": "None"}, "no picture to edit"),
]


def cases() -> list[Any]:
    made = [(f"image {value!r:.40}", PICTURE, {"1.image": value}, reason) for value, reason in PICTURES]
    made += [(f"{name} {value!r:.20}", graph, {f"1.{name}": value}, why) for graph, name, value, why in NUMBERS]
    made += [
        (f"{name} {graph.get('text', {}).get('inputs') or value!r}", graph, {f"1.{name}": value}, reason)
        for graph, name, value, reason in FILES
    ]
    made += [(f"base_url {value}", SERVER, {"1.base_url": value}, reason) for value, reason in ADDRESSES]
    made += [(f"prefix {value}", PICTURE, {"2.filename_prefix": value}, OUTSIDE_OUTPUT) for value in PREFIXES]
    made += [(f"link {changes}", graph, changes, reason) for graph, changes, reason in LINKS]
    return [pytest.param(*case[1:], id=re.sub(r"[^\w./:@ -]", "", case[0])) for case in made]


def placed(text: Any, guarded: Guarded) -> Any:
    """The case with this server's paths."""
    up = os.path.relpath(guarded.outside, guarded.server.folder / "input")
    if isinstance(text, str):
        return text.replace("{out}", str(guarded.outside)).replace("{up}", up)
    if isinstance(text, dict):
        return {key: placed(value, guarded) for key, value in text.items()}
    return [placed(value, guarded) for value in text] if isinstance(text, list) else text


@pytest.mark.parametrize(("graph", "changes", "reason"), cases())
def test_a_crafted_prompt_gets_its_reason_and_touches_nothing(guarded, graph, changes, reason):
    prompt = json.loads(json.dumps(graph))
    for target, value in changes.items():
        node, name = target.split(".")
        prompt[node]["inputs"][name] = value
    before, start = guarded.files(), guarded.audit.stat().st_size
    answer = guarded.answer(json.dumps({"prompt": placed(prompt, guarded)}).encode())
    assert re.search(reason, answer, re.DOTALL), answer[:500]
    assert "Traceback" not in answer
    assert guarded.files() == before
    events = guarded.events(start)
    assert not [event for event in events if str(guarded.outside) in " ".join(event[1:2])]
    assert not [event for event in events if event[0].startswith(("socket.", "subprocess.", "pickle."))]
    assert guarded.read_outside() == []
