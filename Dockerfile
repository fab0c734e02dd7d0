# The builder trains and installs; the final stage has only what serving needs. Two builds of one
# commit contain the same files, whatever the umask of the clone: .ci/image compares them.
FROM python:3.13-slim AS builder
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /app

COPY requirements-serve.txt requirements.txt ./
# Removes what serving never opens: tests, commands, NumPy's compiler support, ONNX Runtime's
# conversion tools, and its library for C programs (the Python module has its own).
RUN python -m venv --without-pip /opt/serve \
    && pip --python /opt/serve/bin/python install --no-compile --no-deps --require-hashes \
        -r requirements-serve.txt \
    && find /opt/serve/bin -type f ! -name gunicorn ! -name flask -delete \
    && cd /opt/serve/lib/python3.*/site-packages \
    && find . \( -name tests -type d -o -name conftest.py -o -name '_*_tests.*.so' \) \
        -prune -exec rm -rf {} + \
    && rm -rf google/protobuf/testdata numpy/f2py numpy/_core/include numpy/_core/lib \
        numpy/random/lib onnxruntime/datasets onnxruntime/quantization onnxruntime/tools \
        onnxruntime/transformers onnxruntime/capi/libonnxruntime.so.* \
    && /opt/serve/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/serve
RUN pip install --no-deps --require-hashes -r requirements.txt

COPY iris_api iris_api
COPY train.py wsgi.py gunicorn.conf.py ./
RUN python train.py \
    && rm train.py requirements.txt requirements-serve.txt \
    && find . -name __pycache__ -prune -exec rm -rf {} + \
    && /opt/serve/bin/python -m compileall -q --invalidation-mode unchecked-hash . \
    && chmod -R u=rwX,go=rX .

FROM python:3.13-slim
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
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --start-interval=500ms CMD \
    ["python", "-ISc", "import http.client as h, os; c = h.HTTPConnection('127.0.0.1', int(os.environ['PORT'] or 8000), timeout=2); c.request('GET', '/health'); raise SystemExit(c.getresponse().status != 200)"]
# Gunicorn fails on an empty WEB_CONCURRENCY, which here means unset.
CMD ["sh", "-c", "[ -n \"$WEB_CONCURRENCY\" ] || unset WEB_CONCURRENCY; exec gunicorn wsgi:app"]
# Only the labels contain the commit and its time, so that the files are the same in every build.
ARG VERSION=0.1.0
ARG REVISION
ARG CREATED
ARG SOURCE
LABEL org.opencontainers.image.title="Iris API" \
      org.opencontainers.image.description="Serves a trained scikit-learn model over HTTP" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.created="$CREATED" \
      org.opencontainers.image.source="$SOURCE"
