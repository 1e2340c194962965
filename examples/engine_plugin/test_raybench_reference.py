"""The engine does what raybench asks of every engine."""

from raybench_reference import ReferenceEngine

from raybench.engines import conformance


def test_the_engine_conforms(tmp_path):
    conformance.check_engine(ReferenceEngine, tmp_path)
