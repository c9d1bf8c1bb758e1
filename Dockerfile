# syntax=docker/dockerfile:1
# The binary `tributary` on a slim Debian: built in one stage, run in another, as a user without rights.

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
# crates and their objects stay in the builder's caches, so a change of ours compiles ours alone, and one of Cargo.lock what
# it changes; a layer of dependencies would be made anew as a whole
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/src/target,sharing=locked \
    cargo build --release --locked --package platform --bin tributary \
    && install -D target/release/tributary /out/tributary

FROM debian:bookworm-slim
# root certificates, for servers that are reached over TLS
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /var/lib/tributary --create-home tributary
COPY --from=build /out/tributary /usr/local/bin/tributary
COPY deploy/ready /usr/local/bin/ready
COPY LICENSE-MIT LICENSE-APACHE /usr/share/doc/tributary/
USER tributary
WORKDIR /var/lib/tributary
ENV TRIBUTARY_DATA_DIR=/var/lib/tributary TRIBUTARY_LOG_FORMAT=json
STOPSIGNAL SIGTERM
ENTRYPOINT ["tributary"]
CMD ["--help"]
