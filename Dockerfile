# syntax=docker/dockerfile:1

# The image of the daemon, with the sandbox in it. How to build and run it: deploy/README.md.
ARG PYTHON=3.11-slim-bookworm
# The same Python with a C compiler, for the compiled reader of content. Without one the image works, and is slower.
ARG BUILD=3.11-bookworm

FROM python:${BUILD} AS build
ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
# What builds stays behind, pip as well: only the second environment goes into the image.
RUN python -m venv /build && python -m venv --without-pip /opt/ordersync
COPY requirements.lock requirements-build.lock ./
# Every file is the one whose hash is in the lock. A pip.conf that names another index may be given as a secret.
RUN --mount=type=secret,id=pip_conf,target=/etc/pip.conf \
    /build/bin/pip --python /opt/ordersync/bin/python install \
      --require-hashes --only-binary :all: --requirement requirements.lock \
    && /build/bin/pip install --require-hashes --only-binary :all: --requirement requirements-build.lock
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY native native
COPY consumer consumer
COPY worker worker
COPY jobs jobs
COPY deploy deploy
RUN /build/bin/pip wheel --no-index --no-deps --no-build-isolation --wheel-dir /build/wheel ./consumer . \
    && /build/bin/pip --python /opt/ordersync/bin/python install --no-index --no-deps /build/wheel/*.whl

FROM python:${PYTHON}
LABEL org.opencontainers.image.title="ordermesh-sync" \
      org.opencontainers.image.description="OrderMesh changes, once and in order, in Redis Streams" \
      org.opencontainers.image.licenses="MIT"
RUN groupadd --gid 10001 ordersync \
    && useradd --uid 10001 --gid 10001 --home-dir /var/lib/ordersync --no-create-home --shell /usr/sbin/nologin ordersync \
    && install -d -o 10001 -g 10001 -m 0700 /var/lib/ordersync
COPY --from=build /opt/ordersync /opt/ordersync
ENV PATH=/opt/ordersync/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    ORDERSYNC_DATA_DIR=/var/lib/ordersync
WORKDIR /var/lib/ordersync
# All that is ever written: the heartbeat, and the data of the embedded server where it is used. So the root file
# system may be read-only.
VOLUME ["/var/lib/ordersync"]
USER 10001:10001
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["ordersync", "health", "--live"]
ENTRYPOINT ["ordersync"]
CMD ["run"]
