"""Candidates of edits of the mini models, as the early filter sees them; for judges.py.

Every edit is sampled once with each seed. Kept are the previews after some steps, as the early filter decodes them, and
the finished picture, so that judges can be tried on them without sampling again.
"""

import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from in_process import PACK
from mini_editbench import BATCH, MODELS, STEPS, Stack, held_out

LOOKS = (2, 4, 8, STEPS)
"""Steps after which a candidate is kept; after the last it is finished."""


@dataclass(frozen=True)
class Candidates:
    """Diptychs `edits seeds looks 128 256 3` of the first held-out edits, 8 bit."""

    pictures: Any

    @cached_property
    def edits(self) -> list[Any]:
        return held_out(len(self.pictures))

    @property
    def seeds(self) -> int:
        return self.pictures.shape[1]

    @cached_property
    def checks(self) -> list[list[Any]]:
        """How well each edit came out with each seed, finished, by the scene that must come out."""
        from icedit.mini.success import verdict

        return [
            [
                verdict(edit, self.candidate(index, seed, len(LOOKS) - 1).panel.movedim(-1, 0))
                for seed in range(self.seeds)
            ]
            for index, edit in enumerate(self.edits)
        ]

    def quality(self, edit: int, seed: int) -> float:
        """How well it came out as one number, as the scene judge of mini_editbench.py has it."""
        check = self.checks[edit][seed]
        return check.done - 5 * check.wrong

    def candidate(self, edit: int, seed: int, look: int) -> Any:
        """What a judge is given after `LOOKS[look]` steps."""
        from icedit.early_filter.judge import Candidate

        picture = self.pictures[edit, seed, look].float() / 255.0
        return Candidate(seed, picture[:, 128:], picture[:, :128])

    def question(self, edit: int) -> Any:
        """The source is the left panel as the model leaves it, as in the samplers."""
        from icedit.early_filter.judge import Question

        return Question(self.candidate(edit, 0, len(LOOKS) - 1).left, self.edits[edit].instruction)


def candidates(edits: int, seeds: int, store: Path | None) -> Candidates:
    """Read them from `store`, or sample them and write them there."""
    import torch

    if store is not None and store.is_file():
        kept = torch.load(store, weights_only=True)
        if kept.shape[0] < edits or kept.shape[1] < seeds:
            raise SystemExit(f"{store} holds {tuple(kept.shape[:2])} edits and seeds, expected {edits} and {seeds}.")
        return Candidates(kept[:edits, :seeds])
    sys.path.insert(0, str(PACK / "tests"))
    from support.inprocess import InProcessHost

    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        stack = Stack.load(InProcessHost.start(MODELS, Path(folder), PACK))
        parts = [held_out(edits)[start : start + BATCH] for start in range(0, edits, BATCH)]
        pictures = torch.cat([torch.stack(list(_sampled(stack, part, seeds)), 1) for part in parts])
    if store is not None:
        torch.save(pictures, store)
    return Candidates(pictures)


def _sampled(stack: Stack, edits: Sequence[Any], seeds: int) -> Iterator[Any]:
    """For each seed the diptychs `edits looks 128 256 3`, 8 bit."""
    import comfy.sample
    import torch

    inputs = stack.inputs(edits, "ICEdit")
    model, latent = stack.adapted["MoE-LoRA top_k 1"], inputs["latent_image"]
    for seed in range(1, seeds + 1):
        print(f"{len(edits)} edits, seed {seed}", file=sys.stderr)
        looks: dict[int, Any] = {}

        def keep(step: int, x0: Any, x: Any, total: int, looks: dict[int, Any] = looks) -> None:  # noqa: ARG001
            if step + 1 in LOOKS[:-1]:
                looks[step + 1] = model.model.process_latent_out(x0).cpu()

        end = comfy.sample.sample(
            model, comfy.sample.prepare_noise(latent["samples"], seed), STEPS, 1.0, "euler", "simple",
            inputs["positive"], inputs["negative"], latent["samples"],
            noise_mask=latent["noise_mask"], callback=keep, disable_pbar=True, seed=seed,
        )  # fmt: skip
        pictures = [_previews(stack, model, latent, looks[look]) for look in LOOKS[:-1]]
        pictures += stack.host.call("VAEDecode", samples={"samples": end.cpu()}, vae=stack.vae)
        yield (torch.stack(pictures, 1).clamp(0.0, 1.0) * 255.0).round().to(torch.uint8)


def _previews(stack: Stack, model: Any, latent: dict[str, Any], probed: Any) -> Any:
    """Diptychs `edits 128 256 3` of the panels that judges are given."""
    import torch
    from icedit.host.early_filter.panels import Panels
    from icedit.host.sampling import latent_rows

    found = []
    for row in latent_rows(model, latent):
        panels = Panels(stack.vae, "right half", [row])
        found += panels.previews({0: [probed[row.index : row.index + 1]]})
    return torch.stack([torch.cat([preview.left, preview.panel], 1) for preview in found])
