# The six images of the system, one target each: airflow, broker, portal, node, snakemake, task. `make images` builds
# them without a Docker daemon and prints their sizes.
#   docker build --target broker -t gdi-broker .
# BASE: any image with Python 3.11 or newer at `python3`, its venv module, and coreutils.
# Secrets of the build, each optional, none of them in an image:
#   --secret id=ca,src=FILE          certificate authorities of the network that the build runs in
#   --secret id=uv.toml,src=FILE     uv's settings (an index of one's own)
#   --secret id=pip.conf,src=FILE    the same for pip, which only fetches uv
ARG BASE=docker.io/library/python:3.11-slim
# The version of pyproject.toml (a test compares).
ARG VERSION=0.1.0

# What every image stands on, as one layer that all of them share. Flattened, so that what is removed is gone and not
# only hidden.
FROM ${BASE} AS trimmed
COPY packaging/images/trim.py /trim.py
RUN python3 -I /trim.py && rm /trim.py

FROM scratch AS base
COPY --from=trimmed / /
ENV PATH=/opt/gdi/bin:/usr/local/bin:/usr/bin:/bin LANG=C.UTF-8 HOME=/tmp PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# Python never looks for modules in the folder that it was started in, where others may write (decision 741). The images
# that run workflows say so for their own first process only: a rule's script finds what lies beside it.
ENV PYTHONSAFEPATH=1
USER 10001:10001
WORKDIR /tmp

# uv and hatchling, locked by hash.
FROM ${BASE} AS tools
COPY packaging/images/environment.py packaging/images/requirements.lock /build/images/
RUN --mount=type=secret,id=ca --mount=type=secret,id=pip.conf --mount=type=secret,id=uv.toml \
    python3 /build/images/environment.py tools
COPY pyproject.toml requirements.lock /build/

# Each target's dependencies: of the one lock, what its extra needs.
FROM tools AS broker-environment
RUN --mount=type=secret,id=ca --mount=type=secret,id=uv.toml --mount=type=cache,target=/root/.cache/uv \
    python3 /build/images/environment.py dependencies broker

FROM tools AS portal-environment
RUN --mount=type=secret,id=ca --mount=type=secret,id=uv.toml --mount=type=cache,target=/root/.cache/uv \
    python3 /build/images/environment.py dependencies portal

FROM tools AS node-environment
RUN --mount=type=secret,id=ca --mount=type=secret,id=uv.toml --mount=type=cache,target=/root/.cache/uv \
    python3 /build/images/environment.py dependencies node

FROM tools AS snakemake-environment
RUN --mount=type=secret,id=ca --mount=type=secret,id=uv.toml --mount=type=cache,target=/root/.cache/uv \
    python3 /build/images/environment.py dependencies snakemake

FROM tools AS task-environment
RUN --mount=type=secret,id=ca --mount=type=secret,id=uv.toml --mount=type=cache,target=/root/.cache/uv \
    python3 /build/images/environment.py dependencies task

FROM tools AS airflow-environment
RUN --mount=type=secret,id=ca --mount=type=secret,id=uv.toml --mount=type=cache,target=/root/.cache/uv \
    python3 /build/images/environment.py dependencies airflow

# Our own packages, for each target those that it uses: an update of the system moves this small layer only.
FROM tools AS code
COPY README.md /build/
COPY gdi /build/gdi
COPY token_broker /build/token_broker
COPY node_gateway /build/node_gateway
COPY snakemake_tes_auth /build/snakemake_tes_auth
COPY plugins /build/plugins
RUN python3 /build/images/environment.py code

FROM base AS broker
COPY --from=broker-environment /opt/gdi /opt/gdi
COPY --from=code /code/broker /opt/gdi
ENTRYPOINT ["python3", "-m", "token_broker.main"]
EXPOSE 8080
ARG VERSION
ARG REVISION=unknown
LABEL org.opencontainers.image.title="gdi-broker" \
      org.opencontainers.image.description="Token broker: grants, tickets, admission, run tokens" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

FROM base AS portal
COPY --from=portal-environment /opt/gdi /opt/gdi
COPY --from=code /code/portal /opt/gdi
ENTRYPOINT ["python3", "-m", "gdi.portal.main"]
EXPOSE 8080
ARG VERSION
ARG REVISION=unknown
LABEL org.opencontainers.image.title="gdi-portal" \
      org.opencontainers.image.description="API for people and portals, GA4GH WES 1.1" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

FROM base AS node
COPY --from=node-environment /opt/gdi /opt/gdi
COPY --from=code /code/node /opt/gdi
ENTRYPOINT ["python3", "-m", "node_gateway.main"]
EXPOSE 8080 8081
ARG VERSION
ARG REVISION=unknown
LABEL org.opencontainers.image.title="gdi-node" \
      org.opencontainers.image.description="Node gateway: the one door of a node" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

FROM base AS snakemake
COPY --from=snakemake-environment /opt/gdi /opt/gdi
COPY --from=code /code/snakemake /opt/gdi
COPY workflows /opt/gdi/workflows
ENV GIT_PYTHON_REFRESH=quiet PYTHONSAFEPATH=
ENTRYPOINT ["python3", "-P", "-m", "snakemake_tes_auth.pod"]
ARG VERSION
ARG REVISION=unknown
LABEL org.opencontainers.image.title="gdi-snakemake" \
      org.opencontainers.image.description="Snakemake pod of one run at one node" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

# What runs inside TES tasks that need Snakemake (script:, run:). No entry point: a TES starts the task's own command.
FROM base AS task
COPY --from=task-environment /opt/gdi /opt/gdi
COPY --from=code /code/task /opt/gdi
ENV GIT_PYTHON_REFRESH=quiet PYTHONSAFEPATH=
ARG VERSION
ARG REVISION=unknown
LABEL org.opencontainers.image.title="gdi-task" \
      org.opencontainers.image.description="Python and Snakemake inside TES tasks" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

# No entry point: the official chart starts `bash -c "exec airflow …"`.
FROM base AS airflow
COPY --from=airflow-environment /opt/gdi /opt/gdi
COPY --from=code /code/airflow /opt/gdi
COPY dags /opt/gdi/dags
COPY workflows /opt/gdi/workflows
ENV AIRFLOW_HOME=/opt/airflow AIRFLOW__CORE__DAGS_FOLDER=/opt/gdi/dags AIRFLOW__CORE__LOAD_EXAMPLES=false \
    GDI_WORKFLOWS=/opt/gdi/workflows GDI_LAUNCHER=kubernetes
CMD ["airflow", "version"]
EXPOSE 8080
ARG VERSION
ARG REVISION=unknown
LABEL org.opencontainers.image.title="gdi-airflow" \
      org.opencontainers.image.description="Airflow with the catalogue's DAGs and the GDI operators" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
