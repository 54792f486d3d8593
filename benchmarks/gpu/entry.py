"""One entry of the list in run.py, in this process: prints its figures so far as a JSON line whenever it has more."""

import argparse
import importlib
import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))


def main() -> None:
    from gpu.setting import SIZES, NotInThisVersionError, Setting

    parser = argparse.ArgumentParser(prog="entry.py")
    parser.add_argument("entry")
    parser.add_argument("--size", choices=SIZES, default="full")
    options = parser.parse_args()
    name, _, argument = options.entry.partition("_") if options.entry.startswith("memory") else (options.entry, "", "")
    module = importlib.import_module(f"gpu.entries.{name}")
    sys.argv = sys.argv[:1]  # ComfyUI reads it
    with tempfile.TemporaryDirectory() as folder:
        setting = Setting(SIZES[options.size], Path(folder), argument)
        figures = setting.facts()
        try:
            for part in module.figures(setting):
                figures |= part
                print(json.dumps(figures), flush=True)
        except NotInThisVersionError as reason:
            print(json.dumps(figures | {"skipped": str(reason)}), flush=True)


if __name__ == "__main__":
    main()
