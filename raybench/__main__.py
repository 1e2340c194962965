"""Runs the command line: `python -m raybench` is the same program as `raybench`."""

import sys

from raybench.cli.main import main

sys.exit(main())
