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
	doc.CreationInfo.Created = noTime
	tool, scanner := &doc.CreationInfo.Creators[1], &doc.CreationInfo.Creators[0]
	scanner.CreatorType, scanner.Creator = tool.CreatorType, "syft-"+SyftVersion()
	sort.Slice(doc.Relationships, func(i, j int) bool {
		a, b := doc.Relationships[i], doc.Relationships[j]
		return cmp.Or(cmp.Compare(a.RefA.ElementRefID, b.RefA.ElementRefID), cmp.Compare(a.Relationship, b.Relationship),
			cmp.Compare(a.RefB.ElementRefID, b.RefB.ElementRefID), cmp.Compare(a.RelationshipComment, b.RelationshipComment)) < 0
	})
	doc.DocumentNamespace = namespace + url.PathEscape(opt.Name) + "-" + noID
	return identified(doc, opt.Created)
}

func cycloneDX(s *syftsbom.SBOM, opt Options) (json.RawMessage, error) {
	bom := cyclonedxhelpers.ToFormatModel(*s)
	bom.Metadata.Timestamp = noTime
	if bom.Dependencies != nil {
		all := *bom.Dependencies
		for _, d := range all {
			if d.Dependencies != nil {
				slices.Sort(*d.Dependencies)
			}
		}
		sort.Slice(all, func(i, j int) bool { return all[i].Ref < all[j].Ref })
	}
	bom.SerialNumber = "urn:uuid:" + noID
	return identified(bom, opt.Created)
}

// noID stands for the ID of a document until that is known, noTime for its time.
const (
	noID   = "00000000-0000-8000-8000-000000000000"
	noTime = "0001-01-01T00:00:00Z"
)

// identified returns a document of this time as JSON. Its ID, a UUID of version 8, is made
// of all else that it says but the time, which a build with an epoch sets back.
func identified(doc any, created time.Time) (json.RawMessage, error) {
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	if err := e.Encode(doc); err != nil {
		return nil, err
	}
	data := bytes.TrimSpace(text.Bytes())
	h := []byte(digest.FromBytes(data).Encoded()[:32])
	h[12], h[16] = '8', '8'
	id := fmt.Sprintf("%s-%s-%s-%s-%s", h[:8], h[8:12], h[12:16], h[16:20], h[20:])
	// Both have the length of what stands for them, and the document has that once.
	copy(data[bytes.Index(data, []byte(noID)):], id)
	copy(data[bytes.Index(data, []byte(`"`+noTime+`"`))+1:], created.UTC().Format(time.RFC3339))
	return data, nil
}
