"""How long Create Diptych and Crop Right Half take, and finding a changed area alone; prints one JSON line.

    ICEDIT_HOST=<ComfyUI> <its python> benchmarks/restore.py

Needs no model: an edit is painted onto the right panel. Each case runs in a process of its own. `peak_extra_mb` is the
highest resident memory minus that with only the source and its region loaded; the result and its mask are part of it.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

import torch
from in_process import load_pack

CASES = {
    "1_mp_blend": (1224, 816, False),
    "6_mp_blend": (3000, 2000, False),
    "24_mp_blend": (6000, 4000, False),
    "24_mp_region": (6000, 4000, True),
}
PANELS = {"change_512_panel": (512, 512), "change_1536_panel": (1536, 1536)}
"""Finding the changed area alone: on a panel, and on an upscaled one."""


def measure(width: int, height: int, with_region: bool) -> dict[str, float]:
    """Seconds, and megabytes besides the pictures."""
    from icedit.diptych.panels import make_diptych
    from icedit.diptych.restore import restore_panels

    torch.set_num_threads(2)
    source = torch.rand(1, 40, 60, 3).permute(0, 3, 1, 2)
    source = torch.nn.functional.interpolate(source, (height, width), mode="bilinear").permute(0, 2, 3, 1).contiguous()
    region = None
    if with_region:
        region = torch.zeros(1, height, width)
        region[:, height // 3 : height // 2, width // 3 : width // 2] = 1
    import scipy.ndimage  # noqa: F401  (imported once in a session, so its time is not counted)

    before = resident("VmRSS")
    # Making the pictures had a peak too; writing 5 resets it (Linux, proc(5)).
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    start = time.perf_counter()
    diptych = make_diptych(source, region=region, fit="crop_to_region" if with_region else "width")
    made = time.perf_counter()
    image = diptych.image
    half = diptych.layout.panel.width
    rows = slice(image.shape[1] // 3, image.shape[1] // 2)
    image[:, rows, half + half // 3 : half + half // 2] = torch.tensor([0.9, 0.1, 0.1])
    begun = time.perf_counter()
    restored = restore_panels(image, diptych.layout, source, "blend")
    seconds = time.perf_counter() - begun + made - start
    assert 0 < float(restored.changed.mean()) < 0.5
    return {
        "seconds": round(seconds, 3),
        "ms_per_megapixel": round(seconds * 1e9 / (width * height), 1),
        "peak_extra_mb": round(resident("VmHWM") - before, 1),
    }


def measure_change(width: int, height: int) -> dict[str, float]:
    """Seconds for finding the changed area of one diptych, the best of eight runs."""
    from icedit.diptych.comparison import changed_on_panels

    torch.set_num_threads(2)
    left = torch.nn.functional.interpolate(torch.rand(1, 3, 20, 20), (height, width), mode="bilinear")
    right = left.clone()
    right[:, :, height // 3 : height // 2, width // 3 : width // 2] = torch.tensor([0.9, 0.1, 0.1])[:, None, None]
    # Decoders add noise; without it every threshold would be at its lower bound.
    image = torch.cat([left, right], dim=3).permute(0, 2, 3, 1)
    image = (image + 0.01 * torch.randn(image.shape)).clamp(0.0, 1.0)
    seconds = []
    for _ in range(8):
        start = time.perf_counter()
        assert 0 < float(changed_on_panels(image).mean()) < 0.5
        seconds.append(time.perf_counter() - start)
    return {"seconds": round(min(seconds), 4)}


def resident(kind: str) -> float:
    """MB of resident memory, now (VmRSS) or at its highest (VmHWM)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(kind)) / 1024


def main() -> None:
    if len(sys.argv) > 1:
        load_pack()
        name = sys.argv[1]
        print(json.dumps(measure(*CASES[name]) if name in CASES else measure_change(*PANELS[name])))
        return
    run = {}
    for name in (*CASES, *PANELS):
        done = subprocess.run([sys.executable, __file__, name], capture_output=True, text=True, check=True)
        run[name] = json.loads(done.stdout)
    print(json.dumps({"benchmark": "restore", "threads": 2, **run}))


if __name__ == "__main__":
    main()
