"""Two folders of pictures with the same names, the instructions in text files beside the edited ones."""

from collections.abc import Callable
from pathlib import Path

from .listing import Found, ListedPair, PairListing, PairProblem, PictureFile, ProblemKind, cleaned

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".heic", ".heif", ".avif")
TEXT = ".txt"


def read_folders(sources: Path, edited: Path, instruction: str = "") -> PairListing:
    """The pairs of two folders. Every line of a text file is an instruction.

    Args:
        instruction: for the pictures without a text file.

    Raises:
        ValueError: there is no picture in one of them.
    """
    before, after = _by_name(sources, _is_picture), _by_name(edited, _is_picture)
    for folder, found in ((sources, before), (edited, after)):
        if not found:
            raise ValueError(f"There is no picture in the folder {folder.name!r}. Its subfolders are not read.")
    texts = _by_name(edited, lambda path: path.suffix.lower() == TEXT)
    rows, problems = [], []
    for name in sorted({*before, *after, *texts}):
        found = _row(name, before.get(name, []), after.get(name, []), texts.get(name, []), instruction)
        (problems if isinstance(found, PairProblem) else rows).append(found)
    return PairListing(tuple(rows), tuple(problems))


def _row(name: str, before: list[Path], after: list[Path], texts: list[Path], instruction: str) -> Found:
    if not before:
        return PairProblem(ProblemKind.NO_SOURCE, (after or texts)[0].name)
    if not after:
        return PairProblem(ProblemKind.NO_EDITED, before[0].name)
    for files in (before, after, texts):
        if len(files) > 1:
            return PairProblem(ProblemKind.SAME_NAME, " and ".join(file.name for file in files))
    try:
        lines = texts[0].read_text(encoding="utf-8-sig").splitlines() if texts else [instruction]
    except (OSError, UnicodeDecodeError) as error:
        return PairProblem(ProblemKind.BAD_TEXT, texts[0].name, _reason(error))
    instructions = cleaned(lines)
    if not instructions:
        return PairProblem(
            ProblemKind.NO_TEXT, name, f"{texts[0].name} is empty" if texts else f"no {name}{TEXT} beside it"
        )
    return ListedPair(name, _file(before[0]), _file(after[0]), instructions)


def _reason(error: OSError | UnicodeDecodeError) -> str:
    return "save it as UTF-8" if isinstance(error, UnicodeDecodeError) else error.strerror or str(error)


def _file(path: Path) -> PictureFile:
    # The folder's name tells the two pictures of a pair apart.
    return PictureFile(path, f"{path.parent.name}/{path.name}")


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in PICTURES


def _by_name(folder: Path, wanted: Callable[[Path], bool]) -> dict[str, list[Path]]:
    """The name without its suffix -> the files of that name."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        # Programs of macOS put files with a dot before the name beside the pictures on foreign disks.
        if wanted(path) and path.is_file() and not path.name.startswith("."):
            found.setdefault(path.stem, []).append(path)
    return found
