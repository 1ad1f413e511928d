"""Reports of guarded calls: the safety log, OpenTelemetry, Prometheus."""
