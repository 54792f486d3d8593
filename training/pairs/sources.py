"""Which kind of list the pairs' owner has."""

from pathlib import Path

from .folders import read_folders
from .listing import PairListing
from .manifest import SUFFIXES, read_manifest
from .parquet import SUFFIX, read_tables


def read_listing(sources: Path, edited: Path | None, within: Path | None = None, instruction: str = "") -> PairListing:
    """The pairs of two folders, of a list (JSON Lines, JSON, CSV), or of a table or a folder of tables (parquet).

    Raises:
        ValueError: it is none of these.
    """
    if edited is not None:
        for folder in (sources, edited):
            if not folder.is_dir():
                raise ValueError(f"{folder.name!r} is no folder. With an edited folder, both hold pictures.")
        return read_folders(sources, edited, instruction)
    tables = sorted(sources.glob(f"*{SUFFIX}")) if sources.is_dir() else [sources]
    if not tables:
        raise ValueError(
            f"The folder {sources.name!r} holds no {SUFFIX} file. To read pictures, name the edited ones' folder, too."
        )
    if tables[0].suffix.lower() == SUFFIX:
        return read_tables(tables, instruction)
    if sources.suffix.lower() in SUFFIXES:
        return read_manifest(sources, within, instruction)
    kinds = ", ".join((*SUFFIXES, SUFFIX))
    raise ValueError(f"{sources.name!r} is no list of pairs. Expected two folders, or a file ending in {kinds}.")
