"""`python -m headless`: see `python -m headless --help`."""

import sys

from .cli import main

sys.exit(main())
