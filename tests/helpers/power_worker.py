"""A process that limits the power of a board as a worker does, until it is ended; run as a script.

Arguments: folder of the locks, UUID, watts, and "first" or "next". It prints a line of JSON with what was read back
or why there is none, then waits for its standard input: at a line it releases the limit and prints what went wrong.
"""

import json
import sys

from raybench.errors import PointError
from raybench.machine import board_power, power_limit
from raybench.machine.devices import Device


def say(facts):
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def main(folder, uuid, watts, place):
    board_power._FOLDER = folder
    device = Device("gpu", "NVIDIA H200", 0, uuid, "0")
    try:
        limit = power_limit.limit(float(watts), device, place == "first")
    except PointError as error:
        say({"error": str(error)})
        return
    say({"watts": limit.watts})
    if sys.stdin.readline():
        say({"wrong": limit.release()})


if __name__ == "__main__":
    main(*sys.argv[1:])
