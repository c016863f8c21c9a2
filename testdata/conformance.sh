#!/bin/sh
# Runs the reference builder's cases through the given sinter and compares what
# comes out. Optional further arguments are globs of case names.
#   conformance.sh SINTER FOLDER [GLOB…]
# AGREE is the least share, in percent, that must agree (default 98).
# CONF_CASES is another folder of cases: one with .txtar files as in
#   testdata/conformance, or one with cases and ctx (or cases.tar.zst) that
#   FOLDER's runner takes, with the reference's images in results/ref.
#   CONF_EXPORT=DIR go test ./cmd/sinter -run '^TestConformance$' makes such a
#   folder of testdata/conformance.
# CONF_COMMAND is another builder's command line, with the placeholders
#   {dockerfile} {context} {flags} {out} {name}, and CONF_NAME its name; with
#   the name ref its images are what others are compared with from then on,
#   while CONF_WORK names a folder that stays.
set -eu
sinter=$1
runner=$2
cases=${CONF_CASES:-$runner}
shift 2
here=$(cd "$(dirname "$0")/.." && pwd)
if [ -n "$(find "$cases" -name '*.txtar' 2>/dev/null | head -n 1)" ]; then
	cases=$(cd "$cases" && pwd)
	cd "$here"
	# Other builders look for docker.io at a fixed place.
	[ -z "${CONF_COMMAND:-}" ] || export CONF_REGISTRY="${CONF_REGISTRY:-127.0.0.1:5001}"
	CONF_CASES=$cases exec go test ./cmd/sinter -count=1 -run "^TestConformance\$${1:+/$1}"
fi
if [ ! -x "$runner/run.sh" ]; then
	echo "conformance: skipped, there is no $runner"
	exit 0
fi
if [ "$(id -u)" != 0 ]; then
	echo "conformance: skipped, the comparison needs root"
	exit 0
fi
work=${CONF_WORK:-$(mktemp -d "${TMPDIR:-/tmp}/sinter-conformance.XXXXXX")}
finish() {
	if [ -f "$work/svc/registry.pid" ]; then kill "$(cat "$work/svc/registry.pid")" 2>/dev/null || true; fi
	[ -n "${CONF_WORK:-}" ] || rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT TERM
if [ -x "$cases/run.sh" ]; then
	runner=$cases
elif [ -f "$cases/cases.tar.zst" ]; then
	tar --zstd -xpf "$cases/cases.tar.zst" --xattrs -C "$work"
elif [ -d "$cases/cases" ]; then
	cp -a "$cases/." "$work/"
else
	echo "conformance: $cases has no cases" >&2
	exit 1
fi
(cd "$here" && CGO_ENABLED=0 go build -o "$work/bin/crane" github.com/google/go-containerregistry/cmd/crane)
PATH=$work/bin:$PATH
export PATH CONF_WORK="$work" SINTER_ROOT="$work/store"
name=${CONF_NAME:-sinter}
command=${CONF_COMMAND:-"$sinter build --registry-mirror docker.io=${CONF_REGISTRY:-127.0.0.1:5001} -f {dockerfile} -t {name} {flags} -o type=oci,dest={out} {context}"}
"$runner/run.sh" "$name" "$command" "$@" | tee "$work/report"
[ "$name" != ref ] || exit 0

# The comparison's own verdict, held against the least share.
line=$(sed -n 's/^conformance: \([0-9]*\)\/\([0-9]*\) same.*/\1 \2/p' "$work/report" | tail -1)
[ -n "$line" ] || { echo "conformance: the comparison gave no verdict" >&2; exit 1; }
set -- $line
[ "$2" != 0 ] || { echo "conformance: nothing was compared, $cases has no images of the reference" >&2; exit 1; }
least=${AGREE:-98}
if [ $(($1 * 100)) -lt $(($2 * least)) ]; then
	echo "conformance: $1 of $2 agree, fewer than $least%" >&2
	exit 1
fi
