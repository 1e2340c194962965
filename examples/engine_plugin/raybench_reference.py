"""An engine for raybench: ONNX's own reference implementation, which is slow and easy to read."""

from onnx.reference import ReferenceEvaluator

from raybench.engines.base import EngineBase


class ReferenceEngine(EngineBase):
    @classmethod
    def load(cls, load):
        """Load the model; its inputs are in `load.batches`."""
        engine = cls()
        engine.batches = load.batches
        engine.session = ReferenceEvaluator(str(load.model.path))
        engine.computed = {}
        return engine

    def submit(self, sequence):
        """Start batch number `sequence`: an engine that works at once computes it here."""
        batch = self.batches.batch(sequence % self.batches.count)
        self.computed[sequence] = self.session.run(None, batch)

    def collect(self, sequence):
        """Wait for batch number `sequence`."""
        self.last = self.computed.pop(sequence)

    def outputs(self):
        """Return the outputs of the batch that was collected last, by name."""
        return dict(zip(self.session.output_names, self.last, strict=True))

    def close(self):
        """Free what the engine holds."""
        self.session = None
