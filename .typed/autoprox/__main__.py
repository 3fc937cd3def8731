"""Makes `python -m autoprox` the same as `autoprox`."""

import sys

from autoprox.cli import main

if __name__ == "__main__":
    sys.exit(main())
