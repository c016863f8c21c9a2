package catalog

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"sort"
	"time"

	"github.com/anchore/syft/syft/format/common/cyclonedxhelpers"
	"github.com/anchore/syft/syft/format/common/spdxhelpers"
	syftsbom "github.com/anchore/syft/syft/sbom"
	"github.com/opencontainers/go-digest"

	"github.com/sinter-build/sinter/builder/sbom"
)

// namespace begins the names of SPDX documents.
const namespace = "https://github.com/sinter-build/sinter/sbom/"

// document writes what was found so that the same has the same bytes: syft's own
// documents have the time at which they were written, and random names.
func document(s *syftsbom.SBOM, opt Options) (json.RawMessage, error) {
	if opt.Format == sbom.CycloneDX {
		return cycloneDX(s, opt)
	}
	return spdx(s, opt)
}

func spdx(s *syftsbom.SBOM, opt Options) (json.RawMessage, error) {
	doc := spdxhelpers.ToFormatModel(*s)
	doc.CreationInfo.Created = opt.Created.UTC().Format(time.RFC3339)
	tool, scanner := &doc.CreationInfo.Creators[1], &doc.CreationInfo.Creators[0]
	scanner.CreatorType, scanner.Creator = tool.CreatorType, "syft-"+SyftVersion()
	sort.Slice(doc.Relationships, func(i, j int) bool {
		a, b := doc.Relationships[i], doc.Relationships[j]
		return cmp.Or(cmp.Compare(a.RefA.ElementRefID, b.RefA.ElementRefID), cmp.Compare(a.Relationship, b.Relationship),
			cmp.Compare(a.RefB.ElementRefID, b.RefB.ElementRefID), cmp.Compare(a.RelationshipComment, b.RelationshipComment)) < 0
	})
	doc.DocumentNamespace = ""
	id, err := identity(doc)
	if err != nil {
		return nil, err
	}
	doc.DocumentNamespace = namespace + url.PathEscape(opt.Name) + "-" + id
	return marshal(doc)
}

func cycloneDX(s *syftsbom.SBOM, opt Options) (json.RawMessage, error) {
	bom := cyclonedxhelpers.ToFormatModel(*s)
	bom.Metadata.Timestamp = opt.Created.UTC().Format(time.RFC3339)
	if bom.Dependencies != nil {
		all := *bom.Dependencies
		for _, d := range all {
			if d.Dependencies != nil {
				slices.Sort(*d.Dependencies)
			}
		}
		sort.Slice(all, func(i, j int) bool { return all[i].Ref < all[j].Ref })
	}
	bom.SerialNumber = ""
	id, err := identity(bom)
	if err != nil {
		return nil, err
	}
	bom.SerialNumber = "urn:uuid:" + id
	return marshal(bom)
}

// identity returns a UUID (version 8) that is made of what v is as JSON.
func identity(v any) (string, error) {
	data, err := marshal(v)
	if err != nil {
		return "", err
	}
	h := []byte(digest.FromBytes(data).Encoded()[:32])
	h[12], h[16] = '8', '8'
	return fmt.Sprintf("%s-%s-%s-%s-%s", h[:8], h[8:12], h[12:16], h[16:20], h[20:]), nil
}

func marshal(v any) (json.RawMessage, error) {
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimSpace(text.Bytes()), err
}
