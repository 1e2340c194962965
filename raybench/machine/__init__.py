"""WHERE: devices and their identity, telemetry, the environment."""
