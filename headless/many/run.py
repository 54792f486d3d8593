"""One run over a manifest: what is to be made, where it is kept, what has been done."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from .manifest import Manifest, ManifestRow
from .plan import ManifestPlan
from .results import OK, ResultsFolder
from .work import ServerState


@dataclass
class ManifestRun:
    """A run whose folder is open.

    Attributes:
        before: how many edits had their line when it began.
        began: when the first edit did, by the monotonic clock; None as long as none has.
        servers: what each did.
    """

    manifest: Manifest
    plan: ManifestPlan
    results: ResultsFolder
    before: int = field(init=False)
    began: float | None = None
    servers: list[ServerState] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.before = len(self.results.done)

    def begin(self) -> None:
        self.began = time.monotonic()

    @property
    def todo(self) -> Iterator[ManifestRow]:
        return (row for row in self.manifest.rows if row.id not in self.results.done)

    @property
    def total(self) -> int:
        return len(self.manifest.rows)

    def count(self, status: str) -> int:
        return sum(found == status for found in self.results.done.values())

    @property
    def left(self) -> int:
        return self.total - len(self.results.done)

    @property
    def all_made(self) -> bool:
        return self.count(OK) == self.total

    def server(self, name: str) -> ServerState:
        """What is known of a server, from now on."""
        found = next((state for state in self.servers if state.name == name), None)
        if found is None:
            found = ServerState(name)
            self.servers.append(found)
        return found
