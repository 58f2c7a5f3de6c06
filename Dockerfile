# syntax=docker/dockerfile:1

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
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
FROM debian:bookworm-slim
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
