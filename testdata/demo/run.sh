#!/bin/sh
# Builds a base image and a three-stage Go service with the given sinter, shows
# that a second build has nothing to do, and runs what came out.
set -eu
sinter=$1
demo=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/sinter-demo.XXXXXX")
SINTER_ROOT=$work/store
export SINTER_ROOT
finish() {
	"$sinter" prune --all --force >/dev/null 2>&1 || true
	rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT TERM

say() { printf '\n== %s\n' "$*"; }

mkdir "$work/base" "$work/src"
cp "$(command -v busybox)" "$work/base/busybox"
cp "$demo"/*.go "$demo/go.mod" "$demo/Dockerfile" "$work/src/"

say "a base image from busybox (nothing is downloaded)"
"$sinter" build -t demo-base -f "$demo/base.Dockerfile" "$work/base"

build() {
	"$sinter" build --build-context go="$(go env GOROOT)" --build-arg VERSION=1.0 -t hello \
		-o type=image -o "type=oci,dest=$work/hello.tar" "$work/src"
}

say "a Go service: toolchain stage, cache mounts, FROM scratch"
build

say "the same again: nothing to do"
build

say "what is in the image"
"$sinter" images
"$sinter" history hello

say "the program from the image, run"
"$sinter" build --progress=quiet --build-context go="$(go env GOROOT)" --build-arg VERSION=1.0 -o "$work/root" "$work/src"
"$work/root/hello" -once
