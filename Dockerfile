# Serves the shipped reference model by default. For another model, pass arguments:
#   docker run -p 8000:8000 -e SMOOTHGUARD_API_KEY -e OPENAI_API_KEY IMAGE --model openai:gpt-4o
# .github/workflows/deploy.yml builds it and asks it. deploy/compose.yaml runs it next to Prometheus and Grafana.
FROM python:3.12-slim

ENV PIP_NO_CACHE_DIR=1 PYTHONUNBUFFERED=1
WORKDIR /app
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY smoothguard_guardrail smoothguard_guardrail
# For an image without CUDA, pass the index of PyTorch's CPU builds: --build-arg PIP_EXTRA_INDEX_URL=...
ARG PIP_EXTRA_INDEX_URL
RUN pip install -c constraints.txt ".[serve,langserve,media]" langchain-openai langchain-anthropic && useradd --create-home --uid 1000 guard && install --directory --owner guard /log
USER 1000

EXPOSE 8000
HEALTHCHECK --interval=10s --start-period=60s CMD ["python", "-c", \
    "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz', timeout=3)"]
# Exec form, so that SIGTERM reaches the server and running requests can finish.
ENTRYPOINT ["smoothguard", "serve", "--host", "0.0.0.0"]
