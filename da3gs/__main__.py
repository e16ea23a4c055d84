"""``python -m da3gs`` is the command ``da3gs``."""

import sys

from da3gs.cli import main

if __name__ == "__main__":
    sys.exit(main())
