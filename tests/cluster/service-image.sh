#!/usr/bin/env bash
# service-image.sh FOLDER: the image of the service, as :1 and :2, and the image of an agent that runs by it.
#
# The last stage of the Dockerfile is built as it stands. What its build stage would compile is compiled here instead, by
# the same target and profile, so that neither an image of Rust nor an engine is needed, and cargo's cache is used.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"
. "$here/buildah.sh"

mkdir -p "$1"
folder=$(cd "$1" && pwd)
context=$(mktemp -d)
trap 'rm -rf "$context"; forget_images' EXIT

target=$(uname -m)-unknown-linux-musl
if [[ -z ${SUPERSERVE_CLUSTER_BINARY:-} ]]; then
  rustup target add "$target" 2>/dev/null
  (cd "$root" && cargo build --quiet --release --locked --target "$target" --bin superserve)
fi
cp "${SUPERSERVE_CLUSTER_BINARY:-$root/target/$target/release/superserve}" "$context/superserve"
printf 'FROM scratch\nCOPY superserve /superserve\nUSER 65532:65532\nENTRYPOINT ["/superserve"]\n' >"$context/Containerfile"

build localhost/superserve-secrets:1 --file "$context/Containerfile" "$context"
build localhost/superserve-secrets:2 --label tests.release=2 --file "$context/Containerfile" "$context"
for tag in 1 2; do
  archive "localhost/superserve-secrets:$tag" "$folder/superserve-secrets-$tag.tar"
done
