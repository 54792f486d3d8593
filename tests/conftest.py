"""Makes the pack importable as `icedit`, ComfyUI importable as itself, and offers the tiny stack and a server.

Run by the embedded environment's interpreter (`nox -s tests`): ICEDIT_HOST names the ComfyUI tree that belongs to it.
"""

import os
import sys
from pathlib import Path

import pytest
from support.pack import PACK, load_pack


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


load_pack()
_load_host()


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
