package builder

import (
	"context"
	"sync"
	"time"

	"github.com/sinter-build/sinter/builder/progress"
	"github.com/sinter-build/sinter/parser"
)

// shown is what has been told of a node.
type shown struct {
	mu    sync.Mutex
	state showState
}

type showState int

const (
	showNothing showState = iota
	showCached
	showRan
)

func (s *shown) set(to showState) (was showState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	was = s.state
	s.state = max(s.state, to)
	return was
}

func (s *shown) now() showState {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

// declare tells of all nodes before anything begins.
func (e *engine) declare() {
	for _, n := range e.graph.Nodes {
		d := progress.Declared{Step: n.ID, Name: n.Name, Group: n.Group, GroupName: n.GroupName}
		for _, in := range n.Inputs {
			if in.Node != nil {
				d.Inputs = append(d.Inputs, in.Node.ID)
			}
		}
		e.Events(d)
	}
}

// cached tells that n need not run, and so none of the steps it stands on.
func (e *engine) cached(n *parser.Node) {
	if e.jobs[n].shown.set(showCached) != showNothing {
		return
	}
	for _, in := range n.Inputs {
		if in.Node != nil && !e.isFiles(in.Node) {
			e.cached(in.Node)
		}
	}
	now := time.Now()
	e.Events(progress.Started{Step: n.ID, Name: n.Name, Time: now})
	e.Events(progress.Ended{Step: n.ID, Name: n.Name, Time: now, Cached: true})
}

func (e *engine) started(n *parser.Node, at time.Time) {
	e.jobs[n].shown.set(showRan)
	e.Events(progress.Started{Step: n.ID, Name: n.Name, Time: at})
}

func (e *engine) ended(ctx context.Context, n *parser.Node, err error) {
	e.Events(progress.End(ctx, n.ID, n.Name, err))
}

// instant tells of work that takes no time worth showing.
func (e *engine) instant(n *parser.Node) {
	if e.jobs[n].shown.set(showCached) != showNothing {
		return
	}
	now := time.Now()
	e.Events(progress.Started{Step: n.ID, Name: n.Name, Time: now})
	e.Events(progress.Ended{Step: n.ID, Name: n.Name, Time: now})
}
