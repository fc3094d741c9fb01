"""`python -m kdsl`: the command line of `kdsl.cli`."""

import sys

from kdsl.cli import main

sys.exit(main())
