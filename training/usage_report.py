"""Which expert worked where, in words and figures."""

import math

from torch import Tensor

from .usage import AdapterUsage, LayerUsage, RunUsage

EXPLAINED = (
    "evenness: 1 when all experts of a layer work equally often, 0 when one does everything. panel and step: how much "
    "the expert says about the panel of the picture and about the step, in bits; 0 is nothing, and two panels can give "
    "1 at most. They describe this run: whether experts differ by kind of edit shows over many edits only."
)


def usage_report(usage: RunUsage) -> str:
    """Lines for people: each adapter with its layers."""
    parts = []
    for number, adapter in enumerate(usage.adapters, start=1):
        title = f"MoE-LoRA {number} of {len(usage.adapters)}: " if len(usage.adapters) > 1 else ""
        parts += _adapter(adapter, usage.steps, title)
    return "\n".join([*parts, EXPLAINED])


def _adapter(adapter: AdapterUsage, steps: int, title: str) -> list[str]:
    layers = adapter.layers
    experts = max(layer.experts for layer in layers)
    even, panel, step = (
        sum(values) / len(layers)
        for values in (
            [layer.evenness for layer in layers],
            [layer.panel_bits for layer in layers],
            [layer.step_bits for layer in layers],
        )
    )
    lines = [
        f"{title}{len(layers)} routed layers, {experts} experts, top_k {adapter.top_k}, {steps} steps.",
        adapter.start,
        f"On average: evenness {even:.2f}, panel {panel:.3f} bits, step {step:.3f} bits. {_idle(layers)}",
        f"{'layer':<28} {'shares of the experts':<{6 * experts}} evenness  panel   step",
    ]
    for layer in layers:
        shares = _percent(layer.shares).ljust(6 * experts)
        lines.append(f"{layer.path:<28} {shares} {layer.evenness:8.2f} {layer.panel_bits:6.3f} {layer.step_bits:6.3f}")
    return lines


def _idle(layers: tuple[LayerUsage, ...]) -> str:
    count = sum(int((layer.shares < 0.01).sum()) for layer in layers)
    whole = sum(layer.experts for layer in layers)
    return f"{count} of {whole} experts got less than 1 % of their layer's tokens."


def _percent(shares: Tensor) -> str:
    return "".join(f"{math.floor(100 * float(share) + 0.5):>4} %" for share in shares)
