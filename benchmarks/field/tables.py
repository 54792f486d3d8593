"""Tables with pictures inside, as the data sets' hub publishes them: parquet and arrow files."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .edit import BenchmarkError, Faults

SUFFIXES = (".parquet", ".arrow")
BATCH = 32
"""Rows at a time: each holds pictures."""

TableRow = tuple[str, Path, dict[str, Any]]
"""Where a row stands, the file that it is in, and its values."""


def table_files(path: Path) -> list[Path]:
    """The tables of a folder and of those in it, or the one file.

    Raises:
        BenchmarkError: there is none.
    """
    found = [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.suffix in SUFFIXES)
    found = [one for one in found if one.suffix in SUFFIXES]
    if not found:
        raise BenchmarkError(f"{path} has no {' or '.join(SUFFIXES)} file: name the folder of the data set's files.")
    return found


def table_rows(files: Sequence[Path], columns: Sequence[str], faults: Faults) -> Iterator[TableRow]:
    """The rows of all files, with the columns that there are of those named. Files that cannot be read are faults.

    Raises:
        BenchmarkError: no file has all the columns, or pyarrow is missing.
    """
    try:
        # Not at the top: it is a large package, which not every benchmark needs.
        import pyarrow
    except ImportError as error:
        raise BenchmarkError("Reading this benchmark takes the package pyarrow: pip install pyarrow") from error
    usable = False
    for file in files:
        number = 0
        try:
            for batch in _batches(file):
                missing = [name for name in columns if name not in batch.schema.names]
                if missing:
                    faults.add(file.name, f"has no column {', '.join(missing)}")
                    break
                usable = True
                for start in range(0, batch.num_rows, BATCH):
                    for row in batch.slice(start, BATCH).to_pylist():
                        number += 1
                        yield f"{file.name} row {number}", file, row
        except (pyarrow.ArrowException, OSError) as error:
            faults.add(f"{file.name} after row {number}", f"cannot be read ({type(error).__name__})")
    if not usable:
        raise BenchmarkError(f"No table has the columns {', '.join(columns)}. " + " ".join(faults.lines()))


def _batches(file: Path) -> Iterator[Any]:
    import pyarrow
    from pyarrow import ipc, parquet

    if file.suffix == ".parquet":
        with parquet.ParquetFile(file) as table:
            yield from table.iter_batches(batch_size=BATCH)
        return
    with pyarrow.memory_map(str(file)) as content:
        # Both forms have the same name: what the library saves is a stream, what others export a file.
        try:
            reader = ipc.open_stream(content)
        except pyarrow.ArrowInvalid:
            reader = ipc.open_file(content)
            for index in range(reader.num_record_batches):
                yield reader.get_batch(index)
        else:
            yield from reader
