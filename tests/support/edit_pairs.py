"""Pairs of pictures on disk."""

from pathlib import Path

from PIL import Image


def write_pairs(folder: Path, count: int = 4, instruction: str = "make it red\ncolour it red") -> tuple[Path, Path]:
    """The folders `before` and `after` with noise of 64 x 64 pixels, and a text beside each edited picture."""
    for place, strength in (("before", 40), ("after", 80)):
        (folder / place).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            noise = Image.effect_noise((64, 64), strength + number).convert("RGB")
            noise.save(folder / place / f"{number}.png")
    for number in range(count):
        (folder / "after" / f"{number}.txt").write_text(instruction)
    return folder / "before", folder / "after"
