"""Reports of guarded calls: the safety log, OpenTelemetry, LangSmith, Langfuse, Prometheus."""
