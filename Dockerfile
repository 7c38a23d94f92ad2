# Two images of one binary:
#   docker build --target daemon -t braindrill .          the daemon alone, for clusters that run the code
#   docker build --target worker -t braindrill-worker:local .   with the tool chains, for running code itself
#
# Making jails takes rights that a container does not have by default; see docs/docker.md.

FROM node:22-bookworm AS pages
WORKDIR /src
COPY . .
RUN .ci/ui --must

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
COPY --from=pages /src/ui/dist/app ui/dist/app
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --locked --release && \
    install -D target/release/braindrill /out/braindrill

FROM debian:bookworm-slim AS daemon
RUN apt-get update && \
    apt-get install -y --no-install-recommends ca-certificates && \
    rm -rf /var/lib/apt/lists/* && \
    useradd --system --home-dir /var/lib/braindrill --create-home braindrill
COPY --from=build /out/braindrill /usr/local/bin/braindrill
USER braindrill
VOLUME /var/lib/braindrill
# Loopback of the container: publishing the port takes `--listen 0.0.0.0:8080 --allow-anonymous`, and
# somebody in front of it who decides who may run code.
ENV BRAINDRILL_DATA_DIR=/var/lib/braindrill
EXPOSE 8080
ENTRYPOINT ["braindrill"]
CMD ["serve"]

FROM debian:bookworm AS worker
RUN apt-get update && \
    apt-get install -y --no-install-recommends \
        ca-certificates uidmap \
        bash default-jdk-headless g++ gcc golang-go kotlin libc6-dev lua5.4 nodejs npm perl php-cli \
        python3 ruby rustc scala sqlite3 && \
    npm install --global --prefix /usr/local --no-fund --no-audit typescript@5 @types/node@20 && \
    rm -rf /var/lib/apt/lists/* /root/.npm
COPY --from=build /out/braindrill /usr/local/bin/braindrill
VOLUME /var/lib/braindrill
ENV BRAINDRILL_DATA_DIR=/var/lib/braindrill
EXPOSE 8080
# As root of the container: each jail gets a uid of its own, and nothing of it can become root.
ENTRYPOINT ["braindrill"]
CMD ["serve"]
