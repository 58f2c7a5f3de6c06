# syntax=docker/dockerfile:1

FROM rust:1.95.0-bookworm AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY src src
COPY entity entity
COPY migration migration
COPY sandbox sandbox
COPY tests tests
COPY benches benches
# The mounts keep downloads and compiled crates between builds, and out of the image; so the program is copied out.
# The directories are made here because the last stage runs nothing as root.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --locked --release --package billhook --bin billhook \
    && install -D target/release/billhook /out/usr/local/bin/billhook \
    && install -d -o 10001 -g 10001 /out/var/lib/billhook /out/var/log/billhook

# The same Debian as above, for its C library. No page is put in: the billing page is a part of the operator's own
# application (frontend/README.md), which docker-compose.yml mounts, and the application around it that `make page` builds
# is for the demo's tokens alone.
FROM debian:12.13-slim AS service
# Stripe's certificate is checked against these; the slim image has none.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out /

ENV BILLHOOK_LISTEN=0.0.0.0:8080 \
    BILLHOOK_LOG_DIR=/var/log/billhook
# Where the SQLite file goes when no DATABASE_URL names another database.
WORKDIR /var/lib/billhook
USER 10001:10001
EXPOSE 8080

# Ready means: the database answers and is migrated. Bash can speak HTTP well enough to ask, so nothing is installed.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8080 && printf 'GET /readyz HTTP/1.0\\r\\nHost: localhost\\r\\n\\r\\n' >&3 && read -r _ status _ <&3 && [[ $status == 200 ]]"]

ENTRYPOINT ["billhook"]
CMD ["serve"]

# --- for the composition's profile `dev` alone: the double and the demo's page beside the service -----------------------

FROM build AS double
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --locked --release --package sandbox --bin sandbox \
    && install -D target/release/sandbox /out/usr/local/bin/sandbox

FROM node:24.20.0-bookworm-slim AS page
WORKDIR /src/frontend
COPY frontend/package.json frontend/package-lock.json ./
RUN npm ci --no-audit --no-fund
COPY frontend ./
RUN npm run build:app

FROM service AS dev
COPY --from=double /out/usr/local/bin/sandbox /usr/local/bin/sandbox
COPY --from=page /src/frontend/dist/demo /srv/demo
COPY deploy/dev/start /usr/local/bin/billhook-dev
ENV SANDBOX_LISTEN=0.0.0.0:12111
EXPOSE 12111
ENTRYPOINT ["billhook-dev"]
CMD []

# What is built when no target is named.
FROM service
