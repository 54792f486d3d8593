"""How well the region that RegionFromChange finds in a probe fits what an edit should change; prints JSON lines.

    ICEDIT_HOST=<ComfyUI> <its python> benchmarks/region_from_change.py [--edits N]

The mini models' edits of the held-out set, one seed each. A row for each number of steps and threshold: `overlap` is
the mean intersection over union of the region, without borders, and the pixels that differ visibly between the scenes;
`covered` is the share of those pixels that the region holds when it is grown by 3 pixels of 128. Intervals hold 95 %
of the means of resamples. A minute on two CPU cores.
"""

import argparse
import json
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

from in_process import PACK, load_host_and_pack
from mini_editbench import MODELS, SEED, STEPS, Stack, held_out

PROBES, THRESHOLDS = (4, 6, 8, STEPS), (0.0, 0.1, 0.2)
GROWN = 3
RESAMPLES = 2000


def probed(stack: Stack, inputs: dict[str, Any], steps: int) -> Any:
    """The LATENT after some steps, as KSampler (Advanced) foretells the end of the run."""
    (latent,) = stack.host.call(
        "KSamplerAdvanced", model=stack.adapted["MoE-LoRA top_k 1"], add_noise="enable", noise_seed=SEED, steps=STEPS,
        cfg=1.0, sampler_name="euler", scheduler="simple", start_at_step=0, end_at_step=steps,
        return_with_leftover_noise="disable", **inputs,
    )  # fmt: skip
    return latent


def mean_of(values: list[float]) -> list[float]:
    """Mean, and the interval of the means of resamples."""
    draw = random.Random(0)
    means = sorted(sum(draw.choices(values, k=len(values))) / len(values) for _ in range(RESAMPLES))
    outside = round(0.025 * RESAMPLES)
    found = sum(values) / len(values), means[outside], means[-outside]
    return [round(value, 3) for value in found]


def rows(stack: Stack, edits: list[Any]) -> Any:
    import torch
    from icedit.diptych.found_region import changed_areas
    from icedit.diptych.panels import make_diptych
    from icedit.host.right_panel import decode_left, decode_right, diptych_latent
    from icedit.mini.render import render
    from icedit.mini.success import VISIBLE

    before, after = (torch.stack([render(getattr(edit, when)) for edit in edits]) for when in ("before", "after"))
    wanted = (after - before).abs().amax(1) > VISIBLE
    original = before.movedim(1, -1)
    layout, inputs = make_diptych(original, 128).layout, stack.inputs(edits, "ICEdit", original)
    for steps in PROBES:
        diptych = diptych_latent(probed(stack, inputs, steps), stack.vae, layout, original)
        right = decode_right(diptych)
        left = decode_left(diptych, right)
        for threshold in THRESHOLDS:
            areas = changed_areas(right, left, layout, original, threshold, torch.device("cpu"))
            near = torch.nn.functional.max_pool2d(areas.float(), 2 * GROWN + 1, 1, GROWN) > 0
            pairs = list(zip(areas, near, wanted, strict=True))
            overlap = mean_of([float((area & want).sum() / (area | want).sum()) for area, _, want in pairs])
            covered = mean_of([float((close & want).sum() / want.sum()) for _, close, want in pairs])
            yield {"steps": steps, "threshold": threshold, "edits": len(edits), "overlap": overlap, "covered": covered}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--edits", type=int, default=24)
    asked = parser.parse_args()
    load_host_and_pack()
    sys.path.insert(0, str(PACK / "tests"))
    import torch
    from support.inprocess import InProcessHost

    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        stack = Stack.load(InProcessHost.start(MODELS, Path(folder), PACK))
        for row in rows(stack, held_out(asked.edits)):
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
