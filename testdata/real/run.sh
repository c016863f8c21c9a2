#!/bin/bash
# Builds real projects with the given sinter and judges the images with other
# people's tools: a Django site, a Go service, a web bundle; as root, as a plain
# user with subordinate IDs, and as one without.
#   run.sh SINTER [PROJECT…]
# Needs root (to make users and bases), Debian's packages and their mirrors.
set -euo pipefail
sinter=$(realpath "$1")
shift
projects=("$@")
[ ${#projects[@]} -gt 0 ] || projects=(goservice django web)
here=$(cd "$(dirname "$0")" && pwd)
if [ "$(id -u)" != 0 ]; then
	echo "real: skipped, it needs root to make users and base images"
	exit 0
fi
work=$(mktemp -d "${TMPDIR:-/tmp}/sinter-real.XXXXXX")
chmod 755 "$work"
users=()
finish() {
	status=$?
	[ -z "${registry_pid:-}" ] || kill "$registry_pid" 2>/dev/null || true
	[ -z "${site_pid:-}" ] || kill "$site_pid" 2>/dev/null || true
	for u in "${users[@]}"; do pkill -KILL -u "$u" 2>/dev/null || true; userdel -f "$u" >/dev/null 2>&1 || true; done
	rm -rf "$work"
	[ $status = 0 ] && echo "real: all passed" || echo "real: FAILED" >&2
	exit $status
}
trap finish EXIT
trap 'exit 130' INT TERM
say() { printf '== %s\n' "$*"; }
fail() { echo "FAILED: $*" >&2; exit 1; }

# A registry with TLS by a CA of our own, and a password.
start_registry() {
	mkdir -p "$work/ca" "$work/registry"
	openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=test-ca -keyout "$work/ca/ca.key" -out "$work/ca/ca.crt" 2>/dev/null
	openssl req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout "$work/ca/srv.key" -out "$work/ca/srv.csr" 2>/dev/null
	openssl x509 -req -in "$work/ca/srv.csr" -CA "$work/ca/ca.crt" -CAkey "$work/ca/ca.key" -CAcreateserial -days 2 \
		-extfile <(echo subjectAltName=DNS:localhost,IP:127.0.0.1) -out "$work/ca/srv.crt" 2>/dev/null
	htpasswd -Bbn tester secret > "$work/ca/htpasswd"
	port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
	cat > "$work/registry.yml" <<END
version: 0.1
log: {level: error}
storage: {filesystem: {rootdirectory: $work/registry}, delete: {enabled: true}}
auth: {htpasswd: {realm: test, path: $work/ca/htpasswd}}
http: {addr: "127.0.0.1:$port", tls: {certificate: $work/ca/srv.crt, key: $work/ca/srv.key}}
END
	docker-registry serve "$work/registry.yml" >"$work/registry.log" 2>&1 &
	registry_pid=$!
	REG=localhost:$port
	for _ in $(seq 50); do curl -s --cacert "$work/ca/ca.crt" "https://$REG/v2/" >/dev/null && return; sleep 0.1; done
	fail "the registry did not start"
}

# credentials and CA for the tools that judge
prepare_judges() {
	(cd "$here/../.." && CGO_ENABLED=0 go build -o "$work/bin/crane" github.com/google/go-containerregistry/cmd/crane)
	mkdir -p "$work/judge" "$work/certs/$REG"
	cp "$work/ca/ca.crt" "$work/certs/$REG/ca.crt"
	printf '{"auths":{"%s":{"auth":"%s"}}}' "$REG" "$(printf tester:secret | base64)" > "$work/judge/config.json"
}
crane() { DOCKER_CONFIG=$work/judge SSL_CERT_FILE=$work/ca/ca.crt "$work/bin/crane" "$@"; }
skopeo() { command skopeo "$@"; }

# Debian made by mmdebstrap, with this machine's ways to reach its packages.
make_base() {
	say "base image (mmdebstrap)"
	mmdebstrap --quiet --variant=minbase --include=ca-certificates,passwd "$(. /etc/os-release && echo "$VERSION_CODENAME")" "$work/rootfs" 2>"$work/base.log" || { tail -5 "$work/base.log"; fail mmdebstrap; }
	cp -a /etc/apt/apt.conf.d/. "$work/rootfs/etc/apt/apt.conf.d/"
	rm -f "$work/rootfs/etc/apt/apt.conf.d/"*packagekit* "$work/rootfs/etc/apt/apt.conf.d/"*appstream*
	if [ -d /etc/apt/sources.list.d ]; then cp -a /etc/apt/sources.list.d/. "$work/rootfs/etc/apt/sources.list.d/"; rm -f "$work/rootfs/etc/apt/sources.list"; fi
	[ ! -f /etc/apt/sources.list ] || cp /etc/apt/sources.list "$work/rootfs/etc/apt/"
	cp /etc/ssl/certs/ca-certificates.crt "$work/rootfs/etc/ssl/certs/ca-certificates.crt"
	rm -rf "$work/rootfs/var/cache/apt/"*.bin "$work/rootfs/var/lib/apt/lists/"*
	tar -C "$work/rootfs" --one-file-system --exclude=./dev/* -cf "$work/base.tar" .
	rm -rf "$work/rootfs"
	crane append --oci-empty-base -f "$work/base.tar" -t "$REG/base/debian:test" >/dev/null 2>&1
	crane mutate --set-platform "linux/$(go env GOARCH)" -e NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt \
		-e PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin -t "$REG/base/debian:test" "$REG/base/debian:test" >/dev/null 2>&1
	rm "$work/base.tar"
}

make_user() { # NAME RANGES
	useradd --create-home --home-dir "$work/home-$1" "$1"
	users+=("$1")
	sed -i "/^$1:/d" /etc/subuid /etc/subgid
	if [ "$2" = yes ]; then usermod --add-subuids 700000-765535 --add-subgids 700000-765535 "$1"; fi
}

# as MODE COMMAND…: runs a command as root or as one of the plain users.
as() {
	local mode=$1
	shift
	local docker=$work/docker-$mode
	case $mode in
	root) SINTER_ROOT=$work/store-root DOCKER_CONFIG=$docker "$@" ;;
	*) setpriv --reuid "$mode" --regid "$mode" --init-groups env -i PATH="$PATH" HOME="$work/home-$mode" DOCKER_CONFIG="$docker" "$@" ;;
	esac
}

build() { # MODE PROJECT LOG ARGS…
	local mode=$1 project=$2 log=$3
	shift 3
	as "$mode" "$sinter" build --registry-ca "$work/ca/ca.crt" --progress=plain --build-arg "BASE=$REG/base/debian:test" \
		--build-context "go=$(go env GOROOT)" -t "$REG/out/$project-$mode:1" "$@" "$work/src-$mode/$project" >"$log" 2>&1 ||
		{ tail -40 "$log"; fail "building $project as $mode"; }
}

ran() { sed -n 's/.*; \([0-9]*\) steps* ran.*/\1/p' "$1" | tail -1; }

edit() { # one line of a project's source
	case $2 in
	django) sed -i 's/the site runs/the changed site runs/' "$1/django/pages/templates/pages/home.html" ;;
	goservice) sed -i 's/hello, version/changed, version/' "$1/goservice/main.go" ;;
	web) sed -i 's/<title>/<title>changed /' "$1/web/src/index.mustache" ;;
	esac
}

agree() { # MODE PROJECT: other tools read the image and see the same
	local ref=$REG/out/$2-$1:1 dir=$work/judged
	rm -rf "$dir" && mkdir -p "$dir"
	crane validate --remote "$ref" >/dev/null || fail "crane validate $ref"
	local d1 d2
	d1=$(crane digest "$ref")
	d2=$(skopeo inspect --cert-dir "$work/certs/$REG" --creds tester:secret --format '{{.Digest}}' "docker://$ref")
	[ "$d1" = "$d2" ] || fail "digests: crane $d1, skopeo $d2"
	skopeo copy -q --src-cert-dir "$work/certs/$REG" --src-creds tester:secret "docker://$ref" "oci:$dir/oci:x"
	umoci unpack --image "$dir/oci:x" "$dir/umoci" >/dev/null 2>&1 || fail "umoci unpack $ref"
	mkdir "$dir/crane"
	crane export "$ref" - | tar -C "$dir/crane" -xf -
	buildah --root "$dir/b" --runroot "$dir/br" --storage-driver vfs pull -q --cert-dir "$work/certs/$REG" --creds tester:secret "docker://$ref" >/dev/null || fail "buildah pull $ref"
	local c m
	c=$(buildah --root "$dir/b" --runroot "$dir/br" --storage-driver vfs from "$ref")
	m=$(buildah --root "$dir/b" --runroot "$dir/br" --storage-driver vfs mount "$c")
	listing "$dir/umoci/rootfs" > "$dir/l1"
	listing "$dir/crane" > "$dir/l2"
	listing "$m" > "$dir/l3"
	cmp "$dir/l1" "$dir/l2" || fail "umoci and crane see other files in $ref"
	cmp "$dir/l1" "$dir/l3" || fail "umoci and buildah see other files in $ref"
	buildah --root "$dir/b" --runroot "$dir/br" --storage-driver vfs rm "$c" >/dev/null
	buildah --root "$dir/b" --runroot "$dir/br" --storage-driver vfs rmi -a -f >/dev/null 2>&1 || true
	rm -rf "$dir/b" "$dir/br" "$dir/crane"
}

listing() { (cd "$1" && find . -mindepth 1 -printf '%p %y %m %U:%G %l\n' | LC_ALL=C sort && find . -type f -print0 | LC_ALL=C sort -z | xargs -0r sha256sum); }

runs() { # MODE PROJECT: what came out works
	local root=$work/judged/umoci/rootfs
	case $2 in
	goservice) [ "$("$root/service" -once)" = "${3:-hello}, version unknown" ] || fail "the service said something else" ;;
	web) grep -q 'a bundle' "$root/index.html" || fail "the page is not rendered" ;;
	django)
		local port
		port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
		chroot --userspec=999:999 "$root" /bin/sh -c "cd /srv/site && exec python3 manage.py runserver --noreload 127.0.0.1:$port" >"$work/site.log" 2>&1 &
		site_pid=$!
		for _ in $(seq 100); do curl -sf "http://127.0.0.1:$port/" >"$work/page" 2>/dev/null && break; sleep 0.2; done
		grep -q "${3:-the site} runs as user 999" "$work/page" || { cat "$work/site.log"; fail "the site did not answer"; }
		curl -sf "http://127.0.0.1:$port/static/pages/style.css" | grep -q darkslategray || fail "no static files"
		kill $site_pid
		wait $site_pid 2>/dev/null || true
		site_pid= ;;
	esac
}

start_registry
prepare_judges
make_base
make_user sinterranges yes
make_user sintersingle no
for mode in root sinterranges sintersingle; do
	mkdir -p "$work/docker-$mode"
	cp -a "$here" "$work/src-$mode"
	[ "$mode" = root ] || chown -R "$mode:" "$work/docker-$mode" "$work/src-$mode"
	echo secret | as "$mode" "$sinter" login --registry-ca "$work/ca/ca.crt" -u tester --password-stdin "$REG" >/dev/null
	for project in "${projects[@]}"; do
		say "$project as $mode"
		build "$mode" "$project" "$work/log1" --push
		build "$mode" "$project" "$work/log2" --push
		[ "$(ran "$work/log2")" = 0 ] || { cat "$work/log2"; fail "the second build ran $(ran "$work/log2") steps"; }
		agree "$mode" "$project"
		runs "$mode" "$project"
		edit "$work/src-$mode" "$project"
		build "$mode" "$project" "$work/log3" --push
		n=$(ran "$work/log3")
		echo "   first $(ran "$work/log1") steps, again 0, after a change $n; $(grep -c . "$work/log1") lines"
		[ "$n" -gt 0 ] && [ "$n" -lt "$(ran "$work/log1")" ] || fail "after a change $n steps ran"
		! grep -qE 'RUN.*apt-get' <(grep -A1 DONE "$work/log3") || fail "packages were installed again"
		agree "$mode" "$project"
	done
	as "$mode" "$sinter" verify >/dev/null || fail "the store of $mode does not verify"
	as "$mode" "$sinter" prune --all --force >/dev/null
done
