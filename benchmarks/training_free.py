"""How often edits without training succeed on the mini text-to-image FLUX, by method and settings; one JSON line.

    ICEDIT_HOST=<ComfyUI> <its python> benchmarks/training_free.py [--edits N] [--rows REGEX] [--picture FILE]

The held-out edits of mini_editbench.py, judged as there, decoded as in the workflows. Rows:
- the sentence alone (workflow icedit_text_to_image);
- FlowEdit (arXiv 2412.08629) from one caption to the other, by the steps that it leaves out;
- In-Context Inversion by corrections, share of steps and share of blocks (workflow icedit_inversion; 0 and 0: from the
  inverted noise, without kept values); "masked": the left panel stays the picture, as with the sentence alone.

`left_error` is the mean difference of the sampled left panel's latent to the source's, as a share of it. `done` and
`wrong` are the means of mini/success.py's shares. `won` are the numbers of the edits that succeeded: all rows have the
same edits, so two rows can be compared edit by edit. `evaluations` are of a whole diptych; of one panel two count as
one. `cpu_seconds` are those of one edit if its row were run alone; rows of the same corrections share their inversions.
Every group of rows (a sampler, a number of skipped steps or of corrections) is printed to standard error when it is
done. The picture shows the first edit of every task: the source, the sentence alone, inversion, FlowEdit.
"""

import argparse
import json
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from in_process import PACK, load_host_and_pack
from mini_editbench import MODELS, SAMPLER, SEED, STEPS, held_out, summary

GUIDANCE = 3.5
SAMPLERS = ("euler", "euler_ancestral")
"""Of the sentence alone. The second adds new noise in every step."""
CORRECTIONS = (0, 2, 8)
SHARES = ((0.0, 0.0), (0.25, 0.33), (0.57, 0.33), (1.0, 0.33), (0.25, 1.0), (0.57, 1.0), (1.0, 1.0))
"""Of steps and of blocks."""
MASKED = ((0.0, 0.0), (0.57, 0.33))
"""Of these also with the left panel masked, so that it stays the picture."""
SKIPPED = (0, 4, 8, 12)
"""Steps that FlowEdit leaves out, of 28; its authors leave out 4 with FLUX."""


@dataclass
class Measured:
    """What came out of one way of editing."""

    verdicts: list[Any] = field(default_factory=list)
    left: list[float] = field(default_factory=list)
    evaluations: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)

    def row(self, edits: Sequence[Any]) -> dict[str, Any]:
        means = {"left_error": self.left, "evaluations": self.evaluations, "cpu_seconds": self.cpu_seconds}
        means |= {"done": [each.done for each in self.verdicts], "wrong": [each.wrong for each in self.verdicts]}
        found = {name: round(statistics.fmean(values), 4) for name, values in means.items() if values}
        won = [number for number, each in enumerate(self.verdicts) if each.success]
        return {"edits": len(edits)} | summary(edits, self.verdicts) | found | {"won": won}


@dataclass(frozen=True)
class Bench:
    """The mini text-to-image model with its encoders in a running host."""

    host: Any
    model: Any
    clip: Any
    vae: Any

    @classmethod
    def load(cls, host: Any) -> "Bench":
        (model,) = host.call("UNETLoader", unet_name="mini_dev.safetensors", weight_dtype="default")
        names = {"clip_name1": "mini_clip_l.safetensors", "clip_name2": "mini_t5.safetensors", "type": "flux"}
        (clip,) = host.call("DualCLIPLoader", **names)
        (vae,) = host.call("VAELoader", vae_name="mini_ae.safetensors")
        return cls(host, model, clip, vae)

    def caption(self, text: str) -> Any:
        return self.host.call("CLIPTextEncode", clip=self.clip, text=text)[0]

    def diptych(self, edit: Any) -> tuple[Any, ...]:
        """Diptych, mask, original and layout."""
        from icedit.mini.render import render

        picture = render(edit.before).movedim(0, -1)[None]
        return self.host.call("DiptychCreate", image="None", image_input=picture, panel_width=128)

    def sentence(self, edit: Any) -> Any:
        from icedit.mini.prompts import scene_caption

        return self.host.call(
            "InContextEditInstruction", editText=edit.instruction, clip=self.clip, guidance=GUIDANCE,
            template="text-to-image", description=scene_caption(edit.before),
        )[0]  # fmt: skip

    def sampled(self, model: Any, positive: Any, latent: Any, sampler: str = "euler") -> Any:
        settings = SAMPLER | {"sampler_name": sampler, "seed": SEED, "positive": positive, "negative": positive}
        return self.host.call("KSampler", model=model, latent_image=latent, **settings)[0]

    def masked(self, latent: Any, edit: Any) -> Any:
        """The LATENT, of which the right panel alone is sampled."""
        return self.host.call("SetLatentNoiseMask", samples=latent, mask=self.diptych(edit)[1])[0]

    def right(self, latent: Any, edit: Any) -> Any:
        """The right panel `3 128 128` of a sampled LATENT."""
        *_, original, layout = self.diptych(edit)
        decoded = self.host.call("DecodeRightHalf", samples=latent, vae=self.vae, layout=layout, original=original)
        return decoded[0][0].movedim(-1, 0)


def left_error(sampled: Any, source: Any) -> float:
    from icedit.inversion.solver import relative_error

    width = source["samples"].shape[-1] // 2
    return relative_error(sampled["samples"][..., :width], source["samples"][..., :width])


def sentence_alone(bench: Bench, edit: Any, sampler: str = "euler") -> Any:
    """The sampled LATENT."""
    picture, mask, *_ = bench.diptych(edit)
    sentence = bench.sentence(edit)
    positive, _, latent = bench.host.call(
        "ICEFConditioning", In_context=sentence, negative=sentence, vae=bench.vae, diptych=picture, maskDiptych=mask
    )
    return bench.sampled(bench.model, positive, latent, sampler)


@dataclass(frozen=True)
class InvertedEdit:
    """An edit's source with all its attention values, of which a part can be used."""

    model: Any
    latent: Any
    evaluations: float
    cpu_seconds: float

    @classmethod
    def of(cls, bench: Bench, edit: Any, corrections: int) -> "InvertedEdit":
        from icedit.mini.prompts import scene_caption

        started = time.process_time()
        model, latent, text = bench.host.call(
            "InContextInversion", model=bench.model, source_prompt=bench.caption(scene_caption(edit.before)),
            vae=bench.vae, diptych=bench.diptych(edit)[0], steps=STEPS, scheduler="simple", denoise=1.0,
            inversion_guidance=1.0, corrections=corrections, step_share=1.0, block_share=1.0, memory_limit=1.0,
            check=False,
        )  # fmt: skip
        (picture,) = json.loads(text)["pictures"]
        return cls(model, latent, picture["evaluations"]["inversion"] / 2, time.process_time() - started)

    def with_shares(self, step_share: float, block_share: float) -> Any:
        """The model with the values of these shares only."""
        from dataclasses import replace

        from comfy.patcher_extension import WrappersMP
        from icedit.host.inversion.attention import INVERSION_KEY
        from icedit.inversion.values import ValuePlan, ValueStore

        (wrapper,) = self.model.get_wrappers(WrappersMP.OUTER_SAMPLE, INVERSION_KEY)
        replay = wrapper.__self__
        (picture,) = replay.pictures
        whole = picture.values
        plan = ValuePlan.of(STEPS, whole.plan.blocks, step_share, block_share)
        part = ValueStore(plan, whole.hold)
        for step in range(plan.steps):
            part.keep(step, [whole.at(step)[whole.plan.positions[block]] for block in plan.blocks])
        return replace(replay, pictures=(replace(picture, values=part),)).patched(self.model)


def flow_edit(bench: Bench, edits: Sequence[Any], skipped: int) -> tuple[Any, float]:
    """The edited pictures `b 3 128 128`, and the evaluations of each."""
    import comfy.sample
    import comfy.samplers
    import torch
    from icedit.host.inversion.invert import schedule_of
    from icedit.mini.prompts import scene_caption
    from icedit.mini.render import render

    class FlowEdit(comfy.samplers.Sampler):
        """The first half of the batch is the source, the second goes from it to the edit."""

        def sample(self, model_wrap, sigmas, extra_args, callback, noise, latent_image, *_, **__) -> Any:  # noqa: ARG002
            source, edited = latent_image.chunk(2)
            drawn = torch.Generator().manual_seed(SEED)
            for now, after in zip(sigmas[skipped:-1], sigmas[skipped + 1 :], strict=True):
                fresh = torch.randn(source.shape, generator=drawn)
                noisy = torch.lerp(source, fresh, now)
                both = torch.cat([noisy, edited + noisy - source])
                velocity = (both - model_wrap(both, now.expand(len(both)), **extra_args)) / now
                start, end = velocity.chunk(2)
                edited = edited + (after - now) * (end - start)
            return torch.cat([source, edited])

    pictures = torch.stack([render(edit.before) for edit in edits]).movedim(1, -1)
    (latent,) = bench.host.call("VAEEncode", pixels=pictures, vae=bench.vae)
    scenes = [*(edit.before for edit in edits), *(edit.after for edit in edits)]
    encoded = [bench.caption(scene_caption(scene))[0] for scene in scenes]
    pooled = torch.cat([extra["pooled_output"] for _, extra in encoded])
    captions = [[torch.cat([tokens for tokens, _ in encoded]), {"pooled_output": pooled, "guidance": GUIDANCE}]]
    start = latent["samples"].repeat(2, 1, 1, 1)
    sigmas = schedule_of(bench.model, STEPS, "simple", 1.0).sigmas
    with torch.inference_mode():
        found = comfy.sample.sample_custom(
            bench.model, torch.zeros_like(start), 1.0, FlowEdit(), sigmas, captions, captions, start, disable_pbar=True
        )
    (decoded,) = bench.host.call("VAEDecode", samples={"samples": found.chunk(2)[1]}, vae=bench.vae)
    return decoded.movedim(-1, 1), float(STEPS - skipped)


def measured(bench: Bench, edits: Sequence[Any], rows: re.Pattern[str]) -> Iterator[tuple[str, Measured]]:
    """Each way of editing by name."""
    from icedit.mini.success import verdict

    for sampler in SAMPLERS:
        if rows.search(name := f"sentence alone, {sampler}"):
            started = time.process_time()
            verdicts = [verdict(edit, bench.right(sentence_alone(bench, edit, sampler), edit)) for edit in edits]
            yield name, Measured(verdicts, [], [STEPS], [(time.process_time() - started) / len(edits)])
    for skipped in SKIPPED:
        if rows.search(name := f"FlowEdit without {skipped} steps"):
            started = time.process_time()
            pictures, spent = flow_edit(bench, edits, skipped)
            verdicts = [verdict(edit, picture) for edit, picture in zip(edits, pictures, strict=True)]
            yield name, Measured(verdicts, [], [spent], [(time.process_time() - started) / len(edits)])
    for corrections in CORRECTIONS:
        names = {(shares, False): "inversion {} {} {}".format(corrections, *shares) for shares in SHARES}
        names |= {(shares, True): names[shares, False] + ", masked" for shares in MASKED}
        wanted = {way: Measured() for way, name in names.items() if rows.search(name)}
        for edit in edits if wanted else ():
            inverted = InvertedEdit.of(bench, edit, corrections)
            sentence = bench.sentence(edit)
            for (shares, masked), found in wanted.items():
                started = time.process_time()
                start = bench.masked(inverted.latent, edit) if masked else inverted.latent
                latent = bench.sampled(inverted.with_shares(*shares), sentence, start)
                found.verdicts.append(verdict(edit, bench.right(latent, edit)))
                found.cpu_seconds.append(inverted.cpu_seconds + time.process_time() - started)
                found.left.append(left_error(latent, inverted.latent))
                found.evaluations.append(inverted.evaluations + STEPS)
        yield from ((names[way], found) for way, found in wanted.items())


def draw_gallery(bench: Bench, file: Path) -> None:
    """The first held-out edit of every task: source, sentence alone, inversion, FlowEdit."""
    import torch
    from icedit.mini.edits import TASKS
    from icedit.mini.render import render
    from PIL import Image

    edits = held_out(len(TASKS))
    moved, _ = flow_edit(bench, edits, 4)
    columns = []
    for edit, last in zip(edits, moved, strict=True):
        inverted = InvertedEdit.of(bench, edit, 2)
        latent = bench.sampled(inverted.with_shares(0.57, 0.33), bench.sentence(edit), inverted.latent)
        alone = bench.right(sentence_alone(bench, edit), edit)
        rows = [render(edit.before), alone, bench.right(latent, edit), last]
        columns.append(torch.nn.functional.pad(torch.cat(rows, 1).clamp(0, 1), (3, 3, 0, 0), value=1.0))
    pixels = (torch.cat(columns, 2).movedim(0, -1) * 255).round().byte().numpy()
    Image.fromarray(pixels).save(file, quality=90)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--edits", type=int, default=120)
    parser.add_argument("--rows", type=re.compile, default=re.compile(""))
    parser.add_argument("--picture", type=Path)
    asked = parser.parse_args()
    load_host_and_pack()
    sys.path.insert(0, str(PACK / "tests"))
    from support.inprocess import InProcessHost

    with tempfile.TemporaryDirectory() as folder:
        bench = Bench.load(InProcessHost.start(MODELS, Path(folder), PACK))
        if asked.picture:
            draw_gallery(bench, asked.picture)
        edits, rows = held_out(asked.edits), {}
        for name, found in measured(bench, edits, asked.rows):
            rows[name] = found.row(edits)
            print(json.dumps({name: rows[name]}), file=sys.stderr)
        print(json.dumps(rows))


if __name__ == "__main__":
    main()
