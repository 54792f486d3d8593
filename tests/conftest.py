"""Makes the pack importable as `icedit`, ComfyUI importable as itself, and offers the tiny stack and a server.

Run by the embedded environment's interpreter (`nox -s tests`): ICEDIT_HOST names the ComfyUI tree that belongs to it.
"""

import os
import sys
from pathlib import Path

import pytest
from support.pack import PACK, load_pack

# Fixtures of one feature that several test files use.
pytest_plugins = (
    "support.early_filter",
    "support.inversion",
    "support.known_tokens",
    "support.moe",
    "support.panel_edge",
)


def _load_host() -> None:
    sys.path.insert(0, os.environ["ICEDIT_HOST"])
    import comfy.options

    # As ComfyUI's main does it: before its nodes put their own folders, which hold another `utils`, on the path.
    import utils.install_util  # noqa: F401

    # Without --cpu the host asks CUDA for a device as soon as it is imported.
    device = [] if os.environ.get("ICEDIT_HOST_CUDA") else ["--cpu"]
    comfy.options.enable_args_parsing()
    sys.argv, kept = [sys.argv[0], *device, *os.environ.get("ICEDIT_HOST_ARGS", "").split()], sys.argv
    import comfy.cli_args

    sys.argv = kept
    if not device:
        _merge_loras_in_float32()


def _merge_loras_in_float32() -> None:
    """On GPUs the host merges ordinary LoRAs in float16, which alone puts a float32 model off by 2e-4."""
    import comfy.model_management
    import torch

    comfy.model_management.lora_compute_dtype = lambda _: torch.float32


load_pack()
_load_host()

MINI_MODELS = PACK / "mini" / "models"


@pytest.fixture(scope="session")
def host_environment():
    from icedit.private_host.environment import Environment

    return Environment.of_this_process()


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory) -> Path:
    """A models folder with the tiny stack."""
    from support.tiny_stack import write_stack

    folder = tmp_path_factory.mktemp("models")
    write_stack(folder)
    return folder


@pytest.fixture(scope="session")
def host(tiny_models, tmp_path_factory):
    """ComfyUI in this process, its folders private, its models the tiny stack, our nodes among its nodes."""
    from support.inprocess import InProcessHost

    return InProcessHost.start(tiny_models, tmp_path_factory.mktemp("host"), PACK)


@pytest.fixture(scope="module")
def one_thread():
    """Torch adds in one order, however many cores there are: for results that are compared bit for bit."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def shows_values():
    """Skips on hosts that do not show a block's values to patches."""
    from support.hosts import need_shown_values

    need_shown_values()


@pytest.fixture(scope="module")
def vae(host):
    """The tiny VAE."""
    return host.load_vae()


@pytest.fixture(scope="module")
def models(host, vae):
    """The tiny FLUX.1-Fill and the tiny VAE, by the names of the nodes' inputs."""
    return {"model": host.load_model(), "vae": vae}


@pytest.fixture(scope="module")
def edit(host, vae):
    """The smallest edit: positive, negative and latent_image for these models."""
    from support.tiny_edit import edit_inputs

    return edit_inputs(host, vae)


@pytest.fixture(scope="module")
def stack(host):
    """The tiny FLUX.1-Fill, its text encoders and its VAE, for edits through the pack's own nodes."""
    return host.load_model(), host.load_clip(), host.load_vae()


@pytest.fixture(scope="module")
def mini(host):
    """The host with the mini models among its models, after the tiny ones."""
    import folder_paths

    for kind in MINI_MODELS.iterdir():
        folder_paths.add_model_folder_path(kind.name, str(kind))
    return host


@pytest.fixture(scope="module")
def mini_vae(host):
    """The mini models' VAE, which was trained."""
    import comfy.sd
    import comfy.utils

    return comfy.sd.VAE(sd=comfy.utils.load_torch_file(str(MINI_MODELS / "vae" / "mini_ae.safetensors")))


@pytest.fixture
def no_judge_key(monkeypatch):
    """The environment names no key for a judge's server, and no server but this machine."""
    from icedit.early_filter.judges.api_key import HOSTS_VARIABLE, KEY_VARIABLE

    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    monkeypatch.delenv(HOSTS_VARIABLE, raising=False)


@pytest.fixture(scope="session")
def server(host_environment, tiny_models):
    """A real ComfyUI server with the tiny stack."""
    from icedit.private_host.server import running_server

    with running_server(host_environment, tiny_models) as running:
        yield running


# Not for the session: as long as playwright runs, no other test can start an event loop.
@pytest.fixture(scope="module")
def comfy(server):
    """The server's page in a browser, with a picture among its inputs; skipped where no browser is installed."""
    import shutil

    from support.page import comfy_page

    shutil.copy(PACK / "headless" / "astronaut.jpg", server.folder / "input" / "example.png")
    with comfy_page(server.url) as page:
        yield page


@pytest.fixture(scope="session")
def guarded(host_environment, tiny_models, tmp_path_factory):
    """A server that is watched, with canaries outside its folders and a judge's key in its environment."""
    from support.guarded import guarded_server

    with guarded_server(host_environment, tiny_models, tmp_path_factory.mktemp("guarded")) as running:
        yield running
