"""TrainMoELoRA on the real host: what it writes, what it leaves alone, how it goes on."""

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support import teaching

pytestmark = pytest.mark.host


@pytest.fixture(scope="module")
def models(host, models):
    """The tiny models with their text encoders."""
    return models | {"clip": host.load_clip()}


@pytest.fixture
def train(host, models):
    """Trains with small defaults; the node's outputs."""

    def run(**changes):
        return host.call("TrainMoELoRA", **teaching.inputs(host, **models, **changes))

    return run


def lora(name):
    import folder_paths

    return folder_paths.get_full_path_or_raise("loras", name)


def weights(models):
    patchers = (models["model"], models["clip"].patcher, models["vae"].patcher)
    return [{name: value.clone() for name, value in patcher.model.state_dict().items()} for patcher in patchers]


def is_learned(tensors):
    """Whether no layer is at its start any more; single experts may not have been used in a few steps."""
    layers = {}
    for key, tensor in tensors.items():
        if ".lora_B." in key:
            layer = key.partition(".lora_B.")[0]
            layers[layer] = layers.get(layer, False) or bool(tensor.any())
    return len(layers) == 13 and all(layers.values())


def forwards(model):
    return [name for name, module in model.model.named_modules() if "forward" in module.__dict__]


def test_it_writes_a_file_that_both_loaders_use_whole(host, models, train):
    import comfy.lora
    import comfy.lora_convert

    before = weights(models)
    lora_name, picture, report = train(sample_every=2, name="folder/taught")
    assert lora_name.replace("\\", "/") == "folder/taught.safetensors"
    assert picture.shape[1] > 320 + 100, "the loss and a held-out pair below it"
    assert "MoE adapter, 3 steps, 4 pairs" in report
    assert re.search(r"Memory: about .* base model, .* adapter with gradients", report)
    assert re.search(r"says \d\.\d+ bits about which of 2 kinds of edit", report)
    written, shipped = load_file(lora(lora_name)), load_file(lora("icedit_moe_lora.safetensors"))
    assert {key: value.shape for key, value in written.items()} == {key: value.shape for key, value in shipped.items()}
    assert all(torch.isfinite(value).all() for value in written.values())
    assert is_learned(written)
    _, loaded = host.call("MoELoRALoader", model=models["model"], lora_name=lora_name, strength=1.0)
    assert "every one of its" in loaded
    plain = {key: value for key, value in written.items() if ".expert_" not in key and "lora_route" not in key}
    patches = comfy.lora.load_lora(plain, comfy.lora.model_lora_keys_unet(models["model"].model, {}))
    used = {id(tensor) for patch in patches.values() for tensor in patch.weights if isinstance(tensor, torch.Tensor)}
    assert used == {id(tensor) for tensor in plain.values()}
    for old, new in zip(before, weights(models), strict=True):
        assert old.keys() == new.keys()
        assert all(torch.equal(old[name], new[name]) for name in old)
    assert forwards(models["model"]) == []


def test_a_running_mean_of_the_adapter_is_what_is_written(host, models, train):
    import folder_paths

    lora_name, *_ = train(name="averaged", average=0.9, times="uniform")
    states = folder_paths.get_output_directory() / Path("icedit_training/states/averaged")
    last = max(states.rglob("*.safetensors"))
    saved, written = load_file(last), load_file(lora(lora_name))
    assert torch.equal(written["transformer.x_embedder.lora_B.weight"], saved["mean.layers.0.up.0"])
    assert not torch.equal(saved["mean.layers.0.up.0"], saved["adapter.layers.0.up.0"])


def test_what_is_trained_is_what_is_sampled(host, models):
    """The model is shown what Diptych Conditioning shows it when an edit is made, to the bit."""
    from icedit.host.training.batches import shown_to_fill
    from icedit.host.training.encode import EncodedPairs
    from icedit.host.training.folders import encoded_folder
    from icedit.host.training.run import TrainingModels

    pairs = teaching.edit_pairs(sizes=((64, 64),))
    data = EncodedPairs(pairs, TrainingModels(**models).encoders, encoded_folder())
    for part in data.missing(pairs.pairs):
        part()
    pair = pairs[0]
    source, _ = pairs.pictures(pair)
    seen = []

    def record(apply_model, args):
        seen.append(args)
        return apply_model(args["input"], args["timestep"], **args["c"])

    watched = models["model"].clone()
    watched.set_model_unet_function_wrapper(record)
    diptych = host.call("DiptychCreate", image_input=source[None], panel_width=64)
    prompt = host.call("InContextEditInstruction", editText=pair.instructions[0], clip=models["clip"])
    inputs = {"In_context": prompt[0], "negative": prompt[0], "vae": models["vae"]}
    positive, negative, latent = host.call("ICEFConditioning", **inputs, diptych=diptych[0], maskDiptych=diptych[1])
    host.call(
        "KSampler", model=watched, seed=1, steps=1, cfg=1.0, sampler_name="euler", scheduler="simple",
        positive=positive, negative=negative, latent_image=latent, denoise=1.0,
    )  # fmt: skip
    given, picture, sentence = seen[0]["c"], data.picture(pair), data.sentence(pair.instructions[0])
    shown = shown_to_fill(models["model"], torch.zeros_like(picture["latent"]), picture["masked"])
    assert torch.equal(given["c_concat"], shown)
    assert torch.equal(given["c_crossattn"], sentence["text"])
    assert torch.equal(given["y"], sentence["pooled"])


def test_an_interrupted_training_goes_on_and_writes_the_same_file(host, train, monkeypatch):
    import comfy.model_management

    whole = load_file(lora(train(steps=5, name="whole", save_every=2)[0]))
    polled = []

    def interrupt():
        polled.append(1)
        if len(polled) == 4:  # everything is encoded by now, so this is a step
            raise comfy.model_management.InterruptProcessingException

    monkeypatch.setattr(host.module("host.interrupts"), "poll", interrupt)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        train(steps=5, name="stopped", save_every=2)
    monkeypatch.undo()
    name, _, report = train(steps=5, name="stopped", save_every=2)
    assert "Went on from the state after step 3." in report
    resumed = load_file(lora(name))
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_the_loader_takes_top_k_from_the_file(host, models, train):
    from comfy_execution.validation import validate_node_input

    name, _, _ = train(top_k=2, steps=1, name="two")
    given = {"model": models["model"], "lora_name": name, "strength": 1.0}
    assert "top_k 2," in host.call("MoELoRALoader", **given)[1]
    assert "top_k 1," in host.call("MoELoRALoader", **given, top_k=1)[1]
    published = host.call("MoELoRALoader", **{**given, "lora_name": "icedit_moe_lora.safetensors"})
    assert "top_k 1," in published[1]
    import nodes

    (output, *_) = nodes.NODE_CLASS_MAPPINGS["TrainMoELoRA"].RETURN_TYPES
    assert validate_node_input(output, "COMBO") and validate_node_input(output, "STRING")


def test_the_page_leaves_the_seed_alone(host):
    """With another seed after each run, as the page does by itself, nothing could be gone on with."""
    import nodes

    _, options = nodes.NODE_CLASS_MAPPINGS["TrainMoELoRA"].INPUT_TYPES()["required"]["seed"]
    assert options["control_after_generate"] == "fixed"


def test_weights_that_the_host_moves_can_be_used_while_training_and_afterwards(models, train, monkeypatch):
    import comfy.model_management as management

    load = management.load_models_gpu

    def move(loaded, *args, **kwargs):
        load(loaded, *args, **kwargs)
        for parameter in models["model"].model.parameters():
            # What Module.to does; on the CPU everything is where it belongs from the start.
            parameter.data = parameter.data.clone()

    monkeypatch.setattr(management, "load_models_gpu", move)
    assert is_learned(load_file(lora(train(steps=2, sample_every=1)[0])))
    with torch.inference_mode():
        for parameter in models["model"].model.parameters():
            parameter.detach()  # raises where parameter and data were made in different modes


def test_another_setting_starts_a_training_of_its_own(train):
    train(steps=2, name="changed")
    assert "Went on from the state after step 2." in train(steps=3, name="changed")[2], "constant rates can go on"
    assert "Went on" not in train(steps=3, name="changed", seed=2)[2]


def test_pairs_of_several_sizes_and_accumulation_make_one_step(train):
    pairs = teaching.edit_pairs(sizes=((32, 32), (32, 64)))
    _, _, report = train(pairs=pairs, accumulate=3, steps=1, name="sizes", checkpointing=False)
    assert "1 steps" in report


def test_an_ordinary_adapter_goes_on_from_a_file(train):
    name, _, _ = train(adapter="ordinary", start_from="icedit_normal_lora.safetensors", steps=1, name="ordinary")
    written, start = load_file(lora(name)), load_file(lora("icedit_normal_lora.safetensors"))
    assert written.keys() == start.keys()
    for key, tensor in start.items():
        assert 0 < (written[key] - tensor).abs().max() < 0.01, "one small step away"


def test_experts_are_added_to_a_file_that_has_fewer(train):
    name, _, report = train(start_from="icedit_moe_lora.safetensors", experts=6, steps=1, name="more")
    assert "2 experts of each layer began as copies of the file's 4." in report
    assert sum("lora_A.expert_5." in key for key in load_file(lora(name))) == 2


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"name": "../elsewhere"}, "expected the name of a file"),
        ({"name": "icedit_moe_lora"}, "would be lost"),
        ({"start_from": "gone.safetensors"}, "not in models/loras"),
        ({"clip": None}, "clip is empty"),
        ({"rank": 2, "start_from": "icedit_moe_lora.safetensors"}, "Set rank to 4 or more"),
    ],
)
def test_what_cannot_be_trained_is_told_before_anything_happens(host, models, changes, word):
    with pytest.raises(ValueError, match=word):
        host.call("TrainMoELoRA", **{**teaching.inputs(host, **models), **changes})


@pytest.mark.parametrize(
    ("loaded", "word"),
    [("flux1-dev.safetensors", r"expected FLUX\.1-Fill's 384"), (None, r"icedit_moe_lora_0.*start_from")],
)
def test_a_model_that_is_no_fill_or_is_changed_elsewhere_is_refused(host, models, loaded, word):
    if loaded is None:
        given = {"model": models["model"], "lora_name": "icedit_moe_lora.safetensors", "strength": 1.0}
        model = host.call("MoELoRALoader", **given)[0]
    else:
        model = host.load_model(name=loaded)
    with pytest.raises(ValueError, match=word):
        host.call("TrainMoELoRA", **teaching.inputs(host, **{**models, "model": model}))


def test_too_little_memory_is_told_and_the_last_step_kept(host, train, monkeypatch):
    batches = host.module("host.training.batches")
    loss = batches.velocity_loss
    calls = []

    def small(*args):
        calls.append(1)
        if len(calls) == 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return loss(*args)

    monkeypatch.setattr(batches, "velocity_loss", small)
    with pytest.raises(ValueError, match=r"not enough memory for step 3.*checkpointing.*after step 2 is kept"):
        train(steps=4, name="large")
    monkeypatch.undo()
    assert "Went on from the state after step 2." in train(steps=4, name="large")[2]


def test_fp8_weights_train_too(host, models, train):
    model = host.load_model(dtype="fp8_e4m3fn")
    before = {name: value.clone() for name, value in model.model.state_dict().items()}
    inputs = teaching.inputs(host, **{**models, "model": model}, name="fp8", steps=2)
    name, _, _ = host.call("TrainMoELoRA", **inputs)
    assert is_learned(load_file(lora(name)))
    assert all(torch.equal(before[key].float(), value.float()) for key, value in model.model.state_dict().items())


@pytest.mark.parametrize(("dtype", "nearness"), [(torch.float32, 0.25), (torch.bfloat16, 0.4)])
def test_the_estimate_of_memory_is_near_what_a_step_keeps(host, monkeypatch, dtype, nearness):
    """In bfloat16 what stays in float32, the router's results, weighs more beside so small a model."""
    from icedit.host.training import fill_model
    from icedit.host.training.fill_model import FillVelocity, new_adapter
    from icedit.training.memory import BatchShape
    from icedit.training.settings import TrainingSettings

    # Some CPUs would compute parts of a float32 model in bfloat16.
    monkeypatch.setattr(fill_model, "_gains_by_bfloat16", lambda _: False)
    model = host.load_model()
    with torch.inference_mode():
        model.model.diffusion_model.to(dtype)
        model.model.diffusion_model.dtype = dtype
    adapter = new_adapter(model, TrainingSettings(rank=4))
    owned = {p.untyped_storage().data_ptr() for p in (*adapter.parameters(), *model.model.parameters())}
    shape = BatchShape(tokens=2 * (128 + 8), hidden=128, blocks=2, itemsize=dtype.itemsize, rank=4, experts=4)
    measured = {}
    for checkpointing in (False, True):
        kept = {}

        def keep(tensor, kept=kept):
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in owned:
                kept[storage.data_ptr()] = storage
            return tensor

        velocity = FillVelocity(model, adapter, checkpointing)
        with velocity.training(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            found = velocity(*(torch.rand(2, *size) for size in ((16, 16, 32), (), (80, 16, 32), (8, 32), (32,))), 50.0)
        assert found.requires_grad
        measured[checkpointing] = sum(storage.nbytes() for storage in kept.values())
    assert measured[False] == pytest.approx(shape.activations(False), rel=nearness)
    # Of the blocks, only inputs are kept until one of them is computed again.
    assert measured[True] < shape.activations(True) < measured[False]


class TestTheFileInTheOutputFolder:
    """From there programs on other machines fetch it."""

    def shared(self, name):
        import folder_paths

        return Path(folder_paths.get_output_directory()) / "icedit_training" / f"{name}.safetensors"

    @pytest.mark.parametrize("links", [True, False])
    def test_it_is_the_one_among_the_loras_after_every_training(self, train, monkeypatch, links):
        if not links:
            monkeypatch.setattr("os.link", self.refuse)
        for steps in (1, 2):
            lora_name, *_ = train(name=f"shared/{links}", steps=steps)
            assert self.shared(f"shared/{links}").read_bytes() == Path(lora(lora_name)).read_bytes()

    def test_where_it_cannot_be_put_there_the_training_is_not_lost(self, train):
        self.shared("in_the_way").mkdir(parents=True)
        lora_name, _, report = train(name="in_the_way")
        assert "could not be put into the output folder" in report
        assert is_learned(load_file(lora(lora_name)))

    def refuse(self, *_):
        raise OSError(18, "Invalid cross-device link")
