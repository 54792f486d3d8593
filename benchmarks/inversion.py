"""How long In-Context Inversion takes and how exact it is; prints one JSON line.

    ICEDIT_HOST=<ComfyUI> <its python> benchmarks/inversion.py

A 256 x 256 panel, 28 steps, on a small text-to-image FLUX with random weights in float32 on the CPU.

`corrections`, by number of corrections of each step: the reconstruction error of the source panel, and the time of the
inversion divided by that of 28 plain evaluations of the panel.

`shares`, by share of steps and of blocks: the size of the kept values here and for a 512 x 512 panel at FLUX.1-dev's
size in bfloat16, the difference of the sampled left panel to the source, and the time of sampling the diptych divided
by that without kept values (with the quartiles of ROUNDS rounds as spread).

Random weights say nothing about pictures of FLUX.1-dev: the errors can be compared only with each other.
"""

import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from in_process import load_host_and_pack

ROUNDS = int(os.environ.get("ROUNDS", "3"))
STEPS, PANEL = 28, 256
CORRECTIONS = (0, 1, 2, 5, 8)
SHARES = ((0.0, 0.0), (0.57, 0.33), (0.57, 1.0), (1.0, 1.0))
DEV_BLOCKS = [("double", index) for index in range(19)] + [("single", index) for index in range(38)]
DEV_TOKENS, DEV_WIDTH = 32 * 32, 3072


class Bench:
    """A small FLUX, a VAE, a diptych and two prompts."""

    def __init__(self, folder: Path) -> None:
        import comfy.sd
        import comfy.utils
        import torch
        from icedit.host.inversion.invert import schedule_of
        from safetensors.torch import save_file
        from support.tiny_stack import FluxShape, flux, vae

        shape = FluxShape(hidden=256, double_blocks=2, single_blocks=4, in_features=64)
        save_file(flux(shape), folder / "model.safetensors")
        self.model = comfy.sd.load_diffusion_model(str(folder / "model.safetensors"))
        self.vae = comfy.sd.VAE(sd=vae())
        draw = torch.Generator().manual_seed(0)
        half = torch.rand(1, PANEL // 16, PANEL // 16, 3, generator=draw).repeat_interleave(16, 1)
        half = half.repeat_interleave(16, 2)
        self.diptych = torch.cat([half, half], dim=2)
        self.source_prompt, self.prompt = (
            [[torch.randn(1, 64, 32, generator=draw), {"pooled_output": torch.randn(1, 32), "guidance": 3.5}]]
            for _ in range(2)
        )
        self.schedule = schedule_of(self.model, STEPS, "simple", 1.0)

    def invert(self, corrections: int, step_share: float, block_share: float, check: bool) -> tuple[Any, Any, Any]:
        """Model, latent and report."""
        from icedit.host.inversion.invert import Settings, invert_sources

        settings = Settings(corrections, 1.0, step_share, block_share, 64.0, check)
        model, latent, report = invert_sources(
            self.model, self.source_prompt, self.vae, self.diptych, self.schedule, settings
        )
        return model, latent, json.loads(report)

    def sample(self, model: Any, latent: dict[str, Any]) -> tuple[Any, float]:
        """KSampler's samples and its seconds."""
        import nodes

        start = time.perf_counter()
        ksampler = nodes.KSampler()  # pyright: ignore[reportAttributeAccessIssue]
        (result,) = ksampler.sample(model, 0, STEPS, 1.0, "euler", "simple", self.prompt, self.prompt, latent)
        return result["samples"], time.perf_counter() - start


def corrections(bench: Bench) -> dict[str, Any]:
    result = {}
    for number in CORRECTIONS:
        _, _, report = bench.invert(number, 0.57, 0.33, check=True)
        (picture,) = report["pictures"]
        # The check samples the same panel in as many plain evaluations as there are steps.
        ratio = picture["seconds"]["inversion"] / picture["seconds"]["check"]
        result[number] = {
            "reconstruction_error": float(f"{picture['reconstruction_error']:.2g}"),
            "last_correction": picture["last_correction"] and float(f"{picture['last_correction']:.2g}"),
            "evaluations": picture["evaluations"]["inversion"],
            "time_ratio": round(ratio, 2),
        }
    return result


def shares(bench: Bench) -> dict[str, Any]:
    import torch
    from icedit.inversion.solver import relative_error
    from icedit.inversion.values import ValuePlan

    runs = {pair: bench.invert(8, *pair, check=False) for pair in SHARES}
    seconds: dict[Any, list[float]] = {pair: [] for pair in SHARES}
    samples = {}
    for number in range(ROUNDS + 1):
        for pair, (model, latent, _) in runs.items():
            samples[pair], spent = bench.sample(model, latent)
            if number:  # the first round warms up
                seconds[pair].append(spent)
    result = {}
    width = PANEL // 8
    for pair, (_, latent, report) in runs.items():
        ratios = [mine / plain for mine, plain in zip(seconds[pair], seconds[SHARES[0]], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        dev = ValuePlan.of(STEPS, DEV_BLOCKS, *pair).nbytes(DEV_TOKENS, DEV_WIDTH, torch.bfloat16)
        result["{} steps, {} blocks".format(*pair)] = {
            "held_mb": round(report["held"]["bytes"] / 1e6, 1),
            "flux_dev_gb": round(dev / 1e9, 2),
            "left_error": round(relative_error(samples[pair][..., :width], latent["samples"][..., :width]), 3),
            "time_ratio": round(middle, 3),
            "spread": [round(low, 3), round(high, 3)],
        }
    return result


def main() -> None:
    load_host_and_pack()
    import torch

    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        bench = Bench(Path(folder))
        print(json.dumps({"corrections": corrections(bench), "shares": shares(bench)}))


if __name__ == "__main__":
    main()
