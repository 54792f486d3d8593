"""What is kept of a user's candidates between two runs: recorded steps, previews and finished pictures, in RAM."""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from .outcome import Finished
from .same_inputs import SeenInputs
from .stored_preview import Preview


class HasBytes(Protocol):
    @property
    def nbytes(self) -> int: ...


@dataclass(frozen=True)
class KeepLimits:
    """How much is kept at most of all nodes together.

    A candidate of 1024 x 512 pixels takes about 4 MB after four steps.
    """

    candidates: int = 128
    nbytes: int = 512 * 2**20


@dataclass(frozen=True)
class KeptCandidate:
    """A candidate as it was seen after `step` steps, and finished where it was picked."""

    step: int
    preview: Preview
    finished: Finished[Tensor] | None = None


@dataclass
class KeptPicture:
    """All candidates of one picture by seed, and what the sampler of each of its rows recorded; `shown` are the seeds
    that the user saw last, in order."""

    recordings: tuple[dict[int, Any], ...]
    candidates: dict[int, KeptCandidate] = field(default_factory=dict)
    shown: tuple[int, ...] = ()

    @property
    def seeds(self) -> list[int]:
        """Those of which anything is kept, the one that was used longest ago first."""
        unseen = [seed for row in self.recordings for seed in row if seed not in self.candidates]
        return [*dict.fromkeys(unseen), *self.candidates]

    def keep(self, seed: int, candidate: KeptCandidate) -> None:
        """Keep it as the one that was used last."""
        self.candidates.pop(seed, None)
        self.candidates[seed] = candidate

    def drop(self, seed: int) -> None:
        """Nothing is kept of this seed any more."""
        self.candidates.pop(seed, None)
        self.drop_recording(seed)

    def drop_recording(self, seed: int) -> None:
        """Its steps cannot be gone on from any more."""
        for row in self.recordings:
            row.pop(seed, None)

    def nbytes(self, seed: int) -> int:
        """What is kept of this seed."""
        recordings: list[HasBytes] = [row[seed] for row in self.recordings if seed in row]
        size = sum(recording.nbytes for recording in recordings)
        if (candidate := self.candidates.get(seed)) is not None:
            size += candidate.preview.picture.nbytes
            size += candidate.finished.result.nbytes if candidate.finished else 0
        return size


@dataclass
class KeptRun:
    """What is kept of one node for the inputs that it had last; `mark` tells it from others of its owner."""

    inputs: SeenInputs
    pictures: tuple[KeptPicture, ...]
    mark: object


class KeptRuns:
    """What is kept of all nodes, each under its owner's key. A node that gets other inputs loses what was kept of it,
    and so does one whose inputs are no longer in memory."""

    def __init__(self, limits: KeepLimits | None = None) -> None:
        self._limits = limits or KeepLimits()
        self._runs: dict[Hashable, KeptRun] = {}

    def of(self, owner: Hashable, inputs: Any, rows: Sequence[int]) -> KeptRun:
        """What is kept for these inputs; a new, empty one where that is nothing. `rows` has each picture's number of
        rows."""
        run = self._runs.pop(owner, None)
        if run is None or not run.inputs.same(inputs):
            run = self._new(owner, inputs, rows)
        self._runs[owner] = run
        return run

    def _new(self, owner: Hashable, inputs: Any, rows: Sequence[int]) -> KeptRun:
        # A reference to the run itself would be one to what it keeps, from a callback that it holds.
        mark = object()

        def when_gone() -> None:
            run = self._runs.get(owner)
            if run is not None and run.mark is mark:
                del self._runs[owner]

        pictures = tuple(KeptPicture(tuple({} for _ in range(count))) for count in rows)
        return KeptRun(SeenInputs(inputs, when_gone), pictures, mark)

    def trim(self) -> None:
        """Drop what was used longest ago until the limits are kept."""
        held = [(picture, seed, picture.nbytes(seed)) for picture, seed in self._held()]
        count, size = len(held), sum(nbytes for _, _, nbytes in held)
        for picture, seed, nbytes in held:
            if count <= self._limits.candidates and size <= self._limits.nbytes:
                return
            picture.drop(seed)
            count, size = count - 1, size - nbytes

    def clear(self) -> None:
        """Drop everything."""
        self._runs.clear()

    @property
    def count(self) -> int:
        """Of how many candidates anything is kept."""
        return sum(1 for _ in self._held())

    @property
    def nbytes(self) -> int:
        return sum(picture.nbytes(seed) for picture, seed in self._held())

    def _held(self) -> Iterator[tuple[KeptPicture, int]]:
        for run in list(self._runs.values()):
            yield from ((picture, seed) for picture in run.pictures for seed in picture.seeds)
