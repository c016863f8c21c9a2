package parser

import (
	"context"
	"slices"
	"testing"

	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/moby/buildkit/frontend/dockerui"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// onlyBase answers for one image.
type onlyBase struct {
	*evaluation
	t *testing.T
}

func (b onlyBase) ResolveImageConfig(_ context.Context, ref string, opt sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	config := []byte(`{"os":"linux","architecture":"amd64","config":{"Env":["PATH=/bin","A=base"],"OnBuild":["ENV T=$A-$PATH","ARG U=${T%base*}"]},"rootfs":{"type":"layers","diff_ids":["sha256:` + digest.FromString("x").Encoded() + `"]}}`)
	return ref, "", config, b.answered(imageKey(ref, opt.ImageOpt.Platform), config)
}

// TestEvaluationIsExact: the evaluation gives variables the values that the frontend
// gives them.
func TestEvaluationIsExact(t *testing.T) {
	const text = "# escape=`\n" + `ARG G=global
ARG H=${G}-h
ARG GIVEN=default
ARG IMAGE=base
FROM ${IMAGE} AS one
ARG G H GIVEN TARGETARCH TARGETSTAGE NONE LATE=${G}x${LATE:-y}
ENV A=$A$A B='$A' C="$A 'q'" D=` + "`" + `$A E=${A#b} F=${A%%s*} I=${A/a/[b]} J=${A//?/$G} K=${N:-${O:+x}$G} L=${G:+<${A}>}
ENV A=$A:$B Q${A}=1
ENV S legacy $A
ENV V=$GIVEN$TARGETARCH$TARGETSTAGE$NONE$LATE$T$U
ONBUILD ENV X=$A$V
ONBUILD ARG A=again$A
FROM one AS Two
ENV Y=$X$A$G
FROM two
ENV Z=$A$X$Y$H
`
	f := &frontend{opts: map[string]string{}, platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}}
	client, err := dockerui.NewClient(f)
	if err != nil {
		t.Fatal(err)
	}
	client.BuildArgs = map[string]string{"GIVEN": "given"}
	e := &entry{client: client, source: &dockerui.Source{}, text: []byte(text)}
	v, err := f.evaluate(e, &f.platform, false)
	if err != nil {
		t.Fatal(err)
	}
	config := client.Config
	res, err := dockerfile2llb.Dockerfile2LLB(t.Context(), e.text, dockerfile2llb.ConvertOpt{
		Config: config, MetaResolver: onlyBase{v, t}, TargetPlatform: &f.platform,
	})
	if err != nil {
		t.Fatal(err)
	}
	env, err := res.State.Env(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	own := v.stages[len(v.stages)-1].vars
	for _, name := range env.Keys() {
		want, _ := env.Get(name)
		if got := own.values[name]; got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	size := 0
	for name, value := range own.values {
		if size += len(name) + len(value); !slices.Contains(env.Keys(), name) {
			t.Errorf("%s is defined", name)
		}
	}
	if own.open || own.size != size || len(own.values) < 20 {
		t.Errorf("%d variables of %d bytes, counted %d; open: %t", len(own.values), size, own.size, own.open)
	}
}
