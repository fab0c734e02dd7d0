# The builder trains and installs; the runtime holds what serving needs and nothing else.
FROM python:3.13-slim AS builder
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /app

COPY requirements-serve.txt requirements.txt ./
RUN python -m venv --without-pip /opt/serve \
    && pip --python /opt/serve/bin/python install --no-compile --require-hashes \
        -r requirements-serve.txt \
    && pip install --require-hashes -r requirements.txt

COPY iris_api iris_api
COPY train.py wsgi.py gunicorn.conf.py ./
RUN python train.py \
    && rm train.py requirements.txt requirements-serve.txt \
    && find . -name __pycache__ -prune -exec rm -rf {} + \
    && /opt/serve/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/serve .

FROM python:3.13-slim
LABEL org.opencontainers.image.title="Iris API" \
      org.opencontainers.image.description="Serves a trained scikit-learn model over HTTP" \
      org.opencontainers.image.licenses="MIT"
ENV PATH=/opt/serve/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    IRIS_HOST=0.0.0.0 \
    PORT=8000
COPY --from=builder /opt/serve /opt/serve
COPY --from=builder /app /app
WORKDIR /app
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --start-interval=1s CMD \
    ["python", "-ISc", "import http.client as h, os; c = h.HTTPConnection('127.0.0.1', int(os.environ['PORT']), timeout=2); c.request('GET', '/health'); raise SystemExit(c.getresponse().status != 200)"]
CMD ["gunicorn", "wsgi:app"]
