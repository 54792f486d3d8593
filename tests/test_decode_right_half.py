"""Decoding the right panel without the left one's colours, on the real host."""

import pytest
import torch
from support.node_edit import sampled
from support.panel_edge import CLOSE, FIRST, LAST, error

pytestmark = pytest.mark.host


class TestStrip:
    def test_is_gone(self, host, mini_vae, background_edits, edited_latent):
        _, after = background_edits
        (decoded,) = host.call("VAEDecode", samples=edited_latent, vae=mini_vae)
        assert error(decoded[:, :, 128:], after, FIRST) > 1.3 * CLOSE, "there is nothing to correct"
        image, _ = host.call("DecodeRightHalf", samples=edited_latent, vae=mini_vae)
        assert error(image, after, FIRST) < CLOSE

    def test_is_gone_with_the_source(self, host, mini_vae, background_edits, edited_latent):
        before, after = background_edits
        *_, layout = host.call("DiptychCreate", image="None", image_input=before, panel_width=128)
        blind, _ = host.call("DecodeRightHalf", samples=edited_latent, vae=mini_vae)
        image, _ = host.call("DecodeRightHalf", samples=edited_latent, vae=mini_vae, layout=layout, original=before)
        assert error(image, after, FIRST) < error(blind, after, FIRST) + 0.5 / 255
        assert error(image, after, slice(None)) < CLOSE

    @torch.inference_mode()
    @pytest.mark.parametrize("right", ["copy", "grey"])
    def test_is_gone_from_the_left_panel(self, mini_vae, background_edits, edited_latent, right):
        """Else the comparison of both panels would find a change at the picture's right edge."""
        from icedit.host.right_panel import DiptychLatent, decode_left

        before, after = background_edits
        beside = before if right == "copy" else torch.full_like(before, 0.5)
        samples = edited_latent["samples"].clone()
        samples[..., :16] = mini_vae.encode(torch.cat([before, beside], 2))[..., :16]
        for known in (before, None):
            left = decode_left(DiptychLatent(samples, mini_vae, known), after)
            assert error(left, before, LAST) < CLOSE, known is None

    def test_two_left_panels_leave_one_picture(self, host, mini_vae, background_edits):
        """What the left panel shows does not reach the right one."""
        before, after = background_edits
        found = {}
        for name, left in (("before", before), ("inverted", 1.0 - before)):
            (encoded,) = host.call("VAEEncode", pixels=torch.cat([left, after], 2), vae=mini_vae)
            (whole,) = host.call("VAEDecode", samples=encoded, vae=mini_vae)
            found[name] = whole[:, :, 128:], host.call("DecodeRightHalf", samples=encoded, vae=mini_vae)[0]
        together, alone = (error(*pair, FIRST) for pair in zip(*found.values(), strict=True))
        assert alone < together / 4


def test_a_region_keeps_every_other_pixel(host, stack):
    source = torch.rand(1, 128, 320, 3)
    region = torch.zeros(1, 128, 320)
    region[:, 30:100, :200] = 1
    for fit in ("area", "tiles"):
        diptych, mask, original, layout = host.call(
            "DiptychCreate", image="None", image_input=source, panel_width=96, region=region, fit=fit
        )
        positive, _, _ = host.call("InContextEditInstruction", editText="x", clip=stack[1])
        positive, negative, latent = host.call(
            "ICEFConditioning", In_context=positive, negative=positive, vae=stack[2], diptych=diptych,
            maskDiptych=mask, layout=layout,
        )  # fmt: skip
        samples = {"samples": sampled(host, stack, positive, negative, latent, seed=1)}
        for restore in ("blend", "resize"):
            image, changed = host.call(
                "DecodeRightHalf", samples=samples, vae=stack[2], layout=layout, original=original, restore=restore
            )
            assert image.shape == source.shape
            assert torch.equal(image[region == 0], source[region == 0])
            assert changed.max() > 0
            assert changed[region == 0].max() == 0


class TestErrors:
    @pytest.mark.parametrize("samples", [torch.rand(1, 16, 16, 31), torch.rand(1, 16, 3, 16, 32), torch.rand(16, 8)])
    def test_no_diptych(self, host, mini_vae, samples):
        with pytest.raises(ValueError, match="samples is no diptych"):
            host.call("DecodeRightHalf", samples={"samples": samples}, vae=mini_vae)

    def test_no_vae(self, host, edited_latent):
        with pytest.raises(ValueError, match="vae is empty"):
            host.call("DecodeRightHalf", samples=edited_latent, vae=None)

    def test_layout_of_another_diptych(self, host, mini_vae, edited_latent):
        *_, layout = host.call("DiptychCreate", image="None", image_input=torch.rand(1, 128, 128, 3), panel_width=128)
        with pytest.raises(ValueError, match="the layout belongs to a diptych of 256 x 128"):
            host.call("DecodeRightHalf", samples=edited_latent, vae=mini_vae, layout=layout)

    def test_nothing_to_restore_onto(self, host, mini_vae, edited_latent):
        with pytest.raises(ValueError, match="layout and original is not connected"):
            host.call("DecodeRightHalf", samples=edited_latent, vae=mini_vae, restore="blend")

    def test_a_latent_that_is_no_number(self, host, mini_vae, edited_latent):
        with pytest.raises(ValueError, match="NaN"):
            host.call("DecodeRightHalf", samples={"samples": edited_latent["samples"] * float("nan")}, vae=mini_vae)
