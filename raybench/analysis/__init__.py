"""What rows mean: answers as plain dataclasses, each with `as_table()` for an Arrow table.

    scaling.scaling(trials, workers)    throughput over workers, its law, what bounds it
    precision.precision(trials)         gain over fp32 beside fidelity
    batch.batch(trials)                 curve over the batch, knee, memory end
    generation.generation(trials)       devices, clusters or engines side by side
    efficiency.efficiency(trials)       share of peak, energy, cost
    compare.compare(a, b)               what became faster or slower between two sets of rows
    paper.paper(trials)                 the 2017 study's figures and findings

`trials` is the table that `raybench.load` gives. Every answer names what could not be said.
"""
