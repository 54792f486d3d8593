"""The region that a model starts to change, on edits of which it is known what they change."""

import random

import pytest
import torch
from icedit.diptych.found_region import changed_areas
from icedit.diptych.image import cut, resize
from icedit.diptych.panels import make_diptych
from icedit.mini.edits import random_edit
from icedit.mini.render import render
from icedit.mini.success import VISIBLE

CPU = torch.device("cpu")
EDITS = [random_edit(random.Random(5), task) for task in ("recolour", "add", "remove")]
SETTINGS = {"threshold": 0.0, "grow": 0.0, "feather": 0.0}


def pictures(when, edits=EDITS):
    return torch.stack([render(getattr(edit, when)) for edit in edits]).movedim(1, -1)


CHANGED = (pictures("after") - pictures("before")).abs().amax(3) > VISIBLE


def overlap(region, changed) -> float:
    """Intersection over union."""
    return float((region & changed).sum() / (region | changed).sum())


class TestLogic:
    def test_the_area_is_what_changed(self):
        before, after = pictures("before"), pictures("after")
        layout = make_diptych(before, 128).layout
        areas = changed_areas(after, before, layout, before, 0.0, CPU)
        assert [overlap(*pair) > 0.6 for pair in zip(areas, CHANGED, strict=True)] == [True] * 3

    def test_a_higher_threshold_takes_less(self):
        before = torch.full((1, 128, 128, 3), 0.5)
        after = before.clone()
        after[:, 20:50, 20:50] += 0.1
        after[:, 80:110, 80:110] += 0.4
        layout = make_diptych(before, 128).layout
        both, one, none = (changed_areas(after, before, layout, before, limit, CPU)[0] for limit in (0.0, 0.2, 0.9))
        assert both[35, 35] and both[95, 95]
        assert one[95, 95] and not one[:64].any()
        assert not none.any()
        with pytest.raises(ValueError, match=r"threshold is 9\.0"):
            changed_areas(after, before, layout, before, 9.0, CPU)

    def test_several_seeds_change_the_union(self):
        before, after = pictures("before"), pictures("after")
        layout = make_diptych(before, 128).layout
        twice = changed_areas(torch.cat([before, after]), torch.cat([before, before]), layout, before, 0.0, CPU)
        assert torch.equal(twice, changed_areas(after, before, layout, before, 0.0, CPU))

    def test_it_lies_in_the_part_that_the_panels_show(self):
        before, after = (pictures(when, EDITS[:1]).repeat_interleave(3, 1).repeat_interleave(3, 2) for when in WHEN)
        region = torch.zeros(before.shape[:3])
        changed = (after - before).abs().amax(3) > VISIBLE
        rows, columns = (changed[0].any(1 - axis).nonzero().flatten() for axis in (0, 1))
        region[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = 1.0
        layout = make_diptych(before, 128, region, fit="crop_to_region", margin=0.25).layout
        (part,) = layout.boxes
        assert part.width < 300
        right, left = (resize(cut(picture, part), layout.panel) for picture in (after, before))
        area = changed_areas(right, left, layout, before, 0.0, CPU)
        assert overlap(area[0], changed[0]) > 0.6


WHEN = ("before", "after")


@pytest.mark.host
class TestNode:
    def test_of_a_latent(self, host, mini_vae):
        before, after = (pictures(when, EDITS[:1]) for when in WHEN)
        _, _, original, layout = host.call("DiptychCreate", image_input=before, panel_width=128)
        given = {"vae": mini_vae, "layout": layout, "original": original}
        (samples,) = host.call("VAEEncode", pixels=torch.cat([before, after], 2), vae=mini_vae)
        region, preview = host.call("RegionFromChange", samples=samples, **given, **SETTINGS | {"grow": 0.02})
        assert overlap(region[0] > 0.5, CHANGED[0]) > 0.5
        assert preview.shape == original.shape
        (samples,) = host.call("VAEEncode", pixels=torch.cat([before, before], 2), vae=mini_vae)
        with pytest.raises(ValueError, match="has not changed anything yet"):
            host.call("RegionFromChange", samples=samples, **given, **SETTINGS)

    def test_four_steps_of_the_model_show_it(self, mini, mini_vae):
        (base,) = mini.call("UNETLoader", unet_name="mini_fill.safetensors", weight_dtype="default")
        model, _ = mini.call("MoELoRALoader", model=base, lora_name="mini_moe_lora.safetensors", strength=1.0)
        names = {"clip_name1": "mini_clip_l.safetensors", "clip_name2": "mini_t5.safetensors", "type": "flux"}
        (clip,) = mini.call("DualCLIPLoader", **names)
        edit = EDITS[1]
        diptych, mask, original, layout = mini.call(
            "DiptychCreate", image_input=pictures("before", [edit]), panel_width=128
        )
        text = mini.call("InContextEditInstruction", editText=edit.instruction, clip=clip)[0]
        positive, negative, latent = mini.call(
            "ICEFConditioning", In_context=text, negative=text, vae=mini_vae, diptych=diptych, maskDiptych=mask
        )
        (probe,) = mini.call(
            "KSamplerAdvanced", model=model, add_noise="enable", noise_seed=1, steps=28, cfg=1.0, sampler_name="euler",
            scheduler="simple", positive=positive, negative=negative, latent_image=latent, start_at_step=0,
            end_at_step=4, return_with_leftover_noise="disable",
        )  # fmt: skip
        region, _ = mini.call(
            "RegionFromChange", samples=probe, vae=mini_vae, layout=layout, original=original, **SETTINGS
        )
        assert overlap(region[0] > 0.5, CHANGED[1]) > 0.5
