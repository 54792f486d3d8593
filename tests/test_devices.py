"""`--gpu-only`: ComfyUI then keeps pictures on the GPU, while masks may still come from the CPU, or the reverse."""

import itertools

import pytest
import torch
from support.second_device import DEVICE, OnDevice, on_device, second_device

pytestmark = pytest.mark.host

PLACES = list(itertools.product((False, True), repeat=2))


def put(tensor: torch.Tensor, there: bool) -> torch.Tensor:
    return on_device(tensor) if there else tensor


def region() -> torch.Tensor:
    mask = torch.zeros(1, 96, 128)
    mask[:, 32:80, 48:112] = 1
    return mask


class TestTheEmulation:
    def test_mixing_fails(self):
        with second_device(), pytest.raises(RuntimeError, match="same device"):
            on_device(torch.ones(3)) * torch.ones(3)

    def test_moving_works(self):
        with second_device():
            moved = torch.ones(3).to(DEVICE)
            assert isinstance(moved, OnDevice)
            assert isinstance(moved * 2, OnDevice)
            assert not isinstance((moved * 2).cpu(), OnDevice)
            assert isinstance(torch.zeros(2, device=DEVICE), OnDevice)
            with pytest.raises(TypeError, match="numpy"):
                moved.numpy()


@pytest.mark.parametrize(("image", "mask"), PLACES)
def test_create_diptych(host, image, mask):
    picture = torch.rand(1, 96, 128, 3)
    expected = host.call("DiptychCreate", image="None", image_input=picture, region=region(), panel_width=128)
    with second_device():
        made = host.call(
            "DiptychCreate", image="None", image_input=put(picture, image), region=put(region(), mask), panel_width=128
        )
    for one, other in zip(made[:3], expected[:3], strict=True):
        assert torch.equal(one, other)


def test_outputs_are_where_the_host_keeps_pictures(host, monkeypatch):
    import comfy.model_management

    monkeypatch.setattr(comfy.model_management, "intermediate_device", lambda: DEVICE)
    with second_device():
        outputs = host.call("DiptychCreate", image="None", image_input=torch.rand(1, 96, 128, 3), panel_width=128)
    assert all(isinstance(output, OnDevice) for output in outputs[:3])


@pytest.mark.parametrize(("image", "mask"), PLACES)
def test_diptych_conditioning(host, stack, image, mask):
    inputs = {"In_context": [[torch.zeros(1, 2, 8), {}]], "negative": [], "vae": stack[2]}
    diptych, masks = torch.rand(1, 96, 256, 3), torch.nn.functional.pad(region(), (128, 0))
    *_, expected = host.call("ICEFConditioning", **inputs, diptych=diptych, maskDiptych=masks)
    with second_device():
        *_, latent = host.call("ICEFConditioning", **inputs, diptych=put(diptych, image), maskDiptych=put(masks, mask))
    for key in ("samples", "noise_mask"):
        assert torch.equal(latent[key].cpu(), expected[key])


@pytest.mark.parametrize(("image", "original"), PLACES)
@pytest.mark.parametrize("restore", ["panel", "resize", "blend"])
def test_crop_right_half(host, image, original, restore):
    source = torch.rand(1, 96, 128, 3)
    diptych, _, whole, layout = host.call(
        "DiptychCreate", image="None", image_input=source, region=region(), panel_width=128
    )
    diptych = diptych.clone()
    diptych[:, 40:70, 180:230] = 0
    inputs = {"layout": layout, "restore": restore}
    expected = host.call("CropRightHalf", image=diptych, original=whole, **inputs)
    with second_device():
        outputs = host.call("CropRightHalf", image=put(diptych, image), original=put(whole, original), **inputs)
    for one, other in zip(outputs, expected, strict=True):
        assert torch.allclose(one.cpu(), other, atol=1e-5)


@pytest.mark.parametrize(("edited", "original"), PLACES)
@pytest.mark.parametrize("mask", [False, True])
def test_restore_edit(host, edited, original, mask):
    source = torch.rand(1, 96, 128, 3)
    edit = source.clone()
    edit[:, 40:70, 60:100] = 0
    expected = host.call("EditRestore", edited=edit, original=source, restore="blend", region=region())
    with second_device():
        outputs = host.call(
            "EditRestore", edited=put(edit, edited), original=put(source, original), restore="blend",
            region=put(region(), mask),
        )  # fmt: skip
    for one, other in zip(outputs, expected, strict=True):
        assert torch.allclose(one.cpu(), other, atol=1e-5)
