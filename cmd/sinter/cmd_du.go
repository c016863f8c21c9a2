package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/docker/go-units"
	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"github.com/sinter-build/sinter/builder/gc"
	"github.com/sinter-build/sinter/cache"
)

type duFlags struct {
	format  string
	verbose bool
}

func newDuCmd(a *app) *cobra.Command {
	f := &duFlags{}
	c := &cobra.Command{
		Use:   "du [flags]",
		Short: "Show how much disk space images and cache take",
		Long: `Show how much disk space images and cache take. RECLAIMABLE is what sinter prune
would free.`,
		Args: exactArgs(0),
		RunE: func(c *cobra.Command, _ []string) error {
			// Files of other users cannot be measured without.
			if done, err := a.reexec(c.Context(), nil); done || err != nil {
				return err
			}
			return a.diskUsage(c.Context(), f)
		},
	}
	c.Flags().StringVar(&f.format, "format", "", fmt.Sprintf(formatUsage, "Size"))
	c.Flags().BoolVarP(&f.verbose, "verbose", "v", false, "list every step, layer, cache mount and download")
	return c
}

func (a *app) diskUsage(ctx context.Context, f *duFlags) error {
	return a.readLibrary(ctx, func(lib library) error {
		stock, err := gc.Take(ctx, lib.Env)
		if err != nil {
			return err
		}
		plan := stock.Plan(gc.Options{})
		if f.verbose {
			return pieceListing(f.format, "ID", "Type", "Reclaimable", "Size", "LastUsed", "Description").print(a.stdout, pieces(stock, plan))
		}
		return listing{format: f.format, headers: row{
			"Type": "TYPE", "TotalCount": "TOTAL", "Active": "ACTIVE", "Size": "SIZE", "Reclaimable": "RECLAIMABLE",
		}, table: []string{"Type", "TotalCount", "Active", "Size", "Reclaimable"}}.print(a.stdout, totals(stock, plan))
	})
}

// pieceListing lists pieces of the cache.
func pieceListing(format string, table ...string) listing {
	return listing{format: format, headers: row{
		"ID": "ID", "Type": "TYPE", "Reclaimable": "RECLAIMABLE", "Size": "SIZE", "LastUsed": "LAST USED", "Description": "DESCRIPTION",
	}, table: table}
}

// totals sums up images with their blobs and what refers to them, the rest of the cache,
// cache mounts, and what came from the web and from repositories.
func totals(s *gc.Stock, p *gc.Plan) []row {
	ofImages := map[digest.Digest]bool{}
	for _, img := range s.Images {
		for d := range img.Blobs {
			ofImages[d] = true
		}
	}
	all := gc.Plan{
		Records: s.Records, Layers: s.Layers, Blobs: s.Blobs, Mounts: s.Mounts, Downloads: s.Downloads, Notes: s.Notes, Builds: s.Builds,
		Referrers: s.Referrers,
	}
	sizes, reclaimable := sizesOf(all, ofImages), sizesOf(*p, ofImages)
	images, activeImages := countImages(s.Images, p.Images)
	var rows []row
	for i, t := range []struct {
		kind          string
		count, active int
	}{
		{"Images", images, activeImages},
		{"Build cache", gc.Steps(s.Records), gc.Steps(s.Records) - gc.Steps(p.Records)},
		{"Cache mounts", len(s.Mounts), len(s.Mounts) - len(p.Mounts)},
		{"Downloads", len(s.Downloads), len(s.Downloads) - len(p.Downloads)},
	} {
		rows = append(rows, row{
			"Type": t.kind, "TotalCount": strconv.Itoa(t.count), "Active": strconv.Itoa(t.active), "Size": humanSize(sizes[i]),
			"Reclaimable": fmt.Sprintf("%s (%d%%)", humanSize(reclaimable[i]), reclaimable[i]*100/max(sizes[i], 1)),
		})
	}
	return rows
}

// sizesOf returns how many bytes the blobs of images and of their referrers take, the rest
// of the cache, cache mounts and downloads.
func sizesOf(p gc.Plan, ofImages map[digest.Digest]bool) [4]int64 {
	images, cached := gc.Plan{Referrers: p.Referrers}, gc.Plan{Records: p.Records, Layers: p.Layers, Notes: p.Notes, Builds: p.Builds}
	for _, b := range p.Blobs {
		if ofImages[b.Digest] {
			images.Blobs = append(images.Blobs, b)
		} else {
			cached.Blobs = append(cached.Blobs, b)
		}
	}
	mounts, downloads := gc.Plan{Mounts: p.Mounts}, gc.Plan{Downloads: p.Downloads}
	return [4]int64{images.Freed(), cached.Freed(), mounts.Freed(), downloads.Freed()}
}

// countImages counts images, each once however many names it has. An image is active
// if one of its names is used.
func countImages(all, unused []gc.Image) (count, active int) {
	names := map[digest.Digest]int{}
	for _, img := range all {
		names[img.Desc.Digest]++
	}
	count, active = len(names), len(names)
	for _, img := range unused {
		if names[img.Desc.Digest]--; names[img.Desc.Digest] == 0 {
			active--
		}
	}
	return count, active
}

// kindOf says what a record is about.
func kindOf(r *cache.Record) string {
	if r.Kind == cache.Step {
		return "step"
	}
	return string(r.Kind)
}

// pieces lists steps, first builds of images, layers, mounts and downloads, the last used first.
func pieces(s *gc.Stock, p *gc.Plan) []row {
	type piece struct {
		row
		used time.Time
	}
	var list []piece
	add := func(kind, id, description string, size int64, used time.Time, reclaimable bool) {
		list = append(list, piece{row{
			"ID": id, "Type": kind, "Reclaimable": strconv.FormatBool(reclaimable), "Size": humanSize(size),
			"LastUsed": units.HumanDuration(time.Since(used)) + " ago", "Description": description,
		}, used})
	}
	goes := map[string]bool{}
	for _, r := range p.Records {
		goes[r.Record.Key.String()] = true
	}
	for _, l := range p.Layers {
		goes[string(l.Layer.ID)] = true
	}
	for _, f := range append(p.Mounts[:len(p.Mounts):len(p.Mounts)], p.Downloads...) {
		goes[f.Path] = true
	}
	for _, r := range s.Records {
		key := r.Record.Key.String()
		add(kindOf(r.Record), key[:12], r.Record.Name, r.Size, r.Used, goes[key])
	}
	for _, l := range s.Layers {
		id := string(l.Layer.ID)
		add("layer", id[:min(len(id), 16)], l.Layer.DiffID.String(), l.Size, l.Used, goes[id])
	}
	for _, m := range s.Mounts {
		id := filepath.Base(m.Path)
		add("mount", id[:min(len(id), 12)], "RUN --mount=type=cache", m.Size, m.Used, goes[m.Path])
	}
	for _, d := range s.Downloads {
		id := filepath.Base(d.Path)
		add("download", id[:min(len(id), 12)], d.From, d.Size, d.Used, goes[d.Path])
	}
	slices.SortStableFunc(list, func(a, b piece) int { return b.used.Compare(a.used) })
	rows := make([]row, len(list))
	for i, x := range list {
		rows[i] = x.row
	}
	return rows
}
