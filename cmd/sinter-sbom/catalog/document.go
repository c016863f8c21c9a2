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
	doc.DocumentNamespace = namespace + url.PathEscape(opt.Name) + "-" + noID
	return identified(doc)
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
	bom.SerialNumber = "urn:uuid:" + noID
	return identified(bom)
}

// noID stands for the ID of a document until that is known.
const noID = "00000000-0000-8000-8000-000000000000"

// identified returns a document as JSON. Its ID, a UUID of version 8, is made of all
// else that it says.
func identified(doc any) (json.RawMessage, error) {
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
	// It has the same length, and the document has noID once.
	copy(data[bytes.Index(data, []byte(noID)):], id)
	return data, nil
}
