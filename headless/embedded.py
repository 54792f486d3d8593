"""The embedded default: a private ComfyUI with tiny random weights, where there are neither server nor models."""

import hashlib
import logging
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from .environment import Environment, SetupError, cache_dir, prepare
from .server import Server, running_server

log = logging.getLogger(__name__)

WEIGHTS_SCRIPT = Path(__file__).parent / "tiny" / "weights.py"

NOTICE = (
    "The embedded models are tiny and random: they prove that everything is connected, but they cannot edit, so the "
    "result is noise. For real edits start your own ComfyUI with FLUX.1-Fill and the ICEdit LoRA (see README.md, "
    "Models) and add --server http://127.0.0.1:8188"
)


@contextmanager
def embedded_server() -> Iterator[Server]:
    """Set up what is missing, start the embedded server, and stop it at the end.

    Raises:
        SetupError: a download or an installation failed.
        ServerError: ComfyUI did not start.
    """
    environment = prepare()
    models = tiny_models(environment)
    log.info("Starting the embedded ComfyUI")
    with running_server(environment, models) as server:
        yield server


def tiny_models(environment: Environment) -> Path:
    """The models folder of the tiny stack, written on first use."""
    key = hashlib.sha256(WEIGHTS_SCRIPT.read_bytes()).hexdigest()[:8]
    target = cache_dir() / f"tiny-models-{key}"
    with FileLock(cache_dir() / "setup.lock"):
        if not target.is_dir():
            log.info("Making the tiny models (15 MB, once)")
            with tempfile.TemporaryDirectory(dir=cache_dir()) as scratch:
                made = Path(scratch) / "models"
                done = subprocess.run(
                    [str(environment.python), str(WEIGHTS_SCRIPT), str(made)],
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    text=True,
                    check=False,
                )
                if done.returncode != 0:
                    raise SetupError(f"The tiny models could not be made:\n{done.stderr.strip()}")
                shutil.move(made, target)
    return target
