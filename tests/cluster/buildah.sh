# shellcheck shell=bash
# Images without an engine, in a store of their own that is deleted again; sourced.

image_store=$(mktemp -d)
buildah_options=(--root "$image_store/root" --runroot "$image_store/run" --storage-driver vfs)

# build TAG ARGUMENTS…
build() {
  buildah "${buildah_options[@]}" build --quiet --isolation chroot --pull-never --tag "$1" "${@:2}" >/dev/null
}

# archive TAG FILE
archive() {
  buildah "${buildah_options[@]}" push --quiet "$1" "docker-archive:$2:$1"
}

forget_images() {
  rm -rf "$image_store"
}
