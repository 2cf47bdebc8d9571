# The job as a container: hash-locked wheels on a slim Python, no shell needed, nothing written outside /tmp.
#
#   scripts/build-image                                           with docker, podman or buildah
#   docker build -t finetune-job .                                CUDA libraries inside
#   docker build --build-arg VARIANT=cpu -t finetune-job:cpu .
#   docker build --target sagemaker -t finetune-job:sagemaker .
#
# /opt/app/sbom.cdx.json in the image lists everything that is in it.
# Heredocs, COPY --link and ADD --checksum are left out: buildah 1.28 (Debian 12) refuses them.

# Pin it by digest where builds must repeat bit for bit.
ARG BASE_IMAGE=python:3.13-slim-trixie
# gpu or cpu
ARG VARIANT=gpu

# --- the packages: changes when the lock changes
FROM ${BASE_IMAGE} AS packages
ARG VARIANT
ENV UV_SYSTEM_CERTS=1 UV_LINK_MODE=copy UV_NO_CONFIG=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build
COPY requirements-build.lock ./
RUN --mount=type=cache,target=/root/.cache \
    python3 -m venv /opt/build \
    && /opt/build/bin/python -m pip install --quiet --require-hashes -r requirements-build.lock
COPY requirements.lock requirements-gpu.lock ./
# Bytecode is compiled here because the container's file system is read-only. The .pth file makes the
# application, a folder beside the environment, importable whatever the version of Python.
RUN --mount=type=cache,target=/root/.cache \
    case "${VARIANT}" in gpu) lock=requirements-gpu.lock ;; cpu) lock=requirements.lock ;; \
        *) echo "VARIANT is '${VARIANT}', allowed are gpu and cpu" >&2; exit 2 ;; esac \
    && python3 -m venv --without-pip /opt/venv \
    && /opt/build/bin/uv pip install --quiet --python /opt/venv/bin/python --require-hashes --compile-bytecode -r "${lock}" \
    && /opt/venv/bin/python -c "import pathlib, sysconfig; pathlib.Path(sysconfig.get_path('purelib'), 'app.pth').write_text('/opt/app\n')"

# --- the application: changes with the code
FROM packages AS application
COPY pyproject.toml README.md LICENSE ./
COPY job ./job
RUN /opt/build/bin/hatchling build -t wheel -d /build/dist \
    && /opt/build/bin/uv pip install --quiet --python /opt/venv/bin/python --no-deps --no-index --compile-bytecode \
        --target /opt/app /build/dist/*.whl
COPY scripts/sbom.py ./
RUN /opt/venv/bin/python sbom.py >/opt/app/sbom.cdx.json

# --- what the variants differ in
FROM ${BASE_IMAGE} AS variant-cpu
ENV NVIDIA_VISIBLE_DEVICES=void

# The NVIDIA runtime reads these two. GKE mounts the driver at /usr/local/nvidia, which a slim image does not search;
# the CUDA wheels find each other by themselves.
# Source: GoogleCloudPlatform/container-engine-accelerators, cmd/nvidia_gpu
FROM ${BASE_IMAGE} AS variant-gpu
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility LD_LIBRARY_PATH=/usr/local/nvidia/lib64

# --- the image
FROM variant-${VARIANT} AS complete
# /tmp is the one writable folder of a read-only container; everything that wants a home gets it there.
ENV PATH=/opt/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    HOME=/tmp TMPDIR=/tmp XDG_CACHE_HOME=/tmp/.cache KERAS_HOME=/tmp/.keras MPLCONFIGDIR=/tmp/.matplotlib \
    CUDA_CACHE_PATH=/tmp/.nv \
    TF_CPP_MIN_LOG_LEVEL=2
# Written by hand: a minimal Debian has no useradd.
RUN echo 'job:x:10001:' >>/etc/group && echo 'job:x:10001:10001::/tmp:/usr/sbin/nologin' >>/etc/passwd
COPY --from=packages /opt/venv /opt/venv
COPY --from=application /opt/app /opt/app
WORKDIR /tmp
# After the layers, which are the same for every revision.
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="finetune-job" \
      org.opencontainers.image.description="A folder of labelled images in, a proven SavedModel out" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# The job itself is process 1 and handles SIGTERM; a shell or an init in between loses it, and SageMaker's `train`
# argument breaks an init. Source: aws/sagemaker-python-sdk #4113
ENTRYPOINT ["/opt/venv/bin/python", "-m", "job"]
CMD ["--help"]

# SageMaker's /opt/ml belongs to root. Source: aws/sagemaker-python-sdk #4764
FROM complete AS sagemaker
USER 0

FROM complete AS runtime
USER 10001:10001
