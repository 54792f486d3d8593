"""Picking a candidate over HTTP: what runs, what does not, and what the next run is spared."""

import asyncio
import copy
import io
import json
import shutil
import urllib.request
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from icedit.headless.batch import finished_run
from icedit.headless.client import ComfyClient
from icedit.headless.errors import ComfyError
from icedit.headless.workflow import load_workflow, with_value
from PIL import Image
from support.pack import PACK
from support.workflows import WORKFLOWS

pytestmark = pytest.mark.server

FILTER, REPORT, SAVE, STEPS = "10", "report", "save", 4
KSAMPLER = (
    "model", "steps", "cfg", "sampler_name", "scheduler", "positive", "negative", "latent_image", "denoise",
)  # fmt: skip


@dataclass(frozen=True)
class Ran:
    """What one run told: the sampler's outputs, its report, the saved pictures by node, and the nodes that had run in
    an earlier one."""

    outputs: dict[str, Any]
    report: dict[str, Any]
    pictures: dict[str, np.ndarray]
    cached: set[str]

    @property
    def spent(self) -> int:
        return self.report["evaluations"]["spent"]

    @property
    def seeds(self) -> list[str]:
        return [candidate["seed"] for candidate in self.outputs["icedit_candidates"]]


@pytest.fixture(scope="module")
def workflow(server):
    """The shipped workflow, small, with the report and a picture decoded by the host alone."""
    shutil.copy(PACK / "headless" / "astronaut.jpg", server.folder / "input" / "example.png")
    found = load_workflow(WORKFLOWS / "api" / "icedit_early_filter.json")
    for change in (f"steps={STEPS}", "candidates=3", "probe_steps=1", "keep=1", "seed=11", "choose=me"):
        found = with_value(found, f"EarlyFilterSampler.{change}")
    found = with_value(found, "DiptychCreate.panel_width=128")
    kept = {key: node for key, node in found.items() if int(key) <= int(FILTER)}
    return kept | {
        REPORT: {"class_type": "PreviewAny", "inputs": {"source": [FILTER, 3]}},
        "decoded": {"class_type": "VAEDecode", "inputs": {"samples": [FILTER, 0], "vae": ["5", 0]}},
        SAVE: {"class_type": "SaveImage", "inputs": {"images": ["decoded", 0], "filename_prefix": "pick"}},
    }


@pytest.fixture
def run(server):
    def ran(workflow) -> Ran:
        async def go():
            async with ComfyClient(server.url) as client:
                result = await client.run(workflow)
                saved = [picture for picture in result.pictures if picture.kind == "output"]
                return result, {picture.node: await client.download(picture) for picture in saved}

        result, files = asyncio.run(go())
        with urllib.request.urlopen(f"{server.url}/history/{result.prompt_id}") as answer:
            status = json.load(answer)[result.prompt_id]["status"]
        assert status["status_str"] == "success"
        cached = next(said["nodes"] for event, said in status["messages"] if event == "execution_cached")
        pictures = {node: np.asarray(Image.open(io.BytesIO(data))).astype(int) for node, data in files.items()}
        # A node that had run in an earlier one tells nothing.
        report = json.loads(result.outputs[REPORT]["text"][0]) if REPORT in result.outputs else {}
        return Ran(result.outputs.get(FILTER, {}), report, pictures, set(cached))

    return ran


def with_inputs(workflow, node=FILTER, **inputs):
    changed = copy.deepcopy(workflow)
    changed[node]["inputs"] |= inputs
    return changed


def forget(server) -> None:
    """As after a restart: the host drops all that it had computed."""
    body = json.dumps({"unload_models": True, "free_memory": True}).encode()
    urllib.request.urlopen(
        urllib.request.Request(f"{server.url}/free", body, {"Content-Type": "application/json"})
    ).close()

    async def next_prompt() -> None:
        async with ComfyClient(server.url) as client:
            await client.run({"1": {"class_type": "PreviewAny", "inputs": {"source": "forgotten"}}})

    # The host does so between two prompts: without one in between it might only after the next.
    asyncio.run(next_prompt())


def picked(first: Ran, seed: str) -> str:
    """As the page writes it."""
    return f"{seed} of {first.outputs['icedit_pick'][0]['inputs']}"


def plain(workflow, seed: int):
    inputs = {name: workflow[FILTER]["inputs"][name] for name in KSAMPLER}
    return {key: node for key, node in workflow.items() if key not in (FILTER, REPORT)} | {
        FILTER: {"class_type": "KSampler", "inputs": inputs | {"seed": seed}}
    }


def test_nothing_is_saved_before_a_pick_and_then_only_the_rest_runs(server, run, workflow):
    forget(server)
    first = run(workflow)
    assert (first.pictures, first.spent, first.seeds) == ({}, 3, ["11", "12", "13"])
    assert all(candidate["image"]["type"] == "temp" for candidate in first.outputs["icedit_candidates"])
    second = run(with_inputs(workflow, picked=picked(first, "12")))
    assert second.spent == STEPS - 1 + 1
    # Everything before the sampler is what the candidates were made from.
    assert second.cached == {key for key in workflow if key.isdigit()} - {FILTER}
    # Another seed at the widget, as the page's control makes it after each run, leaves the pick as it is.
    third = run(with_inputs(workflow, picked=picked(first, "13"), seed=99))
    assert (third.spent, third.report["seeds"], third.seeds) == (STEPS - 1 + 1, [13], ["11", "12", "13"])

    async def by_ksampler():
        async with ComfyClient(server.url) as client:
            result = await finished_run(client, plain(workflow, 12))
            return await client.download(result.pictures[0])

    expected = np.asarray(Image.open(io.BytesIO(asyncio.run(by_ksampler())))).astype(int)
    assert expected.std() > 1 and np.array_equal(second.pictures[SAVE], expected)
    assert not np.array_equal(third.pictures[SAVE], expected)


def test_after_a_restart_the_pick_is_run_from_its_seed(server, run, workflow):
    first = run(workflow)
    expected = run(with_inputs(workflow, picked=picked(first, "12"))).pictures[SAVE]
    forget(server)
    after = run(with_inputs(workflow, picked=picked(first, "12")))
    assert (after.spent, after.seeds) == (STEPS + 1, ["12"])
    assert "None of its steps were kept" in after.report["pictures"][0]["why"]
    assert np.array_equal(after.pictures[SAVE], expected)


def test_a_pick_counts_for_what_it_was_picked_from_only(run, workflow):
    first = run(workflow)
    pick = picked(first, "12")
    other = with_inputs(workflow, "7", editText="make it blue")
    again = run(with_inputs(other, picked=pick))
    assert (again.pictures, again.spent, again.seeds) == ({}, 3, ["11", "12", "13"])
    assert again.outputs["icedit_pick"][0]["asked"] == pick and not again.outputs["icedit_pick"][0]["finished"]
    # A seed alone is meant as it stands.
    assert run(with_inputs(other, picked="12")).report["seeds"] == [12]


def test_two_samplers_in_one_graph_keep_their_own(run, workflow):
    both = copy.deepcopy(workflow)
    both["20"] = copy.deepcopy(both[FILTER])
    both["20"]["inputs"] |= {"seed": 50, "cfg": 2.0}
    both["other report"] = {"class_type": "PreviewAny", "inputs": {"source": ["20", 3]}}
    both["other decoded"] = {"class_type": "VAEDecode", "inputs": {"samples": ["20", 0], "vae": ["5", 0]}}
    both["other"] = {"class_type": "SaveImage", "inputs": {"images": ["other decoded", 0], "filename_prefix": "other"}}
    first = run(both)
    assert first.pictures == {}
    one = run(with_inputs(both, picked="12"))
    # The other one still waits.
    assert set(one.pictures) == {SAVE} and one.spent <= STEPS
    two = run(with_inputs(with_inputs(both, picked="12"), "20", picked="51"))
    alone = run(with_inputs(workflow, seed=50, cfg=2.0, picked="51"))
    assert np.array_equal(two.pictures["other"], alone.pictures[SAVE])
    assert not np.array_equal(two.pictures["other"], one.pictures[SAVE])


def test_the_command_line_says_which_seeds_there_are(server, workflow):
    async def go():
        async with ComfyClient(server.url) as client:
            await finished_run(client, with_inputs(workflow, seed=70))

    with pytest.raises(ComfyError, match=r"waits for you to pick .* one of the seeds 70, 71, 72, or choose"):
        asyncio.run(go())
