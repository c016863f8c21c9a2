package parser

import (
	"bytes"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Graph is what a Dockerfile asks for: every node that the targets need, in
// topological order (a node's inputs come before it). It is immutable and
// holds no LLB type.
type Graph struct {
	Nodes   []*Node
	Targets []Target
	// Files are the texts that Ranges refer to (the Dockerfile, mostly).
	Files []SourceFile
	// args returns the names of build arguments.
	args func() map[string]bool
	// redact hides secrets in texts; nil of a graph that was not parsed.
	redact func(string) string
	asked  Asked
}

// IsArg reports whether a variable is a build argument: whether an ARG of the Dockerfile
// has its name.
func (g *Graph) IsArg(name string) bool { return g.args != nil && g.args()[name] }

// Text returns the instruction that a node comes from as it is written, before variables
// are expanded, but on one line, with one space between words and without comments; ""
// where that is not known. Triggers of a base image have none.
func (g *Graph) Text(n *Node) string {
	if len(n.Pos) == 0 || n.Pos[0].File >= len(g.Files) {
		return ""
	}
	at := n.Pos[0]
	lines := bytes.SplitAfter(g.Files[at.File].Data, []byte("\n"))
	if at.Start.Line < 1 || at.End.Line > len(lines) || at.Start.Line > at.End.Line {
		return ""
	}
	var words []string
	continued := false
	for _, line := range lines[at.Start.Line-1 : at.End.Line] {
		text := strings.TrimSpace(string(line))
		if continued && strings.HasPrefix(text, "#") {
			continue
		}
		text, continued = strings.CutSuffix(text, `\`)
		words = append(words, strings.Fields(text)...)
	}
	if len(words) > 0 && strings.EqualFold(words[0], "FROM") {
		return ""
	}
	return onOneLine(strings.Join(words, " "))
}

// Below returns the nodes that a target needs, in the order of the graph.
func (g *Graph) Below(t Target) []*Node {
	needed := map[*Node]bool{t.Node: true}
	// A node's inputs come before it.
	for _, n := range slices.Backward(g.Nodes) {
		if !needed[n] {
			continue
		}
		for _, in := range n.Inputs {
			needed[in.Node] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(g.Nodes), func(n *Node) bool { return !needed[n] })
}

// SourceFile is a text with positions in it.
type SourceFile struct {
	Name string
	Data []byte
}

// Target is one image to be made: one for each platform asked for.
type Target struct {
	Platform ocispec.Platform
	// Node yields the root file system; nil for an image without any layer
	// (FROM scratch and nothing else).
	Node *Node
	// Output of Node that is the root (nearly always 0).
	Output int
	// Config is the image config as JSON, as the frontend made it: config
	// and history are complete but for the times of history entries and
	// rootfs, which only the builder knows.
	Config []byte
	// BaseConfig is the config of the base image (JSON), if any.
	BaseConfig []byte
	// Epoch is SOURCE_DATE_EPOCH in seconds, when one was given.
	Epoch *int64
	// Scan yields the lists of the packages in the image, when these were asked for: an
	// in-toto statement in each file of ScanDir.
	Scan Input

	definition *definition
}

// Node is one step.
type Node struct {
	// ID is unique in the graph and stable for the same definition; it is
	// for display, not a cache key.
	ID     digest.Digest
	Op     Op
	Inputs []Input
	// Name is what the user sees, such as "[build 3/7] RUN go build": one line without
	// secrets (Graph.Redact) and without control characters.
	Name string
	// Written is the name with its secrets.
	Written string
	// Pos are the places in Graph.Files that the step comes from.
	Pos []Range
	// Platform that the step is for; zero when it does not matter (local
	// directories, file actions, merges).
	Platform ocispec.Platform
	// NoCache: run the step even when its result is known (--no-cache).
	NoCache bool
	// Internal nodes (loading the Dockerfile, .dockerignore) are marked as
	// such in the display.
	Internal bool
	// Group joins nodes that are shown as one ("COPY --link"); may be "".
	Group, GroupName string
}

// Input is one output of another node.
type Input struct {
	Node   *Node
	Output int
}

// Range is a span of lines (1-based, both ends included) in Graph.Files[File].
type Range struct {
	File       int
	Start, End Position
}

// Position is a line (1-based) and a column (0-based, in bytes).
type Position struct{ Line, Character int }

// Op is what a step does: one of Image, Local, Git, HTTP, OCILayout, Exec,
// FileOp, Merge, Diff. Ops are data; the builder has one switch over them.
type Op interface{ op() }

// Image is a root file system from a registry or the store.
type Image struct {
	// Ref is the full reference, with its digest when it has been
	// resolved: docker.io/library/debian:12@sha256:…
	Ref string
	// LayerLimit keeps only the first n layers; 0 means all.
	LayerLimit int
	// Checksum that the manifest must have, when asked for.
	Checksum digest.Digest
}

// OCILayout is a root file system from an OCI layout on disk.
type OCILayout struct {
	// StoreID names the layout among the named contexts; Ref is the
	// digest reference inside it.
	StoreID    string
	Ref        string
	LayerLimit int
}

// Local is a directory of the user's: the build context or a named context.
type Local struct {
	// Name is "context", "dockerfile" or a named context's key.
	Name string
	// Include and FollowPaths limit what is looked at, when there are any.
	// FollowPaths may hold wildcards; symlinks on their way are followed,
	// and what they lead to is included. Exclude are the ignore rules (in
	// .dockerignore's syntax).
	Include, Exclude, FollowPaths []string
}

// Git is a repository's content at a commit.
type Git struct {
	// Remote is host/path, the same for every protocol; FullURL is what was
	// asked for. Ref is a branch, tag or commit; "" is the default branch.
	Remote, Ref, Subdir string
	KeepGitDir          bool
	SkipSubmodules      bool
	Checksum            string
	AuthTokenSecret     string
	AuthHeaderSecret    string
	KnownSSHHosts       string
	MountSSHSock        string
	FullURL             string
	// Attrs are BuildKit's other attributes, by their names in its
	// solver/pb/attr.go ("git.mtime", …).
	Attrs map[string]string
}

// HTTP is one downloaded file.
type HTTP struct {
	URL              string
	Checksum         digest.Digest
	Filename         string
	Perm             *uint32
	UID, GID         *int
	AuthHeaderSecret string
	Attrs            map[string]string
}

// Exec runs a command.
type Exec struct {
	Args, Env      []string
	Cwd, User      string
	Hostname       string
	ExtraHosts     []Host
	Ulimits        []Ulimit
	CgroupParent   string
	Network        NetMode
	Insecure       bool
	Mounts         []Mount
	SecretEnv      []SecretEnv
	Proxy          Proxy
	ValidExitCodes []int
	Resources      Resources
	Devices        []Device
}

// NetMode is the network that a command sees.
type NetMode string

// The network modes: the default one, the host's, none but loopback.
const (
	NetDefault NetMode = "default"
	NetHost    NetMode = "host"
	NetNone    NetMode = "none"
)

// Host is a line for /etc/hosts.
type Host struct{ Name, IP string }

// Ulimit is a resource limit by its docker name (nofile, nproc, …).
type Ulimit struct {
	Name       string
	Soft, Hard int64
}

// Proxy variables given to the command; they are no part of any key.
type Proxy struct{ HTTP, HTTPS, FTP, No, All string }

// Resources are limits for the command's cgroup; zero means none.
type Resources struct {
	Memory, MemorySwap     int64
	CPUShares, CPUPeriod   uint64
	CPUQuota               int64
	CPUSetCPUs, CPUSetMems string
}

// Device asks for a CDI device.
type Device struct {
	Name     string
	Optional bool
}

// SecretEnv puts a secret into an environment variable.
type SecretEnv struct {
	ID, Name string
	Optional bool
}

// MountType is the kind of a RUN mount.
type MountType string

// The mount types of RUN --mount.
const (
	MountBind   MountType = "bind"
	MountCache  MountType = "cache"
	MountTmpfs  MountType = "tmpfs"
	MountSecret MountType = "secret"
	MountSSH    MountType = "ssh"
)

// Mount is one mount of an Exec. The root file system is the mount with
// Dest "/".
type Mount struct {
	Type MountType
	Dest string
	// Input is an index into Node.Inputs, or -1 for an empty directory.
	Input int
	// Output is the node's output that holds what was written, or -1 when
	// that is thrown away.
	Output int
	// Selector is the path inside the input that is mounted.
	Selector string
	ReadOnly bool
	// CacheID and Sharing ("shared", "private", "locked") are for MountCache.
	CacheID, Sharing string
	// TmpfsSize is in bytes; 0 means no limit.
	TmpfsSize int64
	// SecretID, UID, GID, Mode and Optional are for MountSecret and MountSSH
	// (where SecretID is the agent's id, "default" if none was given).
	SecretID string
	UID, GID int
	Mode     uint32
	Optional bool
}

// FileOp is a list of file actions. Actions refer to inputs by index:
// 0 ≤ i < len(Node.Inputs) is Node.Inputs[i]; len(Node.Inputs)+j is the result
// of action j; -1 is the empty file system.
type FileOp struct {
	Actions []FileAction
}

// FileAction is one action and what it works on.
type FileAction struct {
	// Input is the file system to change, Secondary the one to copy from
	// (Copy only, else -1). Output is the node's output index, or -1.
	Input, Secondary, Output int
	Action                   Action
}

// Action is one of Copy, Mkdir, Mkfile, MkSymlink, Remove.
type Action interface{ action() }

// Copy copies files from the secondary input.
type Copy struct {
	Src, Dest string
	Owner     *Owner
	// Mode as docker's --chmod gives it, octal ("0644") or symbolic
	// ("u=rwX,go=rX"); "" keeps the source's.
	Mode               string
	FollowSymlinks     bool
	DirContents        bool
	Unpack             bool
	CreateDestPath     bool
	AllowWildcard      bool
	AllowEmptyWildcard bool
	AlwaysReplace      bool
	Include, Exclude   []string
	RequiredPaths      []string
	Timestamp          *int64 // nanoseconds since the epoch; nil keeps the source's
}

// Mkdir makes a directory.
type Mkdir struct {
	Path        string
	Mode        uint32
	MakeParents bool
	Owner       *Owner
	Timestamp   *int64
}

// Mkfile writes a file.
type Mkfile struct {
	Path      string
	Mode      uint32
	Data      []byte
	Owner     *Owner
	Timestamp *int64
}

// MkSymlink makes a symlink at New that points to Old.
type MkSymlink struct {
	Old, New  string
	Owner     *Owner
	Timestamp *int64
}

// Remove removes a path.
type Remove struct {
	Path          string
	AllowNotFound bool
	AllowWildcard bool
}

// Owner says who owns what an action makes.
type Owner struct{ User, Group *ID }

// ID is a user or group by number, or by name in the passwd/group of an input
// (an input index as in FileAction.Input).
type ID struct {
	Number int
	Name   string
	Input  int
}

// Merge lays its inputs over one another, the first lowest (COPY --link).
type Merge struct{}

// Diff is what Inputs[1] has over Inputs[0]; a missing side (nil node) is
// empty.
type Diff struct{ HasLower, HasUpper bool }

func (Image) op()     {}
func (OCILayout) op() {}
func (Local) op()     {}
func (Git) op()       {}
func (HTTP) op()      {}
func (Exec) op()      {}
func (FileOp) op()    {}
func (Merge) op()     {}
func (Diff) op()      {}

func (Copy) action()      {}
func (Mkdir) action()     {}
func (Mkfile) action()    {}
func (MkSymlink) action() {}
func (Remove) action()    {}
