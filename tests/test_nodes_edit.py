"""The nodes of the main job on the real host, in this process."""

import asyncio
import builtins
import sys
import threading
from pathlib import Path

import pytest
import torch
from PIL import Image
from support import golden
from support.node_edit import conditioned, sampled
from torch.utils._python_dispatch import TorchDispatchMode

pytestmark = pytest.mark.host


class TestEdit:
    @pytest.mark.parametrize("batch", [1, 3])
    def test_a_batch_goes_from_pictures_to_edited_panels(self, host, stack, batch):
        positive, negative, latent, _, layout = conditioned(host, stack, torch.rand(batch, 300, 400, 3))
        samples = sampled(host, stack, positive, negative, latent)
        (decoded,) = host.call("VAEDecode", vae=stack[2], samples={"samples": samples})
        (edited, *_) = host.call("CropRightHalf", image=decoded, layout=layout)
        assert edited.shape == (batch, 96, 128, 3)

    def test_the_left_panels_latent_stays_the_sources(self, host, stack):
        positive, negative, latent, _, _ = conditioned(host, stack, torch.rand(1, 300, 400, 3))
        samples = sampled(host, stack, positive, negative, latent)
        half = samples.shape[-1] // 2
        assert golden.difference(samples[..., :half], latent["samples"][..., :half]) <= golden.TOLERANCE
        assert not torch.allclose(samples[..., half:], latent["samples"][..., half:], atol=0.1)

    def test_a_region_keeps_the_rest_of_the_right_panel(self, host, stack):
        region = torch.zeros(1, 300, 400)
        region[:, :, 200:] = 1
        positive, negative, latent, _, _ = conditioned(host, stack, torch.rand(1, 300, 400, 3), region=region)
        samples = sampled(host, stack, positive, negative, latent)
        quarter = samples.shape[-1] // 4
        kept = slice(0, 3 * quarter - 1)
        assert golden.difference(samples[..., kept], latent["samples"][..., kept]) <= golden.TOLERANCE
        assert not torch.allclose(samples[..., 3 * quarter :], latent["samples"][..., 3 * quarter :], atol=0.1)

    def test_the_lora_changes_the_edit(self, host, stack):
        positive, negative, latent, _, _ = conditioned(host, stack, torch.rand(1, 96, 128, 3))
        (patched,) = host.call(
            "LoraLoaderModelOnly", model=stack[0], lora_name="icedit_normal_lora.safetensors", strength_model=1.0
        )
        plain = sampled(host, stack, positive, negative, latent)
        with_lora = sampled(host, (patched, *stack[1:]), positive, negative, latent)
        assert not torch.allclose(plain, with_lora, atol=1e-3)


class TestConditioning:
    def test_as_the_hosts_own_node(self, host, stack):
        positive, _, latent, mask, _ = conditioned(host, stack, torch.rand(1, 96, 128, 3))
        values = positive[0][1]
        assert values["guidance"] == 50.0
        assert torch.equal(latent["noise_mask"], mask[:, None])
        assert torch.equal(values["concat_mask"], mask[:, None])
        assert values["concat_latent_image"].shape == latent["samples"].shape
        assert not torch.equal(values["concat_latent_image"], latent["samples"])

    def test_the_masked_part_is_grey_for_the_model(self, host, stack):
        source = torch.rand(1, 96, 128, 3)
        positive, _, _, _, _ = conditioned(host, stack, source)
        masked = torch.cat([source, torch.full_like(source, 0.5)], dim=2)
        expected = host.call("VAEEncode", vae=stack[2], pixels=masked)[0]["samples"]
        assert golden.difference(positive[0][1]["concat_latent_image"], expected) <= golden.TOLERANCE

    @pytest.mark.parametrize("size", [(100, 204), (97, 131), (120, 248)])
    @pytest.mark.parametrize("batch", [1, 2])
    def test_sizes_that_are_no_multiple_of_16(self, host, stack, size, batch):
        _, clip, vae = stack
        image = torch.rand(batch, *size, 3)
        mask = torch.zeros(1, *size)
        mask[:, :, size[1] // 2 :] = 1
        positive, _, _ = host.call("InContextEditInstruction", editText="make it red", clip=clip)
        positive, negative, latent = host.call(
            "ICEFConditioning", In_context=positive, negative=positive, vae=vae, diptych=image, maskDiptych=mask
        )
        rows, columns = size[0] // 8, size[1] // 8
        assert latent["samples"].shape == (batch, 16, rows, columns)
        assert latent["noise_mask"].shape == (batch, 1, rows * 8, columns * 8)
        samples = sampled(host, stack, positive, negative, latent)
        assert samples.shape == latent["samples"].shape
        left = columns // 2 - 1
        assert golden.difference(samples[..., :left], latent["samples"][..., :left]) <= golden.TOLERANCE

    def test_a_batch_is_its_pictures_one_by_one(self, host, stack):
        source = torch.rand(2, 96, 128, 3)
        region = torch.zeros(2, 96, 128)
        region[0, :, :64] = 1
        region[1, 48:] = 1
        both, _, latent, _, _ = conditioned(host, stack, source, region=region)
        for index in range(2):
            pick = slice(index, index + 1)
            one, _, alone, _, _ = conditioned(host, stack, source[pick], region=region[pick])
            assert golden.difference(latent["samples"][pick], alone["samples"]) <= golden.TOLERANCE
            assert torch.equal(latent["noise_mask"][pick], alone["noise_mask"])
            for key in ("concat_latent_image", "concat_mask"):
                assert golden.difference(both[0][1][key][pick], one[0][1][key]) <= golden.TOLERANCE

    @pytest.mark.parametrize(
        ("mask", "message"),
        [
            (torch.ones(3, 96, 256), "maskDiptych holds 3 masks for 1 diptychs"),
            (torch.ones(1, 96, 128), "maskDiptych is 128 x 96, but the diptych is 256 x 96"),
            (torch.ones(5), "expected a MASK"),
        ],
    )
    def test_masks_that_do_not_fit(self, host, stack, mask, message):
        with pytest.raises(ValueError, match=message):
            host.call(
                "ICEFConditioning", In_context=[], negative=[], vae=stack[2], diptych=torch.rand(1, 96, 256, 3),
                maskDiptych=mask,
            )  # fmt: skip

    def test_no_vae(self, host):
        with pytest.raises(ValueError, match=r"vae is empty.*ae\.safetensors"):
            host.call(
                "ICEFConditioning", In_context=[], negative=[], vae=None, diptych=torch.rand(1, 96, 256, 3),
                maskDiptych=torch.ones(1, 96, 256),
            )  # fmt: skip


class TestInstruction:
    def test_the_final_prompt_is_what_is_encoded(self, host, stack):
        conditioning, prompt, instruction = host.call(
            "InContextEditInstruction", editText=" make it red ", clip=stack[1]
        )
        (expected,) = host.call("CLIPTextEncode", clip=stack[1], text=prompt)
        assert prompt.endswith("is exactly the same as on the left but make it red")
        assert instruction == "make it red"
        assert torch.equal(conditioning[0][0], expected[0][0])
        assert torch.equal(conditioning[0][1]["pooled_output"], expected[0][1]["pooled_output"])

    def test_guidance_0_leaves_it_to_a_later_node(self, host, stack):
        conditioning, *_ = host.call("InContextEditInstruction", editText="x", clip=stack[1], guidance=0.0)
        assert "guidance" not in conditioning[0][1]

    def test_no_clip(self, host):
        with pytest.raises(ValueError, match=r"clip is empty.*DualCLIPLoader"):
            host.call("InContextEditInstruction", editText="x", clip=None)

    def test_empty_instruction(self, host, stack):
        with pytest.raises(ValueError, match=r"instruction is empty"):
            host.call("InContextEditInstruction", editText=" ", clip=stack[1])


class TestPictureFiles:
    def test_an_uploaded_file(self, host):
        Image.new("RGB", (400, 300), (255, 0, 0)).save(host.input / "red.png")
        diptych, mask, original, _ = host.call("DiptychCreate", image="red.png")
        assert diptych.shape == (1, 384, 1024, 3)
        assert mask.shape == (1, 384, 1024)
        assert original.shape == (1, 300, 400, 3)

    def test_a_connected_image_wins_over_the_file(self, host):
        Image.new("RGB", (400, 300), (255, 0, 0)).save(host.input / "red.png")
        *_, original, _ = host.call("DiptychCreate", image="red.png", image_input=torch.zeros(1, 64, 64, 3))
        assert original.shape == (1, 64, 64, 3)

    def test_no_picture(self, host):
        with pytest.raises(ValueError, match="There is no picture to edit"):
            host.call("DiptychCreate", image="None")

    @pytest.mark.parametrize("name", ["../secret.png", "sub/../../secret.png", "/etc/passwd", "../secret.png [output]"])
    def test_a_path_out_of_the_input_folder(self, host, name):
        import nodes

        Image.new("RGB", (64, 64)).save(host.folder / "secret.png")
        with pytest.raises(ValueError, match="outside ComfyUI's input folder"):
            host.call("DiptychCreate", image=name)
        refusal = nodes.NODE_CLASS_MAPPINGS["DiptychCreate"].validate_inputs(image=name)
        assert isinstance(refusal, str)
        assert "outside" in refusal

    def test_a_missing_file(self, host):
        import nodes

        refusal = nodes.NODE_CLASS_MAPPINGS["DiptychCreate"].validate_inputs(image="gone.png")
        assert isinstance(refusal, str)
        assert "'gone.png' is not in ComfyUI's input folder" in refusal

    def test_an_input_folder_that_is_a_root(self, host, monkeypatch):
        import folder_paths

        Image.new("RGB", (64, 64)).save(host.input / "rooted.png")
        monkeypatch.setattr(folder_paths, "get_input_directory", lambda: "/")
        _, _, original, _ = host.call("DiptychCreate", image=(host.input / "rooted.png").as_posix().lstrip("/"))
        assert original.shape == (1, 64, 64, 3)

    def test_a_replaced_file_changes_the_fingerprint(self, host):
        import nodes

        node = nodes.NODE_CLASS_MAPPINGS["DiptychCreate"]
        Image.new("RGB", (64, 64), "red").save(host.input / "again.png")
        before = node.fingerprint_inputs(image="again.png")
        assert node.fingerprint_inputs(image="again.png") == before
        Image.new("RGB", (64, 64), "blue").save(host.input / "again.png")
        assert node.fingerprint_inputs(image="again.png") != before


IMPORTED_BY_THE_HOST = {
    "comfy", "comfy_api", "comfy_execution", "comfyui_version", "folder_paths", "latent_preview", "node_helpers",
    "nodes", "numpy", "PIL", "safetensors", "server", "torch", "typing_extensions",
}  # fmt: skip
"""Before it loads any pack, because its own nodes need them."""


def test_start_up_does_not_notice_us(host, tmp_path, monkeypatch):
    """Loading the pack imports nothing big that is not there yet, and computes nothing. A time would be the machine's:
    it took 10 to 25 ms, and a busy machine ten times that."""
    import nodes

    pack, imported, read, original = tmp_path / "icedit-anew", set(), set(), builtins.__import__
    pack.symlink_to((host.folder / "custom_nodes" / "comfyui-icedit").resolve())

    def spy(name, globals=None, locals=None, fromlist=(), level=0):
        file = Path((globals or {}).get("__file__") or "")
        if pack in file.parents:
            read.add(file.relative_to(pack).parts[0])
            if level == 0:
                imported.add(name.partition(".")[0])
        return original(name, globals, locals, fromlist, level)

    class NoOperation(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            raise AssertionError(f"{function} while the pack is loaded")

    threads = threading.active_count()
    with monkeypatch.context() as watched, NoOperation():
        watched.setattr(builtins, "__import__", spy)
        assert asyncio.run(nodes.load_custom_node(str(pack)))
    assert {"nodes", "host", "moe_lora", "early_filter"} <= read
    assert "torch" in imported
    assert imported - set(sys.stdlib_module_names) <= IMPORTED_BY_THE_HOST
    # For people at the host's page, what works at a command line is nothing to load.
    assert not read & {"headless", "private_host", "mini", "benchmarks", "tests"}
    assert threading.active_count() <= threads
