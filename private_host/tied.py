"""`python tied.py PROGRAM ARGUMENTS`: run a Python program that ends with the process that started it.

That one holds the other end of the standard input. A process that is killed cannot stop what it started, and a ComfyUI
that nobody needs would keep its GPU.
"""

import os
import runpy
import sys
import threading
from pathlib import Path


def main() -> None:
    tie = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    # The program, and what it starts, has no input.
    os.dup2(nothing, 0)
    os.close(nothing)
    threading.Thread(target=_end_with, args=(tie,), daemon=True).start()
    del sys.argv[0]
    # As Python does it for the program itself. The portable Windows download's starts without its script's folder.
    if Path(sys.path[0]) == Path(__file__).parent:
        del sys.path[0]
    sys.path.insert(0, str(Path(sys.argv[0]).parent))
    runpy.run_path(sys.argv[0], run_name="__main__")


def _end_with(tie: int) -> None:
    while os.read(tie, 1024):
        pass
    os._exit(1)


if __name__ == "__main__":
    main()
