"""One routed layer at the model's width, in every way to compute it, against the bare Linear."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from routed_variants import VARIANTS, random_routed
from side_by_side import compare

from ..setting import Setting


def figures(setting: Setting) -> Iterator[dict[str, Any]]:
    setting.start()
    import comfy.ops
    import torch
    from icedit.host.moe_lora.experts import RoutedExperts
    from icedit.moe_lora.layer import has_float32_product

    size, device, dtype = setting.size, setting.device, setting.dtype
    inputs, outputs = 5 * size.hidden, size.hidden
    weights = random_routed(inputs, outputs, size.rank, experts=4)
    with torch.inference_mode():
        ours = RoutedExperts([weights], dtype, has_float32_product(device)).layers[0].to(device)
        bare = comfy.ops.disable_weight_init.Linear(inputs, outputs, dtype=dtype, device=device)
        torch.nn.init.normal_(bare.weight, std=inputs**-0.5)
        torch.nn.init.zeros_(bare.bias)
        ways = {"ours": ours} | {name: partial(variant, ours) for name, variant in VARIANTS.items()}
        yield {"float32_product": ours.down.float32_product}
        for tokens in (size.text_tokens, size.text_tokens + 2 * (size.panel // 16) ** 2):
            x = torch.randn(1, tokens, inputs, dtype=dtype, device=device)
            runs: dict[str, Callable[[], Any]] = {"bare": lambda x=x: bare(x)}
            runs |= {name: lambda way=way, x=x: way(x, bare(x)) for name, way in ways.items()}
            yield {f"{tokens} tokens": compare(runs, 10 * size.rounds, "bare", setting.wait)}
