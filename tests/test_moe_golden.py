"""The adapter through the real host equals the paper's own layers."""

import pytest
import torch
from support import golden

pytestmark = pytest.mark.host


@pytest.fixture(scope="module", autouse=True)
def _adapters(tiny_models):
    golden.install_adapters(tiny_models / "loras")


@pytest.fixture(params=golden.NAMES)
def vectors(request):
    return golden.read(request.param)


def load(host, vectors, model, **inputs):
    return host.call(
        "MoELoRALoader", model=model, lora_name=f"golden_{vectors.name}.safetensors",
        **{"strength": 1.0, "top_k": vectors.top_k, **inputs},
    )  # fmt: skip


def test_the_whole_model_equals_the_papers(host, vectors):
    model = vectors.load_model()
    patched, report = load(host, vectors, model)
    print(report)
    assert (golden.evaluate(model, vectors) - vectors.expected["output_base"]).abs().max() <= 1e-5
    assert (golden.evaluate(patched, vectors) - vectors.expected["output_moe_lora"]).abs().max() <= 1e-5
    assert (golden.evaluate(model, vectors) - vectors.expected["output_base"]).abs().max() <= 1e-5
