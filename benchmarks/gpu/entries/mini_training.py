"""How long training the mini models' base, their longest stage, takes on this device."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..setting import Setting

SCENES = 64
STEPS = {"cuda": (20, 220), "cpu": (1, 2)}
"""Two runs of so many steps: what they differ by takes no compiling and no setting up."""


def figures(setting: Setting) -> Iterator[dict[str, Any]]:
    setting.start()
    from icedit.mini import stages
    from icedit.mini.autoencoder import Autoencoder
    from icedit.mini.dataset import Sentences
    from icedit.mini.text import Naming, Tokenizers

    whole = stages.Steps()
    begun = time.perf_counter()
    data = stages.encoded_chunks(setting.folder / "edits", stages.Steps(chunks=1, scenes=SCENES), Autoencoder())
    scene = (time.perf_counter() - begun) / SCENES
    yield {"all_edits_encoded_s": round(scene * whole.chunks * whole.scenes)}

    naming = Naming()
    naming.init_weights()
    sentences = Sentences(naming.encoders, Tokenizers(Path(os.environ["ICEDIT_HOST"])))
    setup = stages.DiffusionSetup(data, sentences, setting.device, setting.on_cuda)

    def seconds(steps: int) -> float:
        begun = time.perf_counter()
        stages.train_base(setting.folder / f"{steps}.pt", steps, setup)
        setting.wait()
        return time.perf_counter() - begun

    few, many = STEPS[setting.device.type]
    begun = seconds(few)  # compiles
    yield {"with_compiling_s": round(begun, 1)}
    short = seconds_again(setting, few, seconds)
    step = (seconds(many) - short) / (many - few)
    yield {"step_ms": round(1e3 * step, 2), "base_s": round(step * whole.base)}


def seconds_again(setting: Setting, steps: int, seconds: Any) -> float:
    """A finished training is not repeated, so its checkpoint goes."""
    (setting.folder / f"{steps}.pt").unlink()
    return seconds(steps)
