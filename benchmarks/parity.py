"""Compare da3gs with stored numbers of the official code: ``python -m benchmarks.parity FILES.npz...``."""

import sys

from tests.parity.command import main

if __name__ == "__main__":
    sys.exit(main())
