"""A ComfyUI that the command line starts itself: an installed one, or a private one with the mini models."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from .client import Workflow
from .errors import ComfyError
from .workflow import WorkflowError, with_values

log = logging.getLogger(__name__)

PACK = Path(__file__).resolve().parent.parent
MINI = PACK / "mini"
MODELS = MINI / "models"
PICTURE = MINI / "example.png"
INSTRUCTION = "make the red circle blue"
UNTRAINED_INSTRUCTION = "change the background to black"
"""For workflows without training, which change large parts more surely than single shapes."""
DESCRIPTION = "a red circle, a green triangle and a yellow square on a cyan background"

FILL, TEXT_TO_IMAGE = "mini_fill.safetensors", "mini_dev.safetensors"
MINI_VALUES = {
    "UNETLoader.unet_name": FILL,
    "DualCLIPLoader.clip_name1": "mini_clip_l.safetensors",
    "DualCLIPLoader.clip_name2": "mini_t5.safetensors",
    "VAELoader.vae_name": "mini_ae.safetensors",
    "LoraLoaderModelOnly.lora_name": "mini_lora.safetensors",
    "MoELoRALoader.lora_name": "mini_moe_lora.safetensors",
    "DiptychCreate.panel_width": 128,
    "LoadEditPairs.panel_size": 128,
}

KONTEXT = "ReferenceLatent"
"""A node of FLUX.1 Kontext's, which sees the picture with it."""
MODEL_FILES = (".safetensors", ".sft", ".gguf", ".ckpt", ".pt", ".pth", ".bin")

NOTICE = """\
This was a mini model: a small FLUX.1 that was trained on drawings such as mini/example.png, 128 x 128 pixels.
It knows circles, squares, triangles, diamonds and crosses in red, orange, yellow, green, blue and purple on white,
grey, black, pink, cyan or brown backgrounds, and sentences like these:
    make the red circle blue            remove the red circle
    turn the red circle into a square   add a green cross at the top left
    make the red circle an outline      change the background to black
Photographs and other words mean nothing to it. For those start your own ComfyUI with FLUX.1-Fill and the ICEdit LoRA
(see README.md, Models) and add --server http://127.0.0.1:8188, or --comfyui and the folder that it is in."""


@contextmanager
def started_server(comfyui: Path | None, python: Path | None, arguments: Sequence[str]) -> Iterator[str]:
    """The address of a server that is started, and stopped at the end.

    Args:
        comfyui: the folder of an installed ComfyUI; with None a private one is set up, which has the mini models.
        python: the interpreter of the installed one, if it is not where installations have theirs.
        arguments: for the installed one's command line.

    Raises:
        ComfyError: the registry's copy of this pack has nothing to start, there is no ComfyUI in the folder, a download
            or an installation failed, or ComfyUI did not start.
    """
    if not (PACK / "private_host").is_dir() or not MODELS.is_dir():
        raise ComfyError(
            f"{PACK} is the pack as ComfyUI-Manager installs it, which starts no ComfyUI. Start yours and name it, as "
            "--server http://127.0.0.1:8188, or clone the repository to try the pack without one."
        )
    # Not at the top: the registry's copy does not have this folder.
    from ..private_host.environment import SetupError, prepare
    from ..private_host.installed import installed
    from ..private_host.server import ServerError, running_server

    try:
        environment = prepare() if comfyui is None else installed(comfyui, python)
        log.info("Starting %s", "the embedded ComfyUI" if comfyui is None else f"the ComfyUI in {environment.host}")
        models, arguments = (MODELS, ["--cpu"]) if comfyui is None else (None, arguments)
        with running_server(environment, models, arguments) as server:
            yield server.url
    except SetupError as error:
        raise ComfyError(str(error)) from error
    except ServerError as error:
        hint = "\nIf you start it with options, give them here, too, as --comfyui-option=--cpu" if comfyui else ""
        raise ComfyError(f"{error}{hint}") from error


def with_mini_models(workflow: Workflow) -> Workflow:
    """The workflow with the mini models' files and panel size in place of the real models'.

    One without training gets the text-to-image FLUX.1, every other one FLUX.1-Fill.
    """
    model = TEXT_TO_IMAGE if _without_training(workflow) else FILL
    return with_values(workflow, MINI_VALUES | {"UNETLoader.unet_name": model})


def default_instruction(workflow: Workflow) -> str:
    """An edit of `PICTURE` that the mini models make with this workflow."""
    return UNTRAINED_INSTRUCTION if _without_training(workflow) else INSTRUCTION


def _without_training(workflow: Workflow) -> bool:
    return any(
        node["class_type"] == "InContextInversion" or node["inputs"].get("template") == "text-to-image"
        for node in workflow.values()
    )


def check_models(workflow: Workflow) -> None:
    """Refuse a workflow that needs models of which there are no mini ones.

    Raises:
        WorkflowError: with what is missing.
    """
    have = {path.name for path in MODELS.rglob("*.safetensors")}
    missing = [
        f"{value} (node {key}, {node['class_type']})"
        for key, node in workflow.items()
        for value in node["inputs"].values()
        if isinstance(value, str) and value.endswith(MODEL_FILES) and value not in have
    ]
    missing += [f"FLUX.1 Kontext (node {key}, {KONTEXT})" for key in workflow if workflow[key]["class_type"] == KONTEXT]
    # Without any the pack is the registry's copy, which starts no server.
    if missing and have:
        raise WorkflowError(
            f"The workflow needs {', '.join(missing)}. The private ComfyUI has the mini models only: "
            f"{', '.join(sorted(have))}. Run the workflow on your ComfyUI, with --server http://127.0.0.1:8188 or with "
            "--comfyui and its folder."
        )
