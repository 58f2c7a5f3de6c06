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
# The cache mounts keep downloads and compiled crates between builds. They are not part of the
# image, so the program is copied out of them. The directories are created here because the last
# stage runs no command as root.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --locked --release --package billhook --bin billhook \
    && install -D target/release/billhook /out/usr/local/bin/billhook \
    && install -d -o 10001 -g 10001 /out/var/lib/billhook /out/var/log/billhook

# The same Debian version as above, for its C library. The image contains no page: the billing page
# is part of the operator's application (frontend/README.md), which docker-compose.yml mounts. The
# application that `make page` builds only accepts the demo's tokens.
FROM debian:12.13-slim AS service
# To verify Stripe's certificate. The slim image has no CA certificates.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out /

ENV BILLHOOK_LISTEN=0.0.0.0:8080 \
    BILLHOOK_LOG_DIR=/var/log/billhook
# Contains the SQLite file if DATABASE_URL is not set.
WORKDIR /var/lib/billhook
USER 10001:10001
EXPOSE 8080

# Ready means that the database answers and is migrated. Bash sends the request, so that no client
# must be installed.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8080 && printf 'GET /readyz HTTP/1.0\\r\\nHost: localhost\\r\\n\\r\\n' >&3 && read -r _ status _ <&3 && [[ $status == 200 ]]"]

ENTRYPOINT ["billhook"]
CMD ["serve"]

# Only for the profile `dev` of docker-compose.yml: the service with the double and the demo's page.

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

# The default target.
FROM service
