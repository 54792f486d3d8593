"""The trainable models compute what the host computes with their files: else training would teach something else."""

import os
from pathlib import Path

import pytest
import torch
from icedit.diptych.prompt import edit_prompt
from icedit.mini.autoencoder import DECODER_BLOCKS, DECODER_WIDTHS, SCALE, SHIFT, Autoencoder, Decoder, taesd_state
from icedit.mini.flux import (
    TEXT_TO_IMAGE_INPUTS,
    Flux,
    MiniFluxShape,
    own_state,
    patchify,
    position_embedding,
    unpatchify,
)
from icedit.moe_lora.routed import RoutedWeights
from safetensors.torch import load_file, save_file
from support import golden
from support.plain_adapters import RoutedLinear

MODELS = Path(__file__).resolve().parent.parent / "mini" / "models"
FILL, TEXT_TO_IMAGE = "mini_fill.safetensors", "mini_dev.safetensors"


def compute_the_same(own, network, channels):
    """Whether the trainable model computes what the host's network computes."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, channels, 16, 32, generator=generator)
    context, pooled = torch.randn(2, 48, 64, generator=generator), torch.randn(2, 48, generator=generator)
    t, guidance = torch.tensor([0.9, 0.3]), torch.tensor([50.0, 3.5])
    with torch.inference_mode():
        expected = network(x, t, context, pooled, guidance)
        velocity = own(patchify(x), position_embedding(48, 8, 16), t, context, pooled, guidance)
    return torch.allclose(unpatchify(velocity, 8, 16), expected, atol=2e-4)


def shipped(name, inputs):
    file = MODELS / "diffusion_models" / name
    assert file.stat().st_size < 5e6
    state = {key: value.float() for key, value in load_file(file).items()}
    own = Flux(MiniFluxShape(inputs=inputs)).eval()
    own.load_state_dict(own_state(state))
    return own


@pytest.mark.parametrize(("name", "inputs"), [(FILL, 384), (TEXT_TO_IMAGE, TEXT_TO_IMAGE_INPUTS)])
def test_flux(mini, name, inputs):
    import comfy.model_base

    (patcher,) = mini.call("UNETLoader", unet_name=name, weight_dtype="default")
    assert type(patcher.model) is comfy.model_base.Flux
    assert compute_the_same(shipped(name, inputs), patcher.model.diffusion_model.float(), channels=inputs // 4)


def test_words_that_are_left_out_change_nothing():
    own = shipped(FILL, 384)
    patches, context, pooled = torch.randn(1, 128, 384), torch.randn(1, 60, 64), torch.randn(1, 48)
    t, guidance, words = torch.tensor([0.9]), torch.tensor([3.5]), torch.arange(60)[None] < 50
    with torch.inference_mode():
        short = own(patches, position_embedding(50, 8, 16), t, context[:, :50], pooled, guidance)
        padded = own(patches, position_embedding(60, 8, 16), t, context, pooled, guidance, words)
    assert torch.allclose(padded, short, atol=1e-4)


def test_text_encoders(mini):
    from icedit.mini.text import TextEncoders, Tokenizers

    clip = mini.call(
        "DualCLIPLoader", clip_name1="mini_clip_l.safetensors", clip_name2="mini_t5.safetensors", type="flux"
    )[0]
    own = TextEncoders().eval()
    weights = load_file(MODELS / "text_encoders/mini_clip_l.safetensors")
    missing = own.clip.load_state_dict(
        {key: weights[_stored(key, weights)] for key in own.clip.state_dict()}, strict=False
    )
    assert not missing.missing_keys
    t5 = load_file(MODELS / "text_encoders/mini_t5.safetensors")
    own.t5.load_state_dict(t5 | {"encoder.embed_tokens.weight": t5["shared.weight"]})
    tokenizers = Tokenizers(Path(os.environ["ICEDIT_HOST"]))
    text = "A diptych with two side-by-side images of the same scene. make the red circle blue"
    long = edit_prompt("make the red circle blue", "text-to-image", "a red circle and a hollow blue square on a white")
    with torch.inference_mode():
        context, pooled = own(*tokenizers([text]))
        clip_ids, t5_ids, words = tokenizers.long([text, long], 70)
        contexts, _ = own(clip_ids, t5_ids, words)
        for index, sentence in enumerate((text, long)):
            expected, extra = clip.encode_from_tokens_scheduled(clip.tokenize(sentence))[0]
            assert torch.allclose(contexts[index, words[index]], expected[0].float(), atol=0.02)
            if sentence == text:
                assert context.shape == expected.shape
                assert torch.allclose(context, expected.float(), atol=0.02)
                assert torch.allclose(pooled, extra["pooled_output"].float(), atol=0.02)
            else:
                assert 48 < expected.shape[1] < 70


def _stored(key, weights):
    return key if key in weights else f"text_model.{key}"


def test_autoencoder(host, tmp_path):
    import comfy.sd
    import comfy.utils

    torch.manual_seed(0)
    own, picture = Autoencoder(Decoder(DECODER_WIDTHS, DECODER_BLOCKS)), torch.rand(1, 3, 64, 128)
    own.encoder.train()(picture)  # the norm's statistics must be folded in, so they must not be the defaults
    own.eval()
    save_file(taesd_state(own), tmp_path / "ae.safetensors")
    vae = comfy.sd.VAE(sd=comfy.utils.load_torch_file(str(tmp_path / "ae.safetensors")))
    with torch.inference_mode():
        latent = own.encoder(picture)
        encoded = vae.encode(picture.movedim(1, -1))
        assert torch.allclose((encoded - SHIFT) * SCALE, latent, atol=2e-3)
        assert torch.allclose(vae.decode(encoded).movedim(-1, 1), own.decoder(latent).clamp(0, 1), atol=2e-3)


def test_the_routed_layer_computes_what_the_loader_computes(mini):
    from icedit.host.moe_lora.experts import RoutedExperts

    torch.manual_seed(0)
    own = RoutedLinear(torch.nn.Linear(24, 16), "transformer_blocks.0.ff.net.2", rank=4, experts=4)
    torch.nn.init.normal_(own.up)
    x = torch.randn(2, 5, 24)
    with torch.inference_mode():
        weights = RoutedWeights(own.name, "layer", tuple(own.down), tuple(own.up), own.router)
        loaded = RoutedExperts([weights], torch.float32, float32_product=False).layers[0]
        assert golden.difference(loaded(x, own.base(x), top_k=1), own(x)) <= golden.TOLERANCE


def test_a_few_steps_of_the_whole_training_give_files_that_the_host_loads(mini, tmp_path):
    from dataclasses import replace

    from icedit.mini import stages, train

    quick = replace(
        stages.Steps(),
        autoencoder=2,
        decoder=1,
        text=2,
        base=2,
        lora=1,
        moe=1,
        text_to_image=2,
        chunks=1,
        scenes=4,
        pictures=8,
        pairs=4,
    )
    models = tmp_path / "models"
    work = tmp_path / "work"
    work.mkdir()
    train.train(work, models, Path(os.environ["ICEDIT_HOST"]), quick, torch.device("cpu"), compiled=False)
    written = sorted(str(path.relative_to(models)) for path in models.rglob("*.safetensors"))
    assert written == sorted(str(path.relative_to(MODELS)) for path in MODELS.rglob("*.safetensors"))
    for name in written:
        made, ours = load_file(models / name), load_file(MODELS / name)
        assert {key: value.shape for key, value in made.items()} == {key: value.shape for key, value in ours.items()}
    before = {path: path.stat().st_mtime_ns for path in work.rglob("*.pt")}
    train.train(work, models, Path(os.environ["ICEDIT_HOST"]), quick, torch.device("cpu"), compiled=False)
    assert {path: path.stat().st_mtime_ns for path in work.rglob("*.pt")} == before, "a finished stage ran again"
