"""The nodes from a picture and an instruction to the edited latent."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .graph import Graph, Link, Node, Output
from .loaders import Models

EXAMPLE_PICTURE = "example.png"
INSTRUCTION = "make her hair dark green"
STEPS = 28
SEED = 42


@dataclass(frozen=True)
class Prepared:
    """The inputs of a sampler."""

    model: Link
    positive: Output
    negative: Output
    latent: Output
    vae: Link
    instruction: Output
    layout: Output


def edit(
    graph: Graph,
    models: Models,
    picture: dict[str, Any],
    instruction: str | Link,
    add_sampler: Callable[[Graph, Prepared], Output],
) -> tuple[Node, Output]:
    """From the picture to the edited latent. `picture` are values of Create Diptych; that node is returned first."""
    diptych = create_diptych(graph, picture)
    text = graph.add(
        "InContextEditInstruction",
        graph.below(420),
        (340, 330),
        values={"editText": instruction, "clip": models.clip, "guidance": 50.0, "template": "ICEdit"},
    )
    return diptych, filled(graph, models, diptych, text, add_sampler)


def create_diptych(graph: Graph, picture: dict[str, Any]) -> Node:
    """Create Diptych with some of its values given."""
    values = {"panel_width": 512, "right_panel": "copy", **picture}
    return graph.add("DiptychCreate", graph.below(420), (340, 510), values=values)


def zeroed(graph: Graph, text: Node) -> Output:
    """The negative conditioning that a sampler asks for and cfg 1 does not use."""
    values = {"conditioning": text["In_context"]}
    return graph.add("ConditioningZeroOut", graph.below(830), (400, 40), values=values)["CONDITIONING"]


def filled(
    graph: Graph, models: Models, diptych: Node, text: Node, add_sampler: Callable[[Graph, Prepared], Output]
) -> Output:
    """The sampled latent: the masked panel is filled, the other one kept."""
    negative = zeroed(graph, text)
    conditioning = graph.add(
        "ICEFConditioning",
        graph.below(830),
        (400, 160),
        values={
            "In_context": text["In_context"],
            "negative": negative,
            "vae": models.vae,
            "diptych": diptych["diptych"],
            "maskDiptych": diptych["maskDiptych"],
            "layout": diptych["layout"],
        },
    )
    prepared = Prepared(
        model=models.model,
        positive=conditioning["In_context"],
        negative=conditioning["negative"],
        latent=conditioning["latent"],
        vae=models.vae,
        instruction=text["instruction"],
        layout=diptych["layout"],
    )
    return add_sampler(graph, prepared)


def sampler_values(prepared: Prepared) -> dict[str, Any]:
    """What every sampler here is given."""
    return {
        "model": prepared.model,
        "seed": SEED,
        "steps": STEPS,
        "cfg": 1.0,
        "sampler_name": "euler",
        "scheduler": "simple",
        "positive": prepared.positive,
        "negative": prepared.negative,
        "latent_image": prepared.latent,
        "denoise": 1.0,
    }


def ksampler(graph: Graph, prepared: Prepared, seed: int | Link = SEED, seed_control: str = "randomize") -> Output:
    """The edited latent from KSampler, which has room for its preview."""
    values = {**sampler_values(prepared), "seed": seed}
    return graph.add("KSampler", graph.below(830), (400, 500), values=values, seed_control=seed_control)["LATENT"]
