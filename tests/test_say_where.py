"""Regions that were found: what is not found is said before sampling, what is found is grown, softened and shown."""

import asyncio

import numpy as np
import pytest
import torch
from icedit.diptych.found_region import LINE, LONGEST, RegionBorder, grown, selected, shown_over
from icedit.diptych.geometry import Size
from icedit.headless.client import ComfyClient, ComfyError
from icedit.headless.workflow import load_workflow, with_value
from PIL import Image
from support.workflows import WORKFLOWS, with_every_picture


def square(height=96, width=128, left=40, top=30, side=20) -> torch.Tensor:
    mask = torch.zeros(1, height, width)
    mask[:, top : top + side, left : left + side] = 1.0
    return mask


class TestLogic:
    def test_a_region_grows_and_then_fades_as_far_as_it_is_told(self):
        found = square() > 0
        region = grown(found, RegionBorder(8 / 128, 16 / 128))[0]
        row = region[40, 60:]  # from the right side on
        assert region[found[0]].min() == 1
        assert row[:7].min() == 1
        assert row[9:22].diff().max() < 0  # falling all the way
        assert row[26:].max() == 0
        assert grown(found, RegionBorder(0.0, 0.0)).equal(found.float())
        assert set(grown(found, RegionBorder(0.1, 0.0)).unique().tolist()) == {0.0, 1.0}

    def test_large_pictures_grow_by_the_same_share(self):
        small = grown(square() > 0, RegionBorder(0.05, 0.05))
        large = square().repeat_interleave(24, 1).repeat_interleave(24, 2) > 0
        region = grown(large, RegionBorder(0.05, 0.05))
        assert region.shape == (1, 96 * 24, LONGEST * 3)
        assert region[large].min() == 1
        assert float(region.mean()) == pytest.approx(float(small.mean()), rel=0.15)

    def test_the_preview_is_the_picture_inside_and_dim_outside(self):
        picture = torch.rand(1, 96, 128, 3)
        shown = shown_over(picture, square())
        assert torch.allclose(shown[0, 35:45, 45:55], picture[0, 35:45, 45:55], atol=1e-6)
        assert torch.allclose(shown[0, 80:], picture[0, 80:] * 0.3, atol=1e-6)
        assert torch.equal(shown[0, 29, 50], torch.tensor(LINE))
        assert shown_over(torch.rand(1, 1500, 3000, 3), torch.ones(1, 1500, 3000)).shape == (1, 512, 1024, 3)

    @pytest.mark.parametrize(
        ("mask", "said"),
        [
            (torch.zeros(3, 96, 128), "individual_masks"),
            (torch.zeros(1, 128, 96), "Connect the picture it was made of"),
            (torch.full((1, 96, 128), torch.nan), "NaN"),
            (torch.zeros(1, 96, 128, 3), "expected a MASK"),
        ],
    )
    def test_masks_of_something_else_are_refused(self, mask, said):
        with pytest.raises(ValueError, match=said):
            selected(mask, Size(128, 96), 1)

    def test_a_share_is_a_share(self):
        with pytest.raises(ValueError, match=r"feather is 16\.0, expected 0 to 1"):
            RegionBorder(0.0, 16.0)


@pytest.mark.host
class TestNode:
    def run(self, host, mask, batch=1, **inputs):
        settings = {"grow": 0.02, "feather": 0.01, "when_not_found": "stop", **inputs}
        return host.call("RegionFromMask", image=torch.rand(batch, 96, 128, 3), mask=mask, **settings)

    def test_what_is_not_found_is_said_with_its_words(self, host):
        with pytest.raises(ValueError, match=r"“the dog's nose” was not found in the picture.*plainer words"):
            self.run(host, torch.zeros(1, 96, 128), words=" the dog's nose ")
        two = torch.cat([square(), torch.zeros(2, 96, 128)])
        with pytest.raises(ValueError, match=r"“hat” was not found in picture 2, 3"):
            self.run(host, two, batch=3, words="hat")
        with pytest.raises(ValueError, match="What the mask should show was not found"):
            self.run(host, torch.zeros(1, 96, 128))

    def test_or_the_whole_picture_is_taken_where_it_is_not_found(self, host):
        masks = torch.cat([square(), torch.zeros(1, 96, 128)])
        region, _ = self.run(host, masks, batch=2, words="hat", when_not_found="whole picture")
        assert region[1].min() == 1
        assert 0 < region[0].mean() < 0.2

    def test_it_can_be_put_into_a_picture_to_be_corrected_in_the_mask_editor(self, host):
        region, _ = self.run(host, square(), feather=0.1)
        (joined,) = host.call("JoinImageWithAlpha", image=torch.rand(1, 96, 128, 3), alpha=region)
        Image.fromarray((joined[0] * 255).round().byte().numpy()).save(host.input / "correct me.png")
        _, mask = host.call("LoadImage", image="correct me.png")
        assert torch.allclose(mask, region, atol=1 / 255)

    @pytest.mark.parametrize("words", ["", "  "])
    def test_without_words_nothing_is_looked_for(self, host, words):
        import nodes

        node = nodes.NODE_CLASS_MAPPINGS["RegionFromMask"]
        assert node.check_lazy_status(words=words, mask=None) == []
        assert node.check_lazy_status(words=None, mask=None) == ["mask"]
        assert node.check_lazy_status(words="hat", mask=None) == ["mask"]
        region, preview = self.run(host, None, words=words)
        assert region.min() == 1
        assert preview.shape == (1, 96, 128, 3)


@pytest.mark.server
class TestWorkflow:
    """The shipped one, with a mask from a file in place of SAM 3, which is too large for a test."""

    def run(self, server, folder, found, where="hair", fit="width"):
        workflow = load_workflow(WORKFLOWS / "api" / "icedit_say_where.json")
        (detector,) = (key for key, node in workflow.items() if node["class_type"] == "SAM3_Detect")
        for assignment in ("DiptychCreate.panel_width=128", f"DiptychCreate.fit={fit}", "KSampler.steps=2"):
            workflow = with_value(workflow, assignment)
        Image.effect_noise((160, 120), 80).convert("RGB").save(folder / "noise.png")
        Image.fromarray((square(120, 160)[0] * found * 255).byte().numpy()).save(folder / "found.png")

        async def go():
            async with ComfyClient(server.url) as client:
                mask = await client.upload_picture(folder / "found.png")
                filled = with_every_picture(workflow, await client.upload_picture(folder / "noise.png"))
                filled[detector] = {"class_type": "LoadImageMask", "inputs": {"image": mask, "channel": "red"}}
                region = next(node["inputs"] for node in filled.values() if node["class_type"] == "RegionFromMask")
                region["words"] = where
                result = await client.run(filled)
                edited = next(p for p in result.pictures if p.kind == "output" and "before" not in p.filename)
                (folder / "edited.png").write_bytes(await client.download(edited))

        asyncio.run(go())
        return changes(folder)

    @pytest.mark.parametrize("fit", ["width", "crop_to_region"])
    def test_outside_the_region_no_pixel_changes(self, server, tmp_path, fit):
        off = self.run(server, tmp_path, found=1, fit=fit)
        assert off[30:50, 40:60].max() > 8
        off[24:56, 34:66] = 0  # grown and feathered by 0.03 of 160
        assert off.max() == 0

    def test_nothing_is_sampled_when_nothing_is_found(self, server, tmp_path):
        with pytest.raises(ComfyError, match=r"“hair” was not found in the picture") as error:
            self.run(server, tmp_path, found=0)
        assert "RegionFromMask" in str(error.value)

    def test_empty_words_edit_anywhere_without_looking(self, server, tmp_path):
        assert self.run(server, tmp_path, found=0, where="")[60:].max() > 8

    def test_every_turn_has_its_own_words(self, server, tmp_path):
        """As Region by Words does it before the `region` of each Image Edit Turn."""
        workflow = load_workflow(WORKFLOWS / "api" / "icedit_multi_turn.json")
        (picture,) = (key for key, node in workflow.items() if node["class_type"] == "LoadImage")
        turns = [key for key, node in workflow.items() if node["class_type"] == "DiptychCreate"]
        boxes = [square(120, 160, left=left) for left in (10, 60, 110)]
        for assignment in ("DiptychCreate.panel_width=128", "KSampler.steps=2"):
            workflow = with_value(workflow, assignment)
        Image.effect_noise((160, 120), 80).convert("RGB").save(tmp_path / "noise.png")

        async def go():
            async with ComfyClient(server.url) as client:
                filled = with_every_picture(workflow, await client.upload_picture(tmp_path / "noise.png"))
                for number, (turn, box) in enumerate(zip(turns, boxes, strict=True)):
                    file = tmp_path / f"found {number}.png"
                    Image.fromarray((box[0] * 255).byte().numpy()).save(file)
                    mask = {"image": await client.upload_picture(file), "channel": "red"}
                    region = {"mask": [f"m{number}", 0], "image": [picture, 0], "grow": 0.0, "feather": 0.0}
                    region |= {"when_not_found": "stop", "words": f"thing {number}"}
                    filled[f"m{number}"] = {"class_type": "LoadImageMask", "inputs": mask}
                    filled[f"r{number}"] = {"class_type": "RegionFromMask", "inputs": region}
                    filled[turn]["inputs"]["region"] = [f"r{number}", 0]
                result = await client.run(filled)
                edited = next(p for p in result.pictures if p.kind == "output" and "before" not in p.filename)
                (tmp_path / "edited.png").write_bytes(await client.download(edited))

        asyncio.run(go())
        off = changes(tmp_path)
        anywhere = torch.zeros(120, 160, dtype=torch.bool)
        for box in boxes:
            assert off[box[0] > 0].max() > 8
            anywhere |= box[0] > 0
        assert off[~anywhere].max() == 0


def changes(folder):
    """`h w`: how much the edited picture's pixels differ from those of its source."""
    source, edited = (torch.tensor(_pixels(folder / name)).int() for name in ("noise.png", "edited.png"))
    return (edited - source).abs().amax(2)


def _pixels(path):
    with Image.open(path) as opened:
        return np.array(opened.convert("RGB"))
