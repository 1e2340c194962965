"""Experiments, points and planned trials for tests, from the words of a command line."""

from helpers.last_words import last_of

from raybench.config.compose import read
from raybench.planning.expansion import expand
from raybench.planning.plan import order_trials

DEVICES = {"gpu": 4, "cpu": 2}


def expanded(*words, devices=DEVICES):
    """Experiment and points of a command line with simulated engines."""
    request = read(last_of(["experiment=scaling", "engine=simulated", *words])).resolve(devices)
    names = {name for grid in request.experiment.grids for name in grid["model"]}
    identities = {**{name: f"zoo:{name}" for name in names}, "alexnet": "a", "googlenet": "g"}
    return request.experiment, expand(request.experiment, devices, identities)


def planned(*words, devices=DEVICES, isolation="node"):
    """Plan of a command line."""
    return order_trials(*expanded(*words, devices=devices), devices, isolation)
