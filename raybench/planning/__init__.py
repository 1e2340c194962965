"""Points become ordered trials, and the scheduler says which may start now. Pure: no Ray."""
