package builder

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/gzip"

	"github.com/sinter-build/sinter/cache"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/store"
	"github.com/sinter-build/sinter/parser"
)

// Journal writes down what a build does and why, for people to ask later. What cannot be
// written down costs a warning, never the build. A nil Journal does nothing.
type Journal struct {
	cache  *cache.Store
	layers *store.Store
	redact func(string) string
	warn   func(string)

	mu    sync.Mutex
	build cache.Build
	steps map[*parser.Node]*noted
	// dir is the folder of the logs, made with the first one.
	dir  string
	logs []*stepLog
	// last returns the last build of the same, nil if there is none, and builds all.
	last   func() *cache.Build
	builds func() []cache.Build
}

// noted is what is noted of a step while it runs.
type noted struct {
	why    []cache.Reason
	took   time.Duration
	memory int64
	layer  layers.Layer
	// verdict is how it ended, if it has.
	verdict cache.Verdict
	log     *stepLog
}

// NewJournal begins the journal of a build of something. redact hides secrets in errors.
func NewJournal(c *cache.Store, s *store.Store, of cache.Subject, redact func(string) string, warn func(string)) *Journal {
	now := time.Now()
	return &Journal{
		cache: c, layers: s, redact: redact, warn: warn,
		build: cache.Build{ID: cache.NewBuildID(now, of), Of: of, Started: now.UTC()},
		steps: map[*parser.Node]*noted{},
		last:  sync.OnceValue(func() *cache.Build { return c.LastBuild(of) }),
		builds: sync.OnceValue(func() []cache.Build {
			// Where they cannot be read there is nothing to compare with.
			list, _ := c.Builds()
			return list
		}),
	}
}

// note changes what is noted of a step.
func (j *Journal) note(n *parser.Node, change func(*noted)) {
	if j == nil {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	s := j.steps[n]
	if s == nil {
		s = &noted{}
		j.steps[n] = s
	}
	change(s)
}

// stepLog is the log of one step. Its number is that of the step in the build.
type stepLog struct {
	node *parser.Node
	mu   sync.Mutex
	file *os.File
	zip  *gzip.Writer
	err  error
}

// Write never fails: the command goes on without a log.
func (l *stepLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		_, l.err = l.zip.Write(p)
	}
	return len(p), nil
}

func (l *stepLog) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return errors.Join(l.err, l.zip.Close(), l.file.Close())
}

// log returns where the output of a step goes.
func (j *Journal) log(n *parser.Node) io.Writer {
	if j == nil {
		return io.Discard
	}
	return &lazyLog{journal: j, node: n}
}

// lazyLog makes the log of a step when the command prints something.
type lazyLog struct {
	journal *Journal
	node    *parser.Node
	once    sync.Once
	log     *stepLog
}

func (l *lazyLog) Write(p []byte) (int, error) {
	l.once.Do(func() { l.log = l.journal.newLog(l.node) })
	if l.log == nil {
		return len(p), nil
	}
	return l.log.Write(p)
}

func (j *Journal) newLog(n *parser.Node) *stepLog {
	var made *stepLog
	j.note(n, func(s *noted) {
		err := func() (err error) {
			if j.dir == "" {
				if j.dir, err = j.layers.TempDir("logs-"); err != nil {
					return err
				}
			}
			f, err := os.Create(filepath.Join(j.dir, "of-"+strconv.Itoa(len(j.logs))))
			if err != nil {
				return err
			}
			zip, err := gzip.NewWriterLevel(f, gzip.BestSpeed)
			if err != nil {
				return errors.Join(err, f.Close())
			}
			made = &stepLog{node: n, file: f, zip: zip}
			j.logs = append(j.logs, made)
			s.log = made
			return nil
		}()
		if err != nil {
			j.warn("the log of a step is not kept: " + err.Error())
		}
	})
	return made
}

// planned writes down what became of all steps of a graph.
func (j *Journal) planned(e *engine) {
	if j == nil {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.build.Steps = nil
	for _, n := range e.graph.Nodes {
		s := e.plan.nodes[n]
		if s.op.kind() != stepKind {
			continue
		}
		step := e.stepNamed(n)
		step.Verdict = cache.NotReached
		if id, ok := s.known(); ok {
			step.Key, step.Parts = id.key, shownParts(e.graph, id.recipe)
		}
		switch e.jobs[n].shown.now() {
		case showCached:
			step.Verdict = cache.WasCached
		case showRan:
			j.ran(&step, n)
		}
		j.build.Steps = append(j.build.Steps, step)
	}
}

// ran adds to a step what was noted while it ran.
func (j *Journal) ran(step *cache.BuildStep, n *parser.Node) {
	s := j.steps[n]
	if s == nil {
		return
	}
	step.Why, step.Took, step.Memory = s.why, s.took, s.memory
	step.Layer, step.Size = string(s.layer.ID), s.layer.Descriptor.Size
	if s.verdict != "" {
		step.Verdict = s.verdict
	}
	if s.log == nil {
		return
	}
	err := s.log.close()
	if err == nil {
		err = os.Rename(s.log.file.Name(), filepath.Join(j.dir, strconv.Itoa(len(j.build.Steps)+1)))
	}
	if step.Logged = err == nil; err != nil {
		j.warn("the log of a step is not kept: " + err.Error())
	}
}

// verdictOf is how a step ended that ran under ctx and returned err. One that was stopped
// since the build ends has not failed itself.
func verdictOf(ctx context.Context, err error) cache.Verdict {
	switch {
	case err == nil:
		return cache.Ran
	case ctx.Err() != nil:
		return cache.WasCanceled
	}
	return cache.RanAndFailed
}

// Close ends the journal. image is the digest of what was built, "" for none; err is why
// the build failed.
func (j *Journal) Close(ctx context.Context, tags []string, image string, err error) {
	if j == nil {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	b := &j.build
	b.Tags, b.Image, b.Took, b.Result = tags, image, time.Since(b.Started), cache.Succeeded
	switch {
	case ctx.Err() != nil:
		b.Result = cache.Canceled
	case err != nil:
		b.Result, b.Error = cache.Failed, j.redact(err.Error())
	}
	if err := j.cache.PutBuild(b, j.dir); err != nil {
		j.warn("this build is not kept for sinter builds: " + err.Error())
	}
}

// shownParts are the parts of a key for people: without what may be secret, and not too
// long.
func shownParts(g *parser.Graph, r cache.Recipe) []cache.Part {
	const longest = 4 << 10 // bytes
	list := slices.Clone(r)
	for i := range list {
		p := &list[i]
		p.Name, p.From = g.Redact(p.Name), g.Redact(p.From)
		hidden := cache.Hidden + shortSum(p.Name+"\x00"+p.Value)
		shown := g.Redact(p.Value)
		switch {
		case p.Kind == cache.Variable && parser.LooksSecret(strings.TrimPrefix(p.Name, variablePart)):
			p.Value = hidden
		case len(p.Value) > longest:
			p.Value = strings.ToValidUTF8(shown[:min(len(shown), longest/4)], "") + "… " + shortSum(p.Value)
		case shown != p.Value && strings.HasSuffix(shown, "\n"):
			p.Value = shown + hidden + "\n"
		case shown != p.Value:
			p.Value = shown + " " + hidden
		}
	}
	return list
}

// shortSum tells values apart without saying what they are.
func shortSum(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:4])
}
