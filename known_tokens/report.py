"""What a sampling run with reused tokens took, in words."""

from collections.abc import Sequence
from dataclasses import dataclass, field

MEGABYTE = 10**6

NOTHING_KNOWN = (
    "Nothing is known here, so every step is computed in full: the latent has no noise mask that keeps anything. "
    "Diptych Conditioning (ICEdit) gives one, Set Latent Noise Mask too."
)
BESIDE_CACHE = (
    "Every step runs as without this node: step caches of other packs put their own code in the place of FLUX's, which "
    "may not leave out tokens. Remove that cache, or this node."
)
UNCOMPILED = "The model ran uncompiled. With refresh_every 1 it stays compiled, and skip_steps still leaves steps out."
NOTHING_OPEN = "The noise mask keeps the whole picture, so nothing is left out."


@dataclass
class ReuseTally:
    """Counts the evaluations of one run.

    Attributes:
        work: what they took, in evaluations in full.
        share: of the tokens those that the last short one computed.
        as_without: evaluations that ran as without us, and why the last one did.
    """

    full: int = 0
    short: int = 0
    left_out: int = 0
    work: float = 0.0
    share: float = 1.0
    as_without: int = 0
    reason: str = ""
    nbytes: int = 0
    in_ram: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def evaluations(self) -> int:
        return self.full + self.short + self.left_out

    def add(self, shares: Sequence[float], foreign: str | None) -> float:
        """One more evaluation, with the share of tokens that each of its calls computed; returns its work."""
        work = sum(shares) / len(shares) if shares else 0.0
        if foreign:
            self.as_without, self.reason = self.as_without + 1, foreign
        if work == 0:
            self.left_out += 1
        elif max(shares) < 1:
            self.short, self.share = self.short + 1, max(shares)
        else:
            self.full += 1
        self.work += work
        return work

    def text(self) -> str:
        """For the user."""
        short = f"{self.short} short ones with {self.share:.0%} of the tokens"
        work = f"the work of {self.work:.1f} instead of {self.evaluations}"
        lines = [f"{self.full} evaluations of the model in full, {short}, {self.left_out} left out: {work}."]
        if self.nbytes:
            where = "in RAM, as there is no room on the GPU" if self.in_ram else "beside the model"
            megabytes = self.nbytes / MEGABYTE
            lines.append(f"{megabytes:.{0 if megabytes >= 10 else 1}f} MB were kept {where}.")
        if self.as_without:
            lines.append(
                f"{self.as_without} evaluations ran as without this node, because another one changes what happens "
                f"inside the model ({self.reason})."
            )
        return " ".join([*lines, *self.notes])
