"""A pynvml whose boards are a file, so that several processes see one driver.

With the folder of this file on PYTHONPATH it is imported as pynvml. The variable FAKE_DRIVER names a file
of JSON: "limits" in mW by UUID, "span" of what can be set, "cap" that the board keeps to whatever is set,
"refuses" with the driver's words for a process that may not set limits, "mig" and "log" of what was set.
"""

import fcntl
import json
import os
from types import SimpleNamespace


class NVMLError(Exception):
    """The driver refuses."""


def _state(change=None):
    with open(os.environ["FAKE_DRIVER"], "r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        state = json.load(file)
        if change is not None:
            change(state)
            file.seek(0)
            file.truncate()
            json.dump(state, file)
            file.flush()
    return state


def nvmlInit():
    """Open the library."""


def nvmlShutdown():
    """Close the library."""


def nvmlDeviceGetCount():
    return len(_state()["limits"])


def nvmlDeviceGetHandleByIndex(index):
    return list(_state()["limits"])[index]


def nvmlDeviceGetHandleByUUID(uuid):
    uuid = uuid.decode() if isinstance(uuid, bytes) else uuid
    if uuid not in _state()["limits"]:
        raise NVMLError("Not Found")
    return uuid


def nvmlDeviceGetUUID(handle):
    return handle


def nvmlDeviceGetName(handle):
    return "NVIDIA H200"


def nvmlDeviceGetPciInfo(handle):
    return SimpleNamespace(busId="00000000:17:00.0")


def nvmlDeviceGetMigMode(handle):
    return [int(_state()["mig"]), 0]


def nvmlDeviceGetMaxMigDeviceCount(handle):
    return 1


def nvmlDeviceGetMigDeviceHandleByIndex(handle, index):
    return f"MIG-{handle}"


def nvmlDeviceGetPowerManagementLimitConstraints(handle):
    span = _state()["span"]
    if span is None:
        raise NVMLError("Not Supported")
    return span


def nvmlDeviceGetPowerManagementLimit(handle):
    return _state()["limits"][handle]


def nvmlDeviceGetEnforcedPowerLimit(handle):
    state = _state()
    return min(state["limits"][handle], state["cap"])


def nvmlDeviceSetPowerManagementLimit(handle, milliwatts):
    state = _state()
    if state["refuses"]:
        raise NVMLError(state["refuses"])
    low, high = state["span"]
    if not low <= milliwatts <= high:
        raise NVMLError("Invalid Argument")

    def change(state):
        state["limits"][handle] = milliwatts
        state["log"].append(milliwatts)

    _state(change)
