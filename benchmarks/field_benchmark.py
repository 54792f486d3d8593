"""The field's own benchmarks with any workflow: `nox -s benchmark -- gedit PATH` (imgedit, magicbrush, pie, emu).

    <python with ComfyUI's packages> benchmarks/field_benchmark.py gedit PATH [--server URL ...] [--workflow FILE] ...

Its arguments may come from ICEDIT_ARGUMENTS, a JSON list: task runners print the commands that they run.
"""

import json
import os
import sys

from in_process import load_pack


def main() -> int:
    load_pack()
    from icedit.benchmarks.field.command import main as run

    given = os.environ.pop("ICEDIT_ARGUMENTS", None)
    return run(sys.argv[1:] if given is None or sys.argv[1:] else json.loads(given))


if __name__ == "__main__":
    sys.exit(main())
