#!/bin/sh
# Runs the reference builder's cases through the given sinter and compares what
# comes out. Optional further arguments are globs of case names.
#   conformance.sh SINTER FOLDER [GLOB…]
# AGREE is the least share, in percent, that must agree (default 90).
set -eu
sinter=$1
cases=$2
shift 2
if [ ! -x "$cases/run.sh" ]; then
	echo "conformance: skipped, there is no $cases"
	exit 0
fi
if [ "$(id -u)" != 0 ]; then
	echo "conformance: skipped, the comparison needs root"
	exit 0
fi
here=$(cd "$(dirname "$0")/.." && pwd)
work=${CONF_WORK:-$(mktemp -d "${TMPDIR:-/tmp}/sinter-conformance.XXXXXX")}
finish() {
	if [ -f "$work/svc/registry.pid" ]; then kill "$(cat "$work/svc/registry.pid")" 2>/dev/null || true; fi
	[ -n "${CONF_WORK:-}" ] || rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT TERM
(cd "$here" && CGO_ENABLED=0 go build -o "$work/bin/crane" github.com/google/go-containerregistry/cmd/crane)
PATH=$work/bin:$PATH
export PATH CONF_WORK="$work" SINTER_ROOT="$work/store"
"$cases/run.sh" sinter "$sinter build --registry-mirror docker.io=${CONF_REGISTRY:-127.0.0.1:5001} -f {dockerfile} -t {name} {flags} -o type=oci,dest={out} {context}" "$@" | tee "$work/report"

# The comparison's own verdict, held against the least share.
line=$(sed -n 's/^conformance: \([0-9]*\)\/\([0-9]*\) same.*/\1 \2/p' "$work/report" | tail -1)
[ -n "$line" ] || { echo "conformance: the comparison gave no verdict" >&2; exit 1; }
set -- $line
least=${AGREE:-90}
if [ $(($1 * 100)) -lt $(($2 * least)) ]; then
	echo "conformance: $1 of $2 agree, fewer than $least%" >&2
	exit 1
fi
