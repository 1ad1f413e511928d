"""What a guarded call leaves behind: the safety log, OpenTelemetry, Prometheus."""
