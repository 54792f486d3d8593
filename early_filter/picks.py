"""What a user writes, or the page for them, to pick candidates: `8`, `#2`, or in a batch `8, ?, 10`."""

import re
from dataclasses import dataclass
from typing import Literal

from .plan import SEEDS, Plan

Choose = Literal["judge", "me"]

NONE_YET = "?"
"""Stands for a picture of a batch that nothing is picked for yet."""

INPUTS = " of "
"""Stands between the seeds and a digest of what the node was given when they were picked."""


@dataclass(frozen=True)
class Picks:
    """The picked seed of each picture, None for one without a pick.

    Attributes:
        stale: seeds that were picked for other inputs, so they count no longer.
    """

    seeds: tuple[int | None, ...]
    stale: tuple[int, ...] = ()

    @property
    def complete(self) -> bool:
        return None not in self.seeds

    @property
    def missing(self) -> tuple[int, ...]:
        """The pictures without a pick, counted from 1."""
        return tuple(number for number, seed in enumerate(self.seeds, start=1) if seed is None)


def read_picks(text: str, plan: Plan, pictures: int, inputs: str | None) -> Picks:
    """Read picks: a seed, or `#` and which of the plan's candidates, counted from 1; one for all pictures, or for each
    one of its own.

    Args:
        inputs: digest of what the node is given now, None where that is not known. Picks that name another one were
            made among other candidates.

    Raises:
        ValueError: the text cannot be read, or there are more or fewer picks than pictures.
    """
    written, _, digest = text.partition(INPUTS)
    if not written.strip():
        return Picks((None,) * pictures)
    seeds = tuple(_seed(entry.strip(), plan, text) for entry in written.split(","))
    if len(seeds) not in (1, pictures):
        raise ValueError(
            f"picked names {len(seeds)} candidates ({text!r}), and latent_image holds {pictures} pictures. Write one "
            f"seed for all of them, or one for each, with commas between; {NONE_YET} for a picture without a pick."
        )
    if digest and inputs and digest.strip() != inputs:
        return Picks((None,) * pictures, tuple(seed for seed in dict.fromkeys(seeds) if seed is not None))
    return Picks(seeds * pictures if len(seeds) == 1 else seeds)


def _seed(entry: str, plan: Plan, text: str) -> int | None:
    if entry in (NONE_YET, ""):
        return None
    if number := re.fullmatch(r"#\s*(\d+)", entry):
        place = int(number[1])
        if not 1 <= place <= plan.candidates:
            raise ValueError(f"picked is {text!r}, but there are only the candidates #1 to #{plan.candidates}.")
        return plan.seeds[place - 1]
    if re.fullmatch(r"\d+", entry) and int(entry) < SEEDS:
        return int(entry)
    raise ValueError(
        f"picked is {text!r}, expected a candidate's seed (such as 8), its number (such as #2), or nothing to see the "
        "candidates."
    )
