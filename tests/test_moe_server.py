"""The adapter on a real ComfyUI server, prompt after prompt."""

import json
import time
import urllib.request

import psutil
import pytest
from safetensors.torch import load_file

pytestmark = pytest.mark.server

MODEL, MOE = ["model", 0], ["moe", 0]


def graph(model=MODEL, seed=0, **inputs):
    """One step of the tiny model from text; the latent is saved."""
    return {
        "model": {
            "class_type": "UNETLoader",
            "inputs": {"unet_name": "flux1-fill-dev.safetensors", "weight_dtype": "default"},
        },
        "moe": {
            "class_type": "MoELoRALoader",
            "inputs": {"model": MODEL, "lora_name": "icedit_moe_lora.safetensors", "strength": 1.0, **inputs},
        },
        "clip": {
            "class_type": "DualCLIPLoader",
            "inputs": {
                "clip_name1": "clip_l.safetensors",
                "clip_name2": "t5xxl_fp8_e4m3fn.safetensors",
                "type": "flux",
            },
        },
        "text": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["clip", 0], "text": "make it red"}},
        "latent": {"class_type": "EmptySD3LatentImage", "inputs": {"width": 128, "height": 64, "batch_size": 1}},
        **sampled("", model, seed),
    }


def sampled(name, model, seed):
    """A sampler for `model` and its saved latent."""
    inputs = {
        "model": model, "seed": seed, "steps": 1, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple",
        "positive": ["text", 0], "negative": ["text", 0], "latent_image": ["latent", 0], "denoise": 1.0,
    }  # fmt: skip
    return {
        f"sampler{name}": {"class_type": "KSampler", "inputs": inputs},
        f"save{name}": {
            "class_type": "SaveLatent",
            "inputs": {"samples": [f"sampler{name}", 0], "filename_prefix": f"moe{name}"},
        },
    }


class Queue:
    def __init__(self, server):
        self.server = server

    def put(self, prompt):
        body = json.dumps({"prompt": prompt}).encode()
        request = urllib.request.Request(f"{self.server.url}/prompt", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)["prompt_id"]

    def wait(self, prompt_id):
        """The outputs of a prompt that went well."""
        while True:
            with urllib.request.urlopen(f"{self.server.url}/history/{prompt_id}") as answer:
                entry = json.load(answer).get(prompt_id)
            if entry:
                assert entry["status"]["status_str"] == "success", entry["status"]
                return entry["outputs"]
            time.sleep(0.1)

    def latents(self, prompt):
        """Node -> its saved latent."""
        outputs = self.wait(self.put(prompt))
        latents = {}
        for node, output in outputs.items():
            for file in output.get("latents", []):
                path = self.server.output / file["subfolder"] / file["filename"]
                latents[node] = load_file(path)["latent_tensor"]
        return latents


@pytest.fixture(scope="module")
def queue(server):
    return Queue(server)


def test_with_and_without_in_one_graph(queue):
    """Bit for bit what each gives alone."""
    alone = queue.latents(graph(MODEL))["save"]
    adapted = queue.latents(graph(MOE))["save"]
    assert (alone - adapted).abs().max() > 0.01
    both = queue.latents(graph(MODEL, seed=1) | sampled("1", MOE, 0) | sampled("2", MODEL, 0) | sampled("3", MOE, 0))
    assert both["save2"].equal(alone)
    assert both["save1"].equal(adapted)
    assert both["save3"].equal(adapted)


def test_a_new_strength_loads_no_model_again(queue):
    def loads():
        return queue.server.log_file.read_text().count("model weight dtype")

    first = queue.latents(graph(MOE, strength=1.0))["save"]
    before = loads()
    second = queue.latents(graph(MOE, strength=0.5))["save"]
    third = queue.latents(graph(MOE, strength=0.5, expert_strength=0.0))["save"]
    assert loads() == before > 0
    assert not first.equal(second)
    assert not second.equal(third)
    assert queue.latents(graph(MOE, strength=0.0))["save"].equal(queue.latents(graph(MODEL))["save"])


def test_200_prompts_with_and_without_need_no_more_memory(queue):
    process = psutil.Process(queue.server.process.pid)

    def run(seeds):
        for prompt in [queue.put(graph(MOE if seed % 2 else MODEL, seed)) for seed in seeds]:
            queue.wait(prompt)
        return process.memory_info().rss

    after_ten = run(range(1000, 1010))
    assert run(range(1010, 1200)) <= 1.01 * after_ten
