#!/usr/bin/env bash
# service-image.sh FOLDER: the service's image as :1 and :2 and an agent's image, as archives in the folder.
#
# The Dockerfile's last stage is built as it stands. What its build stage would compile is compiled here, for the same
# target and with the same profile, so that neither an image of Rust nor a registry is needed, and cargo's cache is used.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"
. "$here/buildah.sh"

mkdir -p "$1"
folder=$(cd "$1" && pwd)
context=$(mktemp -d)
trap 'rm -rf "$context"; forget_images' EXIT

rustup target add "$target" 2>/dev/null
cargo build --quiet --release --locked --manifest-path "$root/Cargo.toml" --target "$target" --bin superserve
mkdir -p "$context/etc/ssl/certs"
cp "$program" "$context/"
cp /etc/ssl/certs/ca-certificates.crt "$context/etc/ssl/certs/"
{
  echo 'FROM scratch AS build'
  echo 'COPY . /'
  sed -n '/^FROM scratch$/,$p' "$root/Dockerfile"
} >"$context/Containerfile"

service=localhost/superserve-secrets
build "$service:1" --file "$context/Containerfile" "$context"
# Another image by its digest, the same program
build "$service:2" --label tests.release=2 --file "$context/Containerfile" "$context"
archive "$service:1" "$folder/superserve-secrets-1.tar"
archive "$service:2" "$folder/superserve-secrets-2.tar"

# An agent's image as its author would make it: with a shell of its own, and the program copied from the service's image.
cp "$(command -v busybox)" "$context/busybox"
cat >"$context/Containerfile" <<END
FROM $service:1 AS service
FROM scratch
COPY busybox /bin/sh
COPY --from=service /usr/local/bin/superserve /usr/local/bin/superserve
USER 65532:65532
END
build localhost/agent:1 --file "$context/Containerfile" "$context"
archive localhost/agent:1 "$folder/agent.tar"
