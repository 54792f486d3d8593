"""ControlNets in the early filter: every picture of a batch is sampled with its own hint."""

import pytest
import torch
from support.judges import ScriptedJudge, by_seed
from support.tiny_edit import edit_inputs, generator

pytestmark = pytest.mark.host

TOKENS, WIDTH = 8, 128


class Painter(torch.nn.Module):
    """A ControlNet that adds what is on its hint to FLUX's picture tokens."""

    dtype = torch.float32

    def forward(self, x, hint, timesteps, context, **extra):
        seen = hint.mean(dim=(2, 3)).repeat(len(x) // len(hint) if len(hint) == 1 else 1, 1)
        assert len(seen) == len(x)
        added = torch.nn.functional.pad(seen, (0, WIDTH - seen.shape[1]))[:, None].repeat(1, TOKENS, 1)
        return {"input": [added]}


@pytest.fixture
def control():
    from comfy.controlnet import ControlNet

    return ControlNet(Painter(), load_device=torch.device("cpu"))


def hints(count, seed=1):
    return torch.rand(count, 32, 64, 3, generator=generator(seed)) * torch.linspace(0.1, 1, count)[:, None, None, None]


def controlled(host, conds, control, image):
    positive, negative = host.call(
        "ControlNetApplyAdvanced", positive=conds["positive"], negative=conds["negative"], control_net=control,
        image=image, strength=1.0, start_percent=0.0, end_percent=1.0,
    )  # fmt: skip
    return conds | {"positive": positive, "negative": negative}


def one(batch, index):
    latent = {key: value[index : index + 1] for key, value in batch["latent_image"].items()}
    conds = {}
    for name in ("positive", "negative"):
        ((tokens, options),) = batch[name]
        row = {key: v[index : index + 1] if isinstance(v, torch.Tensor) else v for key, v in options.items()}
        conds[name] = [[tokens[index : index + 1], row]]
    return conds | {"latent_image": latent | {"batch_index": [index]}}


COMMON = {"steps": 2, "cfg": 3.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0}
FILTER = {"instruction": "", "candidates": 2, "probe_steps": 1, "keep": 1, "mode": "resume", "panel": "right half"}


def filtered(host, models, conds):
    judge = ScriptedJudge(by_seed(s3=1.0))
    inputs = {**models, **conds, **COMMON, **FILTER, "seed": 3, "judge": judge}
    return host.call("EarlyFilterSampler", **inputs)[0]["samples"]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_each_picture_of_a_batch_is_sampled_with_its_hint(host, models, control, count):
    """Hints start again from the first where there are fewer of them than pictures, as in the host."""
    batch = edit_inputs(host, models["vae"], batch=3)
    samples = filtered(host, models, controlled(host, batch, control, hints(count)))
    plain = []
    for index in range(3):
        image = hints(count)[index % count][None]
        conds = controlled(host, one(batch, index), control, image)
        plain.append(host.call("KSampler", model=models["model"], **conds, **COMMON, seed=3)[0]["samples"])
        assert torch.equal(samples[index : index + 1], plain[-1])
    uncontrolled = host.call("KSampler", model=models["model"], **one(batch, 1), **COMMON, seed=3)[0]["samples"]
    assert not torch.equal(plain[1], uncontrolled)


def test_all_controls_of_a_chain_are_shared_out_and_stay_one_object_for_all_prompts(host, models, control):
    from icedit.host.conditioning_rows import conditioning_rows

    batch = edit_inputs(host, models["vae"], batch=2)
    second = control.copy()
    second.extra_concat_orig = [torch.arange(2.0).view(2, 1, 1, 1)]
    second.set_cond_hint(hints(2, seed=2).movedim(-1, 1), extra_concat=second.extra_concat_orig)
    first = control.copy().set_cond_hint(hints(2).movedim(-1, 1))
    single = control.copy().set_cond_hint(hints(1).movedim(-1, 1))
    second.set_previous_controlnet(first.set_previous_controlnet(single))
    conds = {"positive": [{"control": second}], "negative": [{"control": second}]}
    found = conditioning_rows(conds, 1, 2)
    (positive,), (negative,) = found["positive"], found["negative"]
    assert positive["control"] is negative["control"] is not second
    sliced = positive["control"]
    assert torch.equal(sliced.cond_hint_original, second.cond_hint_original[1:])
    assert [mask.flatten().tolist() for mask in sliced.extra_concat_orig] == [[1.0]]
    assert torch.equal(sliced.previous_controlnet.cond_hint_original, first.cond_hint_original[1:])
    assert sliced.previous_controlnet.previous_controlnet is single
    # What the user's graph holds stays as it is.
    assert len(second.cond_hint_original) == len(first.cond_hint_original) == 2
    assert second.previous_controlnet is first
    assert len(batch["positive"]) == 1


def test_a_control_that_only_its_pack_understands_is_refused_with_a_hint_for_each_picture(host, models, control):
    from comfy.controlnet import ControlNet

    class Advanced(ControlNet):
        def copy(self):
            copied = Advanced(self.control_model, load_device=self.load_device)
            self.copy_to(copied)
            return copied

    foreign = Advanced(Painter(), load_device=torch.device("cpu"))
    batch = edit_inputs(host, models["vae"], batch=2)
    with pytest.raises(ValueError, match=r"another pack \(Advanced\) holds 2 pictures for the 2 of latent_image"):
        filtered(host, models, controlled(host, batch, foreign, hints(2)))
    filtered(host, models, controlled(host, batch, foreign, hints(1)))
    filtered(host, models, controlled(host, one(batch, 0), foreign, hints(2)))
