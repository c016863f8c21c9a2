package main

import (
	"slices"

	"github.com/spf13/cobra"
)

// otherFlags are flags of Buildah and Kaniko that sinter does not have, with
// its own way to the same end.
type otherFlags struct {
	way   string
	names []string
}

// otherWay returns what to do in place of giving a command a flag that it does
// not know; "" when nothing is known of the flag either.
func otherWay(c *cobra.Command, name string) string {
	lists := transferFlags()
	if c.Name() == "build" {
		lists = append(lists, buildahFlags()...)
		lists = append(lists, kanikoFlags()...)
	}
	for _, l := range lists {
		if slices.Contains(l.names, name) {
			return l.way
		}
	}
	return ""
}

// transferFlags stand for every command that may ask a registry or open the store.
func transferFlags() []otherFlags {
	return []otherFlags{
		{"TLS is verified unless the registry is named with --registry-insecure HOST", []string{
			"insecure", "insecure-pull", "insecure-registry", "skip-tls-verify", "skip-tls-verify-pull", "skip-tls-verify-registry",
		}},
		{"give a registry's CA with --registry-ca FILE, or as /etc/docker/certs.d/HOST/ca.crt", []string{"cert-dir", "registry-certificate"}},
		{"store credentials with sinter login HOST, or name the directory of config.json with --config DIR", []string{"authfile", "creds"}},
		{"retries are set with --retry N and --retry-delay PAUSE", []string{"push-retry", "image-download-retry"}},
		{"name the store's directory with --root DIR or $SINTER_ROOT; it needs no driver", []string{
			"storage-driver", "storage-opt", "runroot", "imagestore",
		}},
		{"sinter does not check or make signatures: leave it out", []string{"sign-by", "signature-policy"}},
	}
}

func buildahFlags() []otherFlags {
	return []otherFlags{
		{"the user namespace is made as /etc/subuid and /etc/subgid say: leave it out", []string{
			"userns", "userns-uid-map", "userns-gid-map", "userns-uid-map-user", "userns-gid-map-group",
		}},
		{"RUN has a sandbox and namespaces of its own, and no runtime to choose: leave it out", []string{
			"runtime", "runtime-flag", "pid", "ipc", "uts", "hooks-dir", "group-add",
		}},
		{"privileges are given with RUN --security=insecure in the Dockerfile, and --allow security.insecure", []string{"cap-add", "cap-drop"}},
		{"devices are given with RUN --device in the Dockerfile, and --allow device", []string{"device"}},
		{"name the image with -t: several platforms make an index of it", []string{"manifest"}},
		{"write --platform OS/ARCHITECTURE[/VARIANT]", []string{"arch", "os", "variant", "all-platforms", "custom-platform", "customPlatform"}},
		{"write it as ENV in the Dockerfile", []string{"env", "unsetenv"}},
		{"write --add-host NAME:ADDRESS for names that RUN is to know", []string{"dns", "dns-option", "dns-search", "no-hosts"}},
		{"write --timestamp SECONDS, or -o type=image,rewrite-timestamp=true", []string{"source-date-epoch", "rewrite-timestamp"}},
		{"write --squash", []string{"squash-all"}},
		{"redirect standard error: 2>FILE", []string{"logfile", "logsplit"}},
	}
}

func kanikoFlags() []otherFlags {
	return []otherFlags{
		{"write -t NAME --push", []string{"destination"}},
		{"write -f FILE, which is looked for from the current directory", []string{"dockerfile"}},
		{"write the directory as the context: sinter build DIR", []string{"context-sub-path"}},
		{"an image is pushed only with --push: leave it out", []string{"no-push"}},
		{"steps are cached in the store, unless --no-cache is given: leave it out, and keep the store (SINTER_ROOT) between runs", []string{
			"cache", "cache-dir", "cache-repo", "cache-ttl", "cache-copy-layers", "cache-run-layers", "compressed-caching", "no-push-cache",
		}},
		{"write --squash for one layer", []string{"single-snapshot"}},
		{"changes are found by an overlay, and nothing outside it is touched: leave it out", []string{
			"snapshot-mode", "use-new-run", "cleanup", "force", "ignore-path", "ignore-var-run", "whitelist-var-run", "kaniko-dir", "image-fs-extract-retry",
		}},
		{"only the stages that the target needs are built: leave it out", []string{"skip-unused-stages"}},
		{"write -o type=docker,dest=FILE", []string{"tar-path", "tarPath"}},
		{"write -o type=oci,dest=DIR,tar=false", []string{"oci-layout-path"}},
		{"write --digest-file FILE, or --metadata-file FILE for names too", []string{"image-name-with-digest-file", "image-name-tag-with-digest-file"}},
		{"set SOURCE_DATE_EPOCH, or write --timestamp SECONDS", []string{"reproducible"}},
		{"write the ref and the directory in the address: https://HOST/REPO.git#REF:DIR", []string{"git"}},
		{"write --progress plain or --progress quiet", []string{"verbosity", "log-format", "log-timestamp"}},
	}
}
