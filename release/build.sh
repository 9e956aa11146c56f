#!/usr/bin/env bash
# build.sh [TARGET]: the static binary, packed with licence and README, its checksum, and the bill of materials, in
# target/release-files. It takes a compiler for musl (Debian: musl-tools). The same commit gives the same bytes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

target=${1:-$(uname -m)-unknown-linux-musl}
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -1)
name=superserve-$version-${target%%-*}-linux
files=target/release-files

rustup target add "$target"
# No path of this machine stays in the binary
RUSTFLAGS="--remap-path-prefix=$PWD=. --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=cargo" \
  cargo build --release --locked --bin superserve --target "$target"

mkdir -p "$files"
time=$(git log -1 --format=%ct)
tar --create --gzip --file "$files/$name.tar.gz" --owner 0 --group 0 --numeric-owner --sort name --mtime "@$time" \
  --transform "s,^\(.*/\)\?,$name/," "target/$target/release/superserve" LICENSE README.md CHANGELOG.md
(cd "$files" && sha256sum "$name.tar.gz" >"$name.tar.gz.sha256")
.ci/run sbom
cp target/superserve.cdx.json "$files/$name.cdx.json"
ls -l "$files"
