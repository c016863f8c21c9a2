package registry

import (
	"context"
	"fmt"
)

// first asks places in order for the same thing: the next one when one fails, or
// when it is a mirror that is silent for long. The answer of the others still
// counts then, since a mirror may have to fetch it first, and be the only place
// that can be reached. The first answer ends what is under way; drop gets those that
// come too late. place is the number of the place that answered.
//
// A mirror that was silent until the next place answered is not used any more.
func first[T any](ctx context.Context, c *Client, places []endpoint, ask func(context.Context, endpoint) (T, error), drop func(T)) (_ T, place int, err error) {
	r := &race[T]{places: places, ask: ask, answers: make(chan raceAnswer[T]), silent: make(chan int, len(places))}
	r.start(ctx)
	failed := make([]error, len(places))
	for r.running > 0 {
		select {
		case i := <-r.silent:
			r.mirrors = append(r.mirrors, i)
			r.follow(ctx, i)
		case a := <-r.answers:
			r.running--
			if a.err == nil {
				r.end(c, a.place, drop)
				return a.val, a.place, nil
			}
			failed[a.place] = a.err
			if ctx.Err() == nil {
				c.bury(places[a.place], a.err)
				r.follow(ctx, a.place)
			}
		}
	}
	var none T
	if ctx.Err() != nil {
		return none, 0, context.Cause(ctx)
	}
	for i, p := range places[:len(places)-1] {
		failed[i] = fmt.Errorf("mirror %s: %w", p.host, failed[i])
	}
	return none, 0, joinMirrors(failed)
}

// race is what first is about.
type race[T any] struct {
	places  []endpoint
	ask     func(context.Context, endpoint) (T, error)
	answers chan raceAnswer[T]
	silent  chan int // places that are silent for long
	mirrors []int    // those that were
	running int
	cancel  []context.CancelFunc // of the places that were asked
}

type raceAnswer[T any] struct {
	place int
	val   T
	err   error
}

// start asks the next place.
func (r *race[T]) start(ctx context.Context) {
	i := len(r.cancel)
	ctx, cancel := context.WithCancel(ctx)
	r.cancel = append(r.cancel, cancel)
	r.running++
	if i < len(r.places)-1 {
		ctx = onSilence(ctx, func() {
			select {
			case r.silent <- i:
			default: // it was told before
			}
		})
	}
	go func() {
		val, err := r.ask(ctx, r.places[i])
		r.answers <- raceAnswer[T]{i, val, err}
	}()
}

// follow asks the next place after i, if that was not done.
func (r *race[T]) follow(ctx context.Context, i int) {
	if i == len(r.cancel)-1 && i < len(r.places)-1 {
		r.start(ctx)
	}
}

// end stops all places but the one that answered, and waits for them.
func (r *race[T]) end(c *Client, winner int, drop func(T)) {
	for _, i := range r.mirrors {
		if i < winner {
			c.giveUp(r.places[i], fmt.Errorf("%s answered before %s did", r.places[winner].host, r.places[i].host))
		}
	}
	for i, cancel := range r.cancel {
		if i != winner {
			cancel()
		}
	}
	for ; r.running > 0; r.running-- {
		if a := <-r.answers; a.err == nil {
			drop(a.val)
		}
	}
}

// silenceKey is the key of contexts for requests of whose silence somebody wants to
// know. The value is a func().
type silenceKey struct{}

func onSilence(ctx context.Context, tell func()) context.Context {
	return context.WithValue(ctx, silenceKey{}, tell)
}
