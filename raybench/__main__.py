"""`python -m raybench`: the same program as the command raybench."""

import sys

from raybench.cli.main import main

sys.exit(main())
