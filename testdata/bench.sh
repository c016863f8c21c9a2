#!/bin/sh
# Speed of the given sinter beside every peer on PATH (buildah, podman, and BuildKit as
# buildkitd with buildctl and runc, as root), on workloads made here. Prints medians of RUNS runs in milliseconds
# and ratios to sinter.
#   bench.sh SINTER
set -eu
sinter=$1
runs=${RUNS:-5}
work=$(mktemp -d "${TMPDIR:-/tmp}/sinter-bench.XXXXXX")
SINTER_ROOT=$work/store
export SINTER_ROOT BUILDAH_ISOLATION="${BUILDAH_ISOLATION:-chroot}" STORAGE_ROOT="$work/peer"
daemon=
finish() {
	[ -z "$daemon" ] || { kill "$daemon" && wait "$daemon"; } 2>/dev/null || true
	for peer in buildah podman; do
		command -v $peer >/dev/null && $peer --root "$work/peer" --runroot "$work/peerrun" rmi -af >/dev/null 2>&1 || true
	done
	rm -rf "$work" 2>/dev/null || true
}
trap finish EXIT
trap 'exit 130' INT TERM

# A base image from busybox, as an OCI archive that every builder can read.
base() {
	mkdir -p "$work/base"
	cp "$(command -v busybox)" "$work/base/busybox"
	cat > "$work/base/Dockerfile" <<'END'
FROM scratch
COPY busybox /bin/busybox
RUN ["/bin/busybox", "--install", "-s", "/bin"]
RUN mkdir -p /etc /tmp /root && echo 'root:x:0:0:root:/root:/bin/sh' > /etc/passwd
ENV PATH=/bin
CMD ["/bin/sh"]
END
	"$sinter" build -q -t localhost/bench-base -o type=image -o "type=docker,dest=$work/base.tar" \
		-o "type=oci,tar=false,dest=$work/layout" "$work/base" >/dev/null
	for peer in $peers; do
		case $peer in
		buildah | podman) $peer --root "$work/peer" --runroot "$work/peerrun" pull -q "docker-archive:$work/base.tar" >/dev/null ;;
		buildkit) start_daemon ;;
		esac
	done
}

# start_daemon starts a BuildKit of its own.
start_daemon() {
	buildkitd --root "$work/buildkit" --addr "unix://$work/buildkit.sock" --containerd-worker=false >"$work/buildkit.log" 2>&1 &
	daemon=$!
	while ! buildctl --addr "unix://$work/buildkit.sock" debug workers >/dev/null 2>&1; do
		kill -0 $daemon 2>/dev/null || { echo "error: buildkitd ended: $(tail -n 1 "$work/buildkit.log")" >&2; exit 1; }
		sleep 0.1
	done
}

# found PEER: whether it can be compared with.
found() {
	case $1 in
	buildkit) [ "$(id -u)" = 0 ] && command -v buildkitd && command -v buildctl && { command -v buildkit-runc || command -v runc; } ;;
	*) command -v "$1" ;;
	esac >/dev/null
}

# workload NAME: makes $work/NAME/{Dockerfile,…}.
workload() {
	dir=$work/$1
	mkdir -p "$dir"
	case $1 in
	one-file) n=1000 ;;
	small-files) n=10000 ;;
	*) n=0 ;;
	esac
	if [ $n -gt 0 ]; then
		seq 1 $n | while read -r i; do
			d=$dir/src/$((i % 97))
			[ -d "$d" ] || mkdir -p "$d"
			echo "file $i" > "$d/$i"
		done
	fi
	case $1 in
	nothing | one-file | small-files) [ -d "$dir/src" ] || { mkdir "$dir/src"; echo a > "$dir/src/a"; }
		printf 'FROM localhost/bench-base\nRUN mkdir /app\nCOPY src /app/\nCMD ["/bin/sh"]\n' > "$dir/Dockerfile" ;;
	run-chain)
		{ echo 'FROM localhost/bench-base'; for i in 1 2 3 4 5 6 7 8 9 10; do echo "RUN echo $i > /$i"; done; } > "$dir/Dockerfile" ;;
	big-file)
		head -c 268435456 /dev/urandom > "$dir/big"
		printf 'FROM localhost/bench-base\nCOPY big /\n' > "$dir/Dockerfile" ;;
	stages)
		{ for i in 1 2 3 4; do printf 'FROM localhost/bench-base AS s%s\nRUN sleep 0.2; echo %s > /out%s\n' $i $i $i; done
		echo 'FROM scratch'; for i in 1 2 3 4; do echo "COPY --from=s$i /out$i /"; done; } > "$dir/Dockerfile" ;;
	esac
}

# change NAME: what differs before each measured run.
change() {
	case $1 in
	nothing) ;;
	one-file) date +%N > "$work/$1/src/5/5" ;;
	*) fresh=yes ;;
	esac
}

builder() { # TOOL DIR
	case $1 in
	sinter) "$sinter" build -q ${fresh:+--no-cache} -t "bench-$3" "$2" ;;
	buildah | podman) $1 --root "$work/peer" --runroot "$work/peerrun" build -q --layers ${fresh:+--no-cache} -t "bench-$3" "$2" ;;
	buildkit)
		buildctl --addr "unix://$work/buildkit.sock" build --progress plain ${fresh:+--no-cache} --frontend dockerfile.v0 \
			--local "context=$2" --local "dockerfile=$2" --oci-layout "base=$work/layout" \
			--opt "context:localhost/bench-base=oci-layout://base@$digest" --output "type=image,name=localhost/bench-$3" ;;
	esac
}

measure() { # TOOL WORKLOAD
	fresh=
	builder "$1" "$work/$2" "$2" >/dev/null 2>"$work/log" || { echo failed; return; }
	i=0
	while [ $i -lt "$runs" ]; do
		fresh=
		change "$2"
		start=$(date +%s%N)
		builder "$1" "$work/$2" "$2" >/dev/null 2>"$work/log" || { echo failed; return; }
		end=$(date +%s%N)
		echo $(((end - start) / 10000))
		i=$((i + 1))
	done | sort -n | awk '{ v[NR] = $1 } END { printf "%.1f\n", v[int((NR + 1) / 2)] / 100 }'
}

peers=
for peer in buildkit buildah podman; do
	if found $peer; then peers="$peers $peer"; fi
done
base
digest=$(sed 's/.*"digest":"\(sha256:[0-9a-f]*\)".*/\1/' "$work/layout/index.json")
printf '%-12s %12s' workload sinter
for peer in $peers; do printf ' %20s' "$peer"; done
echo '   (median ms, ratio to sinter)'
for w in ${WORKLOADS:-nothing one-file small-files big-file run-chain stages}; do
	workload "$w"
	ours=$(measure sinter "$w")
	printf '%-12s %12s' "$w" "$ours"
	for peer in $peers; do
		theirs=$(measure "$peer" "$w")
		printf ' %20s' "$(echo "$ours $theirs" | awk '{ if ($1 + 0 > 0 && $2 + 0 > 0) printf "%s (%.1fx)", $2, $2 / $1; else print $2 }')"
	done
	echo
	rm -rf "${work:?}/$w"
done
