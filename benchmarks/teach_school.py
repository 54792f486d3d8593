"""The host with the mini models as a school: pairs in, a trained file out, and how often its edits succeed."""

import argparse
import json
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mini_editbench import Stack, one_seed, summary


@dataclass(frozen=True)
class Taught:
    """A trained file's name, how long a step took, and what *Train MoE-LoRA* said."""

    lora: str
    step_seconds: float
    report: str

    @property
    def experts(self) -> str | None:
        """How far experts specialise by task."""
        return next((line for line in self.report.splitlines() if line.startswith("Experts: ")), None)


@dataclass(frozen=True)
class School:
    """The host with the mini models, and folders for what is learned from."""

    stack: Stack
    base: Any
    folder: Path
    options: argparse.Namespace

    def pairs(self, name: str, groups: Sequence[tuple[Sequence[Any], float]]) -> Any:
        """Groups of edits, each with its share of what is drawn, as *Load Edit Pairs* reads them."""
        from icedit.mini.render import render
        from PIL import Image

        folder, rows = self.folder / "input" / name, []
        folder.mkdir(parents=True)
        for group, (edits, share) in enumerate(groups):
            for number, edit in enumerate(edits):
                row = {"id": f"{group}_{number}", "instruction": edit.instruction, "task": edit.task}
                for role, scene in (("source", edit.before), ("edited", edit.after)):
                    pixels = (render(scene).movedim(0, -1) * 255).round().byte().numpy()
                    row[role] = f"{row['id']}_{role}.png"
                    Image.fromarray(pixels).save(folder / row[role])
                rows.append(json.dumps(row | {"weight": share / len(edits)}))
        (folder / "pairs.jsonl").write_text("\n".join(rows))
        sources = f"{name}/pairs.jsonl"
        settings = {"panel_size": 128, "held_out": 0, "crops": self.options.crops}
        return self.stack.host.call("LoadEditPairs", sources=sources, **settings)[0]

    def taught(self, name: str, pairs: Any, steps: int, **settings: Any) -> Taught:
        """One training; `settings` are those of *Train MoE-LoRA* that differ from a benchmark's usual ones."""
        asked = {
            "steps": steps, "learning_rate": self.options.rate, "optimizer": "AdamW", "schedule": "cosine", "rank": 32,
            "experts": 4, "top_k": 1, "adapter": "MoE", "batch_size": self.options.batch, "accumulate": 1, "seed": 0,
            "checkpointing": False, "sample_every": 0, "save_every": 10_000, "caption_dropout": 0.0,
            "times": "uniform", "average": 0.995, "changed_weight": self.options.changed_weight,
        } | settings  # fmt: skip
        # CPU seconds are the same on a busy machine, but a GPU works besides them.
        clock = time.perf_counter if self.options.cuda else time.process_time
        begun = clock()
        lora, _, report = self.stack.host.call(
            "TrainMoELoRA", model=self.base, clip=self.stack.clip, vae=self.stack.vae, pairs=pairs, name=name, **asked
        )
        return Taught(lora, round((clock() - begun) / steps, 3), report)

    def adapted(self, lora: str) -> Any:
        return self.stack.host.call("MoELoRALoader", model=self.base, lora_name=lora, strength=1.0)[0]

    def success(self, model: Any, edits: Sequence[Any]) -> dict[str, Any]:
        verdicts = list(one_seed(self.stack, model, edits, "ICEdit"))
        told = summary(edits, verdicts)
        return {key: told[key] for key in ("success", "interval", "edited", "kept")}


class PeakMemory:
    """How far the process grew within; `more_mb` afterwards."""

    more_mb: int

    def __enter__(self) -> "PeakMemory":
        import psutil

        process, self._done = psutil.Process(), threading.Event()
        start = process.memory_info().rss

        def watch() -> None:
            most = start
            while not self._done.wait(0.02):
                most = max(most, process.memory_info().rss)
            self.more_mb = (most - start) // 2**20

        self._watcher = threading.Thread(target=watch)
        self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._watcher.join()
