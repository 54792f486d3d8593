"""How much of the left panel shows at the edited picture's left edge, by the way it is decoded; prints one JSON line.

    ICEDIT_HOST=<ComfyUI> <its python> benchmarks/strip.py [PART ...] [--edits N] [--picture FILE]

Parts, all unless some are named:

`sampled`: N edits of the mini models (mini_editbench.py's), decoded in several ways: how many succeed, and of the
background edits among them the mean error of pixel columns 0 to 3 and of the middle, of 255. `encoded`: the same of the
wanted pictures, encoded beside their source (as in training) and alone, so that no model has a part in it. `turns`: the
columns' error after one, two and three edits in a row. `flux_shaped`: a random VAE with FLUX's layers at a quarter of
its width; how strongly a small change of one panel reaches the other one's nearest latent columns (encoder) and pixel
columns (decoder), as a share of what it does in its own. The picture shows the third turn, without and with the node.
"""

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from in_process import PACK, load_host_and_pack
from mini_editbench import BATCH, MODELS, SAMPLER, SEED, Stack, held_out, wilson

CONTEXT = 4
"""Latent columns of mirrored or repeated context."""
Decode = Callable[[Stack, Any, Any], Any]
"""From the stack, latents `n c h (2 w)` and their sources `n h w 3` to right panels `n h w 3`."""


def together(stack: Stack, latents: Any, _: Any) -> Any:
    (decoded,) = stack.host.call("VAEDecode", samples={"samples": latents}, vae=stack.vae)
    return decoded[:, :, decoded.shape[2] // 2 :]


def right_half(latents: Any) -> Any:
    return latents[..., latents.shape[-1] // 2 :]


def alone(stack: Stack, latents: Any, _: Any) -> Any:
    return stack.host.call("VAEDecode", samples={"samples": right_half(latents)}, vae=stack.vae)[0]


def mirrored(stack: Stack, latents: Any, _: Any) -> Any:
    return _beside(stack, right_half(latents), right_half(latents)[..., :CONTEXT].flip(-1))


def repeated(stack: Stack, latents: Any, _: Any) -> Any:
    right = right_half(latents)
    return _beside(stack, right, right[..., :1].expand(*right.shape[:-1], CONTEXT))


def _beside(stack: Stack, right: Any, context: Any) -> Any:
    import torch

    (decoded,) = stack.host.call("VAEDecode", samples={"samples": torch.cat([context, right], -1)}, vae=stack.vae)
    return decoded[:, :, 8 * CONTEXT :]


def node(stack: Stack, latents: Any, _: Any) -> Any:
    return stack.host.call("DecodeRightHalf", samples={"samples": latents}, vae=stack.vae)[0]


def node_with_source(stack: Stack, latents: Any, sources: Any) -> Any:
    *_, layout = stack.host.call("DiptychCreate", image="None", image_input=sources, panel_width=sources.shape[2])
    inputs = {"samples": {"samples": latents}, "vae": stack.vae, "layout": layout, "original": sources}
    return stack.host.call("DecodeRightHalf", **inputs)[0]


DECODES: dict[str, Decode] = {
    "VAE Decode, crop": together, "right half alone": alone, "mirrored context": mirrored,
    "repeated context": repeated, "DecodeRightHalf": node, "DecodeRightHalf with the source": node_with_source,
}  # fmt: skip
SHIPPED = ("VAE Decode, crop", "DecodeRightHalf", "DecodeRightHalf with the source")


def drawn(scenes: Sequence[Any]) -> Any:
    import torch
    from icedit.mini.render import render

    return torch.stack([render(scene) for scene in scenes]).movedim(1, -1)


def sampled(stack: Stack, edits: Sequence[Any]) -> Any:
    """The latents of edits by the MoE-LoRA."""
    import torch

    found = []
    for start in range(0, len(edits), BATCH):
        inputs = stack.inputs(edits[start : start + BATCH], "ICEdit")
        (latent,) = stack.host.call("KSampler", model=stack.adapted["MoE-LoRA top_k 1"], seed=SEED, **SAMPLER, **inputs)
        found.append(latent["samples"])
    return torch.cat(found)


def columns(panels: Any, wanted: Any) -> dict[str, Any]:
    error = (panels - wanted).abs().mean((0, 1, 3)) * 255
    middle = slice(len(error) // 4, 3 * len(error) // 4)
    return {"columns": [round(float(e), 1) for e in error[:4]], "middle": round(float(error[middle].mean()), 2)}


def sampled_rows(stack: Stack, edits: Sequence[Any]) -> dict[str, Any]:
    """For each way to decode: the columns' errors of background edits; successes of all edits where it is shipped."""
    from icedit.mini.success import verdict

    latents, rows = sampled(stack, edits), {}
    sources, wanted = drawn([edit.before for edit in edits]), drawn([edit.after for edit in edits])
    background = [i for i, edit in enumerate(edits) if edit.task == "background"]
    for name, decode in DECODES.items():
        picked = list(range(len(edits))) if name in SHIPPED else background
        panels = decode(stack, latents[picked], sources[picked])
        at = [i for i, index in enumerate(picked) if index in set(background)]
        rows[name] = columns(panels[at], wanted[background])
        if name in SHIPPED:
            verdicts = [verdict(edit, panel.movedim(-1, 0)) for edit, panel in zip(edits, panels, strict=True)]
            won = [one.success for one in verdicts]
            rows[name] |= {
                "succeed": sum(won),
                "of": len(edits),
                "interval": wilson(sum(won), len(edits)),
                "won_or_lost": [i for i, one in enumerate(won) if "first" in rows and one != rows["first"][i]],
            }
            rows.setdefault("first", won)
    del rows["first"]
    return rows


def encoded_rows(stack: Stack, edits: Sequence[Any]) -> dict[str, Any]:
    """The wanted pictures of background edits, encoded beside their source and alone."""
    import torch

    edits = [edit for edit in edits if edit.task == "background"][:BATCH]
    sources, wanted = drawn([edit.before for edit in edits]), drawn([edit.after for edit in edits])
    beside = stack.vae.encode(torch.cat([sources, wanted], 2))
    by_itself = torch.cat([beside[..., : beside.shape[-1] // 2], stack.vae.encode(wanted)], -1)
    shown = {name: columns(decode(stack, beside, sources), wanted) for name, decode in DECODES.items()}
    own = columns(alone(stack, by_itself, sources), wanted)
    return {"beside the source": shown, "alone": {"right half alone": own}}


def turns(stack: Stack, count: int, picture: Path | None) -> dict[str, Any]:
    """The background of `count` scenes changed three times, each time of the picture that came out before."""
    import torch
    from icedit.mini.edits import random_edit
    from icedit.mini.render import render

    draw, rows, results = random.Random(SEED), {}, []
    chains = []
    for _ in range(count):
        chain = [random_edit(draw, "background")]
        chain += [random_edit(draw, "background", chain[-1].after)]
        chains.append([*chain, random_edit(draw, "background", chain[-1].after)])
    for name in ("VAE Decode, crop", "DecodeRightHalf with the source"):
        now, rows[name] = drawn([chain[0].before for chain in chains]), []
        for turn in range(3):
            edits = [chain[turn] for chain in chains]
            inputs = stack.inputs(edits, "ICEdit", now)
            (latent,) = stack.host.call(
                "KSampler", model=stack.adapted["MoE-LoRA top_k 1"], seed=SEED, **SAMPLER, **inputs
            )
            now = DECODES[name](stack, latent["samples"], now)
            rows[name].append(columns(now, torch.stack([render(e.after) for e in edits]).movedim(1, -1)))
        results.append(now)
    if picture:
        _draw(results, picture)
    return {"scenes": count, **rows}


def _draw(results: Sequence[Any], file: Path) -> None:
    import torch
    from PIL import Image

    rows = [panels.clamp(0, 1).unbind(0) for panels in results]
    sheet = torch.cat([torch.cat([torch.nn.functional.pad(p, (0, 0, 3, 3, 3, 3)) for p in row], 1) for row in rows])
    Image.fromarray((sheet * 255).round().byte().numpy()).save(file, quality=90)


def flux_shaped() -> dict[str, Any]:
    """How strongly a change of the left panel reaches the right half of a latent, and the right half of a picture."""
    import torch
    from comfy.ldm.models.autoencoder import AutoencodingEngine

    torch.manual_seed(0)
    shape = {"double_z": True, "z_channels": 16, "resolution": 256, "in_channels": 3, "out_ch": 3, "ch": 32}
    shape |= {"ch_mult": [1, 2, 4, 4], "num_res_blocks": 2, "attn_resolutions": [], "dropout": 0.0}
    part = "comfy.ldm.modules.diffusionmodules.model."
    vae = AutoencodingEngine(
        regularizer_config={"target": "comfy.ldm.models.autoencoder.DiagonalGaussianRegularizer"},
        encoder_config={"target": f"{part}Encoder", "params": shape},
        decoder_config={"target": f"{part}Decoder", "params": shape},
    ).eval()
    for weight in vae.parameters():
        if weight.ndim > 1:
            torch.nn.init.kaiming_normal_(weight, nonlinearity="linear")
        else:
            torch.nn.init.zeros_(weight)
    for module in vae.modules():
        if isinstance(module, torch.nn.GroupNorm):
            torch.nn.init.ones_(module.weight)
    picture, latent = torch.rand(1, 3, 128, 256) * 2 - 1, torch.randn(1, 16, 16, 32)
    other = torch.rand(1, 3, 128, 128) * 2 - 1
    found = {}
    for name, run, start, wide in (("encoder", vae.encode, picture, 1), ("decoder", vae.decode, latent, 8)):
        found[name] = _bleed(run, start, wide)
    # What the node takes off the latent, measured with another picture than the right one: the worst first guess.
    half, changed = 128, picture.clone()
    changed[..., :half] += 0.01 * torch.randn_like(changed[..., :half])
    before, after = (vae.encode(one)[..., 16:] for one in (picture, changed))
    guess = torch.lerp(picture[..., half:], other, 0.1)
    taken = [vae.encode(torch.cat([one[..., :half], guess], -1))[..., 16:] for one in (picture, changed)]
    left = (after - taken[1]) - (before - taken[0])
    found["encoder, less what the guess has"] = [
        round(float(left[..., i].norm() / (after - before)[..., i].norm()), 3) for i in (0, 1, 2, 3)
    ]
    return found


def _bleed(run: Callable[[Any], Any], start: Any, wide: int) -> list[float]:
    """Response of the other half's nearest columns, `wide` pixels each, to a small change of the left half, relative to
    the left half's own."""
    import torch

    half = start.shape[-1] // 2
    changed = start.clone()
    changed[..., :half] += 0.01 * torch.randn_like(changed[..., :half])
    moved = run(changed) - run(start)
    moved = moved.abs().mean((0, 1, 2))
    middle = len(moved) // 2
    own = float(moved[: middle // 2].mean())
    return [round(float(moved[middle + wide * i : middle + wide * (i + 1)].mean()) / own, 3) for i in (0, 1, 2, 3, 8)]


PARTS = ("sampled", "encoded", "turns", "flux_shaped")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("parts", nargs="*", type=str, help=", ".join(PARTS))
    parser.add_argument("--edits", type=int, default=240)
    parser.add_argument("--picture", type=Path)
    asked = parser.parse_args()
    load_host_and_pack()
    sys.path.insert(0, str(PACK / "tests"))
    import torch
    from support.inprocess import InProcessHost

    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        stack = Stack.load(InProcessHost.start(MODELS, Path(folder), PACK))
        edits = held_out(asked.edits)
        measured: dict[str, Callable[[], Any]] = {
            "sampled": lambda: sampled_rows(stack, edits),
            "encoded": lambda: encoded_rows(stack, edits),
            "turns": lambda: turns(stack, 8, asked.picture),
            "flux_shaped": flux_shaped,
        }
        print(json.dumps({"benchmark": "strip"} | {part: measured[part]() for part in asked.parts or PARTS}))


if __name__ == "__main__":
    main()
