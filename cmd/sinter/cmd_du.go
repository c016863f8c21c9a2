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
		Short: "Show how much room images and cache take",
		Long: `Show how much room images and cache take. RECLAIMABLE is what sinter prune would
free.`,
		Args: exactArgs(0),
		RunE: func(c *cobra.Command, _ []string) error {
			// Files of other users cannot be measured without.
			if done, err := a.needPrivileges(c.Context()); done || err != nil {
				return err
			}
			return a.diskUsage(c.Context(), f)
		},
	}
	c.Flags().StringVar(&f.format, "format", "", fmt.Sprintf(formatUsage, "Size"))
	c.Flags().BoolVarP(&f.verbose, "verbose", "v", false, "list every piece of the cache")
	return c
}

func (a *app) collectEnv() (env gc.Env, err error) {
	if env.Store, err = a.store(); err != nil {
		return env, err
	}
	if env.Cache, err = a.cache(); err != nil {
		return env, err
	}
	env.Images, err = a.images()
	return env, err
}

func (a *app) diskUsage(ctx context.Context, f *duFlags) error {
	a.reads = true
	env, err := a.collectEnv()
	if err != nil {
		return err
	}
	release, err := a.shared(ctx)
	if err != nil {
		return err
	}
	defer release()
	stock, err := gc.Take(ctx, env)
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
}

// pieceListing lists pieces of the cache.
func pieceListing(format string, table ...string) listing {
	return listing{format: format, headers: row{
		"ID": "ID", "Type": "TYPE", "Reclaimable": "RECLAIMABLE", "Size": "SIZE", "LastUsed": "LAST USED", "Description": "DESCRIPTION",
	}, table: table}
}

// total is one line of the table.
type total struct {
	kind              string
	count, active     int
	size, reclaimable int64
}

func (t total) row() row {
	percent := int64(0)
	if t.size > 0 {
		percent = t.reclaimable * 100 / t.size
	}
	return row{
		"Type": t.kind, "TotalCount": strconv.Itoa(t.count), "Active": strconv.Itoa(t.active), "Size": humanSize(t.size),
		"Reclaimable": fmt.Sprintf("%s (%d%%)", humanSize(t.reclaimable), percent),
	}
}

// totals sums up images with their blobs, the rest of the cache, cache mounts,
// and what came from the web and from repositories.
func totals(s *gc.Stock, p *gc.Plan) []row {
	images := total{kind: "Images"}
	images.count, images.active = countImages(s.Images, p.Images)
	steps := total{kind: "Build cache", count: gc.Steps(s.Records), active: gc.Steps(s.Records) - gc.Steps(p.Records)}
	downloads := total{kind: "Downloads", count: len(s.Downloads), active: len(s.Downloads) - len(p.Downloads)}
	mounts := total{kind: "Cache mounts", count: len(s.Mounts), active: len(s.Mounts) - len(p.Mounts)}
	ofImages := map[digest.Digest]bool{}
	for _, img := range s.Images {
		for d := range img.Blobs {
			ofImages[d] = true
		}
	}
	for _, b := range s.Blobs {
		if ofImages[b.Digest] {
			images.size += b.Size
		} else {
			steps.size += b.Size
		}
	}
	for _, b := range p.Blobs {
		if ofImages[b.Digest] {
			images.reclaimable += b.Size
		} else {
			steps.reclaimable += b.Size
		}
	}
	for _, l := range s.Layers {
		steps.size += l.Size
	}
	for _, l := range p.Layers {
		steps.reclaimable += l.Size
	}
	for _, r := range s.Records {
		steps.size += r.Size
	}
	for _, r := range p.Records {
		steps.reclaimable += r.Size
	}
	steps.size += folderSize(s.Notes) + folderSize(s.Builds)
	steps.reclaimable += folderSize(p.Notes) + folderSize(p.Builds)
	mounts.size, mounts.reclaimable = folderSize(s.Mounts), folderSize(p.Mounts)
	downloads.size, downloads.reclaimable = folderSize(s.Downloads), folderSize(p.Downloads)
	return []row{images.row(), steps.row(), mounts.row(), downloads.row()}
}

// countImages counts images, whatever names they have. Those of which every name is
// unused are not active.
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

func folderSize(list []gc.Folder) int64 {
	var n int64
	for _, f := range list {
		n += f.Size
	}
	return n
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
