package parser

import (
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Request is what a build is asked for. The zero value builds the last stage
// of Dockerfile in the local "dockerfile" with the local "context".
type Request struct {
	// Dockerfile is the path inside the local named "dockerfile" (or inside
	// Context, when that is given); "" means Dockerfile.
	Dockerfile string
	// Shown is what people call the Dockerfile, as the path that they gave;
	// "" means its own name.
	Shown string
	// LocalDockerfile takes the Dockerfile from the local named "dockerfile"
	// even when Context is given (as -f does with a remote context).
	LocalDockerfile bool
	// LoneDockerfile says that nothing else is in that local, since the Dockerfile
	// is from standard input or a server. Provenance tells of it, as buildx does.
	LoneDockerfile bool
	// Policy decides about sources; nil allows all.
	Policy Policy
	// Context is a git or http(s) URL to be used in place of the local
	// named "context"; ContextSubdir is a directory inside it.
	Context, ContextSubdir string
	// Contexts are named contexts in the frontend's spelling: "local:NAME"
	// (a local for the Resolver), "docker-image://REF",
	// "oci-layout://STORE@sha256:…", a git or http(s) URL, or
	// "target:NAME", another target of the same Dockerfile. A name may end
	// in "::PLATFORM".
	Contexts map[string]string
	// From is an image in place of that of the first FROM; "" keeps it.
	From string
	// Target is a stage's name or number; "" is the last stage.
	Target string

	// BuildArgs are the values of ARGs, and of BuildKit's own BUILDKIT_…
	// settings. BUILDKIT_SYNTAX names the frontend; only Docker's own
	// Dockerfile frontend, which is built in, is known.
	BuildArgs map[string]string
	// Labels are added to the image's config.
	Labels map[string]string

	// Platforms asked for, in the order of Graph.Targets. Empty means
	// BuildPlatform.
	Platforms []ocispec.Platform
	// BuildPlatform is the platform of this machine; the zero value means
	// the one that this program was compiled for.
	BuildPlatform ocispec.Platform
	// MultiPlatform says that an image index is made, even of one platform.
	MultiPlatform bool

	// NoCache makes every step run. NoCacheFilter does so for the stages
	// of these names only.
	NoCache       bool
	NoCacheFilter []string
	// Pull asks for new image metadata even if the store has an answer.
	Pull bool

	// Network is that of every RUN that does not say otherwise; "" means
	// NetDefault.
	Network NetMode
	// AddHosts are lines for /etc/hosts of every RUN.
	AddHosts []Host
	// ShmSize is the size of /dev/shm in bytes; 0 means the default.
	ShmSize int64
	Ulimits []Ulimit
	// CgroupParent is the cgroup in which each RUN's cgroup is made.
	CgroupParent string
	// Hostname that each RUN sees; "" means the default.
	Hostname string
	// Resources limit each RUN; they are no part of what is built.
	Resources Resources

	// SBOM asks for lists of packages; nil for none.
	SBOM *SBOM

	// Epoch is SOURCE_DATE_EPOCH: seconds since 1970, or "context" (the
	// time of the git or http context's commit); "" means none. A build
	// argument of that name wins.
	Epoch string
	// Check is the configuration of the build checks in the spelling of
	// "# check=" ("skip=all;error=true"); "" means the Dockerfile's own. A
	// build argument BUILDKIT_DOCKERFILE_CHECK wins.
	Check string
}
