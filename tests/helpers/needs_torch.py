"""Skip what needs PyTorch where it is not installed, with the reason."""

from importlib.util import find_spec

import pytest

REASON = "torch is not installed: make test EXTRAS=dev,docs,torch installs it"
needs_torch = pytest.mark.skipif(find_spec("torch") is None, reason=REASON)
