"""What rows mean: answers as dataclasses, each with `as_table()` for an Arrow table.

    scaling.scaling(trials, workers)      throughput over workers, its law, what bounds it
    precision.precision(trials, layers)   gain over fp32, fidelity, why a precision is slower
    batch.batch(trials)                   curve over the batch, knee, memory end
    devices.generation(trials)            devices, clusters or engines side by side
    efficiency.efficiency(trials)         share of peak, energy, cost
    repeatability.repeats(trials)         how well trials repeat
    compare.compare(a, b)                 what became faster or slower between two sets of rows
    study2017.figures.paper(trials)       the 2017 study's figures and findings

`trials` is the table that `raybench.load` returns. A value with a confidence interval is an
`estimate.Estimate`. Every answer lists what could not be said.
"""
