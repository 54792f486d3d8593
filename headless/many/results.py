"""The folder of results: pictures, and a line for each edit in results.jsonl. What has its line is never lost."""

import hashlib
import json
import logging
import shutil
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ..batch import OutputError
from ..errors import ManifestError
from .durable_files import append_whole, sync_folder, write_whole
from .fingerprint import FINGERPRINT, ManifestFingerprint, is_taken_up
from .manifest import ManifestRow

log = logging.getLogger(__name__)

LINES = "results.jsonl"
UNFINISHED = ".unfinished"
LOCK = ".lock"
OK, FAILED = "ok", "failed"


@dataclass(frozen=True)
class MadePicture:
    """An edit's picture as a server made it, and how.

    Args:
        suffix: of its file, as ".png".
        score: the judge's for the picture, where the workflow asks one.
        seconds: that the server worked on it.
    """

    content: bytes
    suffix: str
    seed: int | None
    score: float | None
    seconds: float | None
    server: str


@dataclass(frozen=True)
class ResultLine:
    """What results.jsonl says of one edit."""

    id: str
    status: str
    file: str | None = None
    sha256: str | None = None
    seed: int | None = None
    score: float | None = None
    seconds: float | None = None
    server: str | None = None
    error: str | None = None

    def to_json(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False)


class ResultsFolder:
    """Written by one process; its methods may be called by several threads.

    Attributes:
        done: id -> status of every edit that has its line.
    """

    def __init__(self, folder: Path, done: dict[str, str]) -> None:
        self.folder = folder
        self.done = done
        self._writing, self._queueing = threading.Lock(), threading.Lock()
        self._broken = False
        self._waiting: list[tuple[ResultLine, Path | None]] = []

    def keep_picture(self, row: ManifestRow, made: MadePicture) -> None:
        """Save a picture, then its line.

        Raises:
            OutputError: nothing can be saved any more.
        """
        target = self.folder / f"{row.target}{made.suffix}"
        with _refusing(self.folder):
            write_whole(target, made.content, self.folder / UNFINISHED)
        digest = hashlib.sha256(made.content).hexdigest()
        place = target.relative_to(self.folder).as_posix()
        line = ResultLine(row.id, OK, place, digest, made.seed, made.score, made.seconds, made.server)
        self._add(line, target.parent)

    def keep_failure(self, row: ManifestRow, error: str, server: str | None) -> None:
        """Save the line of an edit that failed.

        Raises:
            OutputError: nothing can be saved any more.
        """
        self._add(ResultLine(row.id, FAILED, seed=row.seed, server=server, error=error), None)

    def _add(self, line: ResultLine, folder: Path | None) -> None:
        """Returns when the line is on the disk. Those that wait here meanwhile are written together by the next."""
        with self._queueing:
            self._waiting.append((line, folder))
        with self._writing:
            with self._queueing:
                waiting, self._waiting = self._waiting, []
            if self._broken:
                raise OutputError(f"Results could not be saved in {self.folder} any more.")
            if not waiting:
                return
            self._broken = True
            with _refusing(self.folder):
                for place in {folder for _, folder in waiting if folder is not None}:
                    sync_folder(place)
                append_whole(self.folder / LINES, "".join(f"{line.to_json()}\n" for line, _ in waiting))
            self.done.update((line.id, line.status) for line, _ in waiting)
            self._broken = False


@contextmanager
def opened_results(
    folder: Path, fingerprint: ManifestFingerprint, rows: Sequence[ManifestRow], retry_failed: bool
) -> Iterator[ResultsFolder]:
    """The folder of a run that begins, or that is taken up.

    Args:
        retry_failed: forget the edits that failed, so that they are tried again.

    Raises:
        ManifestError: it belongs to another run, or one is writing into it, or it has files that would be replaced.
        OutputError: nothing can be written into it.
    """
    with _refusing(folder), suppress(FileExistsError):
        folder.mkdir(parents=True)
    lock = FileLock(folder / LOCK)
    try:
        with _refusing(folder):
            lock.acquire(timeout=0)
    except Timeout as error:
        reason = f"Another run is writing into {folder}. Wait for its end, or name another folder."
        raise ManifestError(reason) from error
    try:
        if not is_taken_up(folder, fingerprint):
            _refuse_to_replace(folder, rows)
        with _refusing(folder):
            shutil.rmtree(folder / UNFINISHED, ignore_errors=True)
            (folder / UNFINISHED).mkdir(exist_ok=True)
            write_whole(folder / FINGERPRINT, json.dumps(fingerprint, indent=1).encode(), folder / UNFINISHED)
            done = _repaired(folder, retry_failed)
        yield ResultsFolder(folder, done)
        with suppress(OSError):
            (folder / UNFINISHED).rmdir()
    finally:
        lock.release()


def _refuse_to_replace(folder: Path, rows: Iterable[ManifestRow]) -> None:
    """Before the first edit of a run: what is there already was made by something else."""
    names = [LINES, *(f"{row.target}.png" for row in rows)]
    found = [name for name in names if (folder / name).exists()]
    if found:
        listed = ", ".join(found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")
        raise ManifestError(
            f"{folder} has files that this run would replace: {listed}. Name another folder with --output."
        )


def _repaired(folder: Path, retry_failed: bool) -> dict[str, str]:
    """Status by id of the lines that count; the file is rewritten without those that do not."""
    path = folder / LINES
    done: dict[str, str] = {}
    lines: dict[str, bytes] = {}
    content = path.read_bytes() if path.exists() else b""
    for text in content.splitlines(keepends=True):
        found = _line(text)
        # A process that was killed leaves the beginning of a line.
        if found is None or not text.endswith(b"\n") or (retry_failed and found["status"] != OK):
            continue
        if found["status"] == OK and not (folder / str(found.get("file"))).is_file():
            log.warning("The picture of %r is gone and is made again.", found["id"])
            lines.pop(found["id"], None)
            continue
        lines[found["id"]] = text
        done[found["id"]] = found["status"]
    kept = b"".join(lines.values())
    if kept != content:
        write_whole(path, kept, folder / UNFINISHED)
        sync_folder(folder)
    return {name: done[name] for name in lines}


def _line(text: bytes) -> Mapping[str, Any] | None:
    try:
        found = json.loads(text)
    except ValueError:
        return None
    usable = isinstance(found, dict) and isinstance(found.get("id"), str) and found.get("status") in (OK, FAILED)
    return found if usable else None


@contextmanager
def _refusing(folder: Path) -> Iterator[None]:
    try:
        yield
    except Timeout:
        raise
    except OSError as error:
        raise OutputError(
            f"Results cannot be saved in {folder}: {error.strerror or error}. What has its line in {LINES} is kept; "
            "make room or name a folder that you may write into, and run the same command again."
        ) from error
