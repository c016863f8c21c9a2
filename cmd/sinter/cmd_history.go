package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"github.com/sinter-build/sinter/builder/stored"
)

type historyFlags struct {
	format                string
	platform              platformFlag
	quiet, noTrunc, human bool
}

func newHistoryCmd(a *app) *cobra.Command {
	f := &historyFlags{}
	c := &cobra.Command{
		Use:   "history [flags] IMAGE",
		Short: "Show how an image was made",
		Long: `Show the steps that an image was made of, the latest first.

SIZE is that of the step's layer as it is pushed: compressed.`,
		Args:              exactArgs(1),
		ValidArgsFunction: a.imageNames,
		RunE: func(c *cobra.Command, args []string) error {
			return a.history(c.Context(), f, args[0])
		},
	}
	c.Flags().StringVar(&f.format, "format", "", fmt.Sprintf(formatUsage, "CreatedBy"))
	c.Flags().Var(&f.platform, "platform", "show this `PLATFORM` of the image (default this machine's, or the first)")
	c.Flags().BoolVarP(&f.quiet, "quiet", "q", false, "print only IDs")
	c.Flags().BoolVar(&f.noTrunc, "no-trunc", false, "print everything in full")
	c.Flags().BoolVarP(&f.human, "human", "H", true, "print sizes and times for people")
	return c
}

func (a *app) history(ctx context.Context, f *historyFlags, text string) error {
	return a.readImage(ctx, text, func(_ library, n namedImage) error {
		_, m, err := n.shown(f.platform.Platform)
		if err != nil {
			return err
		}
		var config ocispec.Image
		if err := n.readConfig(ctx, m, &config); err != nil {
			return err
		}
		l := listing{format: f.format, quiet: f.quiet, headers: row{
			"ID": "IMAGE", "CreatedSince": "CREATED", "CreatedAt": "CREATED AT", "CreatedBy": "CREATED BY",
			"Size": "SIZE", "Comment": "COMMENT",
		}, table: []string{"ID", "CreatedSince", "CreatedBy", "Size", "Comment"}}
		if !f.human {
			l.table[1] = "CreatedAt"
		}
		return l.print(a.stdout, f.rows(n, m, config.History))
	})
}

// rows are the entries of a history, the latest first; that one is the image.
func (f *historyFlags) rows(n namedImage, m stored.Manifest, history []ocispec.History) []row {
	rows := make([]row, len(history))
	layer := 0
	for i, h := range history {
		var size int64
		if !h.EmptyLayer && layer < len(m.Layers) {
			size = m.Layers[layer].Descriptor.Size
			layer++
		}
		r := row{
			"ID": "<missing>", "CreatedSince": notKnown, "CreatedAt": notKnown, "Comment": h.Comment,
			"CreatedBy": f.command(h.CreatedBy), "Size": strconv.FormatInt(size, 10),
		}
		if f.human {
			r["Size"] = humanSize(size)
		}
		if h.Created != nil && !h.Created.IsZero() {
			r["CreatedSince"] = units.HumanDuration(time.Since(*h.Created)) + " ago"
			r["CreatedAt"] = h.Created.Format(time.RFC3339)
		}
		if i == len(history)-1 {
			r["ID"] = n.id().String()
			if !f.noTrunc {
				r["ID"] = shortID(n.id())
			}
		}
		rows[len(history)-1-i] = r
	}
	return rows
}

// commandWidth is how much of a command a table shows.
const commandWidth = 45

func (f *historyFlags) command(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if f.noTrunc {
		return text
	}
	return cut(text, commandWidth)
}
