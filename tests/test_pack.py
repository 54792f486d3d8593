import pytest


@pytest.mark.host
def test_the_host_knows_our_nodes(host):
    import nodes

    for node in ("DiptychCreate", "InContextEditInstruction", "ICEFConditioning", "CropRightHalf"):
        assert node in nodes.NODE_CLASS_MAPPINGS


@pytest.mark.host
def test_an_edit_in_process(host):
    import torch

    model, clip, vae = host.load_model(), host.load_clip(), host.load_vae()
    source = torch.rand(1, 300, 400, 3)
    diptych, mask, original, layout = host.call("DiptychCreate", image="None", image_input=source, panel_width=128)
    positive, prompt, instruction = host.call("InContextEditInstruction", editText="make it red", clip=clip)
    (negative,) = host.call("ConditioningZeroOut", conditioning=positive)
    positive, negative, latent = host.call(
        "ICEFConditioning", In_context=positive, negative=negative, vae=vae, diptych=diptych, maskDiptych=mask
    )
    (sampled,) = host.call(
        "KSampler", model=model, seed=1, steps=2, cfg=1.0, sampler_name="euler", scheduler="simple",
        positive=positive, negative=negative, latent_image=latent, denoise=1.0,
    )  # fmt: skip
    (decoded,) = host.call("VAEDecode", vae=vae, samples=sampled)
    (edited,) = host.call("CropRightHalf", image=decoded, layout=layout)
    assert edited.shape == (1, 96, 128, 3)
