"""TrainMoELoRA on the real host: what it writes, what it leaves alone."""

import pytest
import torch
from support import teaching

pytestmark = pytest.mark.host


def test_it_writes_a_file_that_the_loader_uses_whole(host):
    from safetensors.torch import load_file

    inputs = teaching.inputs(host)
    before = {name: weight.clone() for name, weight in inputs["model"].model.state_dict().items()}
    lora_name, curve, _report = host.call("TrainMoELoRA", **inputs)
    assert lora_name == "taught.safetensors"
    assert curve.ndim == 4
    import folder_paths

    written = load_file(folder_paths.get_full_path_or_raise("loras", lora_name))
    shipped = load_file(folder_paths.get_full_path_or_raise("loras", "icedit_moe_lora.safetensors"))
    assert {key: value.shape for key, value in written.items()} == {key: value.shape for key, value in shipped.items()}
    _, loaded = host.call("MoELoRALoader", model=inputs["model"], lora_name=lora_name, strength=1.0)
    assert "every one of its" in loaded
    after = inputs["model"].model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
