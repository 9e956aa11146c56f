# The image: one static binary, the CAs to trust, and nothing else. Built from the lock file alone:
#   docker build -t superserve/secrets:0.1.0 .        or, without an engine:
#   buildah build -t superserve/secrets:0.1.0 .
FROM rust:1.95.0-bookworm AS build
ARG TARGETARCH=amd64
WORKDIR /source
RUN apt-get update && apt-get install --yes --no-install-recommends musl-tools && rm -rf /var/lib/apt/lists/*
COPY rust-toolchain.toml .
RUN case "$TARGETARCH" in amd64) echo x86_64 ;; arm64) echo aarch64 ;; *) exit 1 ;; esac >/arch \
    && rustup target add "$(cat /arch)-unknown-linux-musl"
COPY Cargo.toml Cargo.lock build.rs ./
COPY proto proto
# Named by Cargo.toml, so they must be there
COPY benches/micro.rs benches/micro.rs
COPY examples/clients/rust/main.rs examples/clients/rust/main.rs
COPY src src
RUN cargo build --release --locked --bin superserve --target "$(cat /arch)-unknown-linux-musl" \
    && cp "target/$(cat /arch)-unknown-linux-musl/release/superserve" /superserve

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /superserve /usr/local/bin/superserve
ENV PATH=/usr/local/bin
# A number, so that Kubernetes can see that it is not root
USER 65532:65532
EXPOSE 8080 9090
ENTRYPOINT ["/usr/local/bin/superserve"]
