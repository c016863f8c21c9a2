package provenance

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/buildkit/solver/llbsolver/provenance/types"

	"github.com/sinter-build/sinter/layers/hint"
)

// Options are the attributes of --attest type=provenance. The zero value is
// mode=min, version v1.
type Options struct {
	// Max records the steps, the Dockerfile, the layers and the build arguments as well.
	Max bool
	// Version is that of SLSA.
	Version types.ProvenanceSLSA
	// BuilderID is the URI of who builds; it may be empty.
	BuilderID string
	// Reproducible is the caller's word.
	Reproducible bool
	// Complete makes materials without a digest (directories of this machine) an error.
	Complete bool
	// File is the name in outputs that are files.
	File string
	// InlineOnly leaves the provenance out of outputs that are files, and of archives of
	// one platform.
	InlineOnly bool
}

// Default are the options of a build that does not say anything of provenance, as with
// buildx.
var Default = Options{Version: types.ProvenanceSLSA1, File: defaultFile, InlineOnly: true}

const defaultFile = "provenance.json"

// ParseOptions reads the attributes. Those of BuildKit that ask for what is not recorded
// are refused.
func ParseOptions(attrs map[string]string) (Options, error) {
	// Asked for without a mode, it is max, as in BuildKit.
	o := Options{Max: true, Version: types.ProvenanceSLSA1, File: defaultFile}
	for _, key := range slices.Sorted(maps.Keys(attrs)) {
		if err := o.set(key, attrs[key]); err != nil {
			return o, err
		}
	}
	return o, nil
}

func (o *Options) set(key, value string) error {
	switch key {
	case "mode":
		switch value {
		case "max", "full":
			o.Max = true
		case "min":
			o.Max = false
		default:
			return fmt.Errorf("mode=%s: want min or max", value)
		}
	case "version":
		o.Version = types.ProvenanceSLSA(value)
		if o.Version.Validate() != nil {
			return fmt.Errorf("version=%s: want v1 or v0.2", value)
		}
	case "builder-id":
		o.BuilderID = value
	case "filename":
		if value == "" || value != strings.ReplaceAll(value, "/", "") || value == "." || value == ".." {
			return fmt.Errorf("filename=%s: want the name of a file, without a directory", value)
		}
		o.File = value
	case "reproducible", "inline-only", "complete-materials":
		on, err := strconv.ParseBool(value)
		if err != nil {
			return fmt.Errorf("%s=%s: want true or false", key, value)
		}
		*map[string]*bool{"reproducible": &o.Reproducible, "inline-only": &o.InlineOnly, "complete-materials": &o.Complete}[key] = on
	case "capture-usage":
		if on, err := strconv.ParseBool(value); err != nil || on {
			return hint.Add(fmt.Errorf("%s=%s is not supported: the use of resources is not recorded in provenance", key, value),
				"leave it out; sinter builds shows what a build took")
		}
	case "min", "max":
		return hint.Add(fmt.Errorf("option %q is not known for type=provenance", key), "write mode="+key)
	default:
		return hint.Add(fmt.Errorf("option %q is not known for type=provenance", key),
			"the options are mode, version, builder-id, inline-only, reproducible, complete-materials, filename, attestation-manifest and disabled")
	}
	return nil
}
