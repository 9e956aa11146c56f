#!/usr/bin/env bash
# images.sh FOLDER: the images that are not ours, and those of the tests' own programs, as archives in the folder.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"
. "$here/buildah.sh"

mkdir -p "$1"
context=$(mktemp -d)
trap 'rm -rf "$context"; forget_images' EXIT

# from_scratch NAME PROGRAM: an image of one static program.
from_scratch() {
  cp -L "$2" "$context/$1"
  printf 'FROM scratch\nCOPY %s /%s\nUSER 65532:65532\nENTRYPOINT ["/%s"]\n' "$1" "$1" "$1" >"$context/Containerfile"
  build "localhost/$1:1" --file "$context/Containerfile" "$context"
  archive "localhost/$1:1" "${folder:?}/$1.tar"
}

folder=$(cd "$1" && pwd)
cc -Os -static -o "$context/pause-program" "$here/images/pause.c"
from_scratch pause "$context/pause-program"
from_scratch coredns "$tools/coredns"
from_scratch load "$tools/load"
if [[ -e $tools/metrics-server ]]; then
  from_scratch metrics-server "$tools/metrics-server"
fi
