"""What was applied, in a few lines for people."""

from collections.abc import Iterable

from .checkpoint import Adapter
from .layouts import MAGNITUDE, UP


def adapter_report(
    adapter: Adapter, name: str, strength: float, expert_strength: float, top_k: int, routed_bytes: int
) -> str:
    """The lines of the loader's `report` output.

    Args:
        adapter: what the file holds.
        name: the file's name.
        strength, expert_strength, top_k: as set.
        routed_bytes: memory of the experts and routers as they were loaded; 0 when they are not in use.
    """
    plain = sum(key.endswith(UP) for key in adapter.plain)
    total = _millions(adapter.plain_parameters + adapter.routed_parameters)
    if not adapter.routed:
        lines = [
            f"{name}: an ordinary LoRA without experts, loaded as ComfyUI loads any LoRA.",
            f"{plain} layers, {total} parameters.",
            f"strength {strength:g}; expert_strength and top_k play no part.",
        ]
    else:
        experts = _range(layer.experts for layer in adapter.routed)
        rank = _range(layer.rank for layer in adapter.routed)
        memory = f"{routed_bytes / 1e6:.1f} MB in memory" if routed_bytes else "not in use"
        lines = [
            f"{name}: a MoE-LoRA, every one of its {adapter.tensors} tensors is used.",
            f"{len(adapter.routed)} routed layers: {experts} experts of rank {rank}, top_k {top_k}, {memory}.",
            f"{plain} ordinary LoRA layers; {total} parameters, {_millions(adapter.routed_parameters)} of them routed.",
            f"strength {strength:g}, expert_strength {expert_strength:g}.",
            adapter.start.sentence(),
        ]
    lines += adapter_notes(adapter, name)
    if strength == 0:
        lines.append("At strength 0 this is the model as it came in.")
    return "\n".join(lines)


def adapter_notes(adapter: Adapter, name: str) -> list[str]:
    """What is unusual about a file: where its scale comes from, what other loaders drop, what is not loaded here."""
    notes = []
    if adapter.header_alphas:
        notes.append(f"alpha of {adapter.header_alphas} layers from the file's header, which ComfyUI's loader ignores.")
    if (dora := sum(key.endswith(MAGNITUDE) for key in adapter.plain)) > 0:
        notes.append(f"{dora} layers are DoRA, computed as PEFT trains it.")
    if adapter.layout is not None:
        notes.append(f"The file is {adapter.layout.name}.")
    if adapter.embeddings:
        notes.append(
            f"Not used here: the text embeddings in the file ({', '.join(adapter.embeddings)}). They belong to "
            f"the text encoder: put a copy of the file into models/embeddings and write embedding:{_stem(name)} into "
            "the prompt."
        )
    return notes


def _stem(name: str) -> str:
    return name.replace("\\", "/").rpartition("/")[2].rpartition(".")[0]


def _range(values: Iterable[int]) -> str:
    distinct = sorted(set(values))
    return str(distinct[0]) if len(distinct) == 1 else f"{distinct[0]} to {distinct[-1]}"


def _millions(parameters: int) -> str:
    return f"{parameters / 1e6:.1f} M"
