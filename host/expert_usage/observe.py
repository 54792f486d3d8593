"""A run of KSampler during which the experts of the model's MoE-LoRAs are watched."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor

from ...moe_lora.random_start import router_start
from ...moe_lora.routed import adapter_identity
from ...training.usage import AdapterUsage, LayerTally, RunUsage
from ..routing import MOE_LORA_KEY, OBSERVER_KEY, ModelCall, Observe
from ..sampling import Process, Progress, as_output, latent_rows, run_guider

SAME_SIGMA = 1 - 1e-6


def observable(model: Any) -> Any:
    """A clone of the model for `observed_run`.

    Raises:
        ValueError: there is no MoE-LoRA on the model.
    """
    if not any(key.startswith(MOE_LORA_KEY) for key in model.additional_models):
        raise ValueError(
            "There is no MoE-LoRA on this model, expected one whose experts can be watched. Put Load MoE-LoRA with a "
            "file that has experts, and strengths other than 0, between the model and this node."
        )
    return model.clone()


def observed_run(process: Process, latent: Mapping[str, Any], seed: int) -> tuple[RunUsage, dict[str, Any]]:
    """What the experts did while a LATENT was sampled as KSampler does it, and the LATENT that came out.

    Args:
        process: of a model from `observable`, which is spent afterwards.
        latent: KSampler's latent_image.
        seed: KSampler's.

    Raises:
        ValueError: nothing could be watched.
    """
    recorder = _Recorder(process.sigmas)
    rows = latent_rows(process.model, latent)
    progress = Progress(process.model, process.steps)
    options = process.guider.model_options.setdefault("transformer_options", {})
    options[OBSERVER_KEY] = recorder
    try:
        samples = run_guider(
            process.guider,
            torch.cat([row.noise(seed) for row in rows]),
            torch.cat([row.samples for row in rows]),
            process.sampler,
            process.sigmas,
            denoise_mask=latent.get("noise_mask"),
            callback=lambda _step, x0, x, _total: progress.step(x0, x),
            disable_pbar=True,
            seed=seed,
        )
    finally:
        del options[OBSERVER_KEY]
        recorder.kept.clear()
    return recorder.usage(process.steps), as_output(latent, process.cast(samples))


@dataclass(frozen=True, eq=False)
class _Recorder:
    """Counts what goes through the routed layers; a `RoutingObserver`."""

    sigmas: Tensor
    experts: dict[str, Any] = field(default_factory=dict)
    top_k: dict[str, int] = field(default_factory=dict)
    tallies: dict[tuple[str, str], LayerTally] = field(default_factory=dict)
    kept: dict[Any, dict[str, Any]] = field(default_factory=dict)
    calls: list[ModelCall] = field(default_factory=list)
    """The one that runs now, alone."""

    def begin(self, call: ModelCall) -> None:
        self.calls[:] = [call]

    def watch(self, adapter: str, experts: Any, path: str, top_k: int) -> Observe:
        self.experts[adapter], self.top_k[adapter] = experts, top_k
        layer, size = experts.layers[experts.paths.index(path)], (self.calls[0].height, self.calls[0].width)
        tally = LayerTally(path, layer.rank, layer.experts, len(self.sigmas) - 1, *size)
        tally = self.tallies.setdefault((adapter, path), tally)

        def observe(hidden: Tensor, weights: Tensor) -> None:
            (call,) = self.calls
            rows = list(call.positive)
            if rows and len(weights) > max(rows):
                words = call.words if path.startswith("single_blocks.") else 0
                tally.add(hidden[rows], weights[rows], self._step(call.sigma), words)

        # A compiled model calls it between its compiled parts.
        return cast("Observe", torch.compiler.disable(observe))

    def _step(self, sigma: float) -> int:
        """The step of the schedule that an evaluation at this noise belongs to."""
        begun = sum(float(other) >= sigma * SAME_SIGMA for other in self.sigmas[1:])
        return min(begun, len(self.sigmas) - 2)

    def usage(self, steps: int) -> RunUsage:
        adapters = []
        for key, experts in self.experts.items():
            paths = sorted((path for path in experts.paths if (key, path) in self.tallies), key=_place)
            tallies = [self.tallies[key, path] for path in paths]
            layers = tuple(tally.finished() for tally in tallies if tally.placed)
            if layers:
                start = router_start([weights.router for weights in experts.weights]).sentence()
                adapters.append(AdapterUsage(adapter_identity(experts.weights), start, self.top_k[key], layers))
        if not adapters:
            raise ValueError(
                "No expert was seen at work, so there is nothing to show: the model computed no step, or only some of "
                "its tokens. Set steps to 1 or more, and leave out nodes that make the model skip tokens."
            )
        return RunUsage(tuple(adapters), steps)


def _place(path: str) -> tuple[str, int]:
    """Of a layer in the model: double blocks come before single ones."""
    kind, number, *_ = path.split(".")
    return kind, int(number)
