package main

import (
	"bytes"
	"fmt"

	"github.com/docker/go-units"

	"github.com/sinter-build/sinter/builder/progress"
)

const (
	// wholeLog is how much of a command's output the display on a terminal is given
	// as it is, in bytes, as much as BuildKit's daemon lets through.
	wholeLog = 2 << 20
	// logPart is how much is shown at a time after that, in bytes, and logParts how
	// many parts are shown while the output grows to about three times its length.
	logPart  = 4 << 10
	logParts = 256
)

// logGap stands for what is left out between two parts.
const logGap = "[...]\n"

// longLogs are the outputs of commands as a display on a terminal is given them. It
// keeps all of that in memory until the build ends, so of a long output only parts are
// shown, ever fewer, and its end. The nil longLogs leaves out nothing.
type longLogs map[progress.Step]*longLog

type longLog struct {
	seen int
	// waiting counts the bytes since the last part, and held are the last of them.
	waiting int
	held    []byte
	// open says that what was shown last does not end a line.
	open bool
}

// shown returns what of data, and of what came before, is to be shown now.
func (l longLogs) shown(step progress.Step, data []byte) []byte {
	if l == nil || len(data) == 0 {
		return data
	}
	log := l[step]
	if log == nil {
		log = &longLog{}
		l[step] = log
	}
	before := log.seen
	log.seen += len(data)
	if log.seen <= wholeLog {
		log.open = data[len(data)-1] != '\n'
		return data
	}
	log.hold(data)
	if before > wholeLog && log.waiting < log.seen/logParts {
		return nil
	}
	part := log.part()
	if before <= wholeLog {
		notice := fmt.Sprintf("[more than %s of output: parts of it are shown from here on; --progress=plain shows all]\n", units.BytesSize(wholeLog))
		part = append([]byte("\n"+notice), part...)
	}
	return part
}

// end returns what of a step's output is still to be shown when the step has ended.
func (l longLogs) end(step progress.Step) []byte {
	log := l[step]
	delete(l, step)
	if log == nil || log.waiting == 0 {
		return nil
	}
	return log.part()
}

func (l *longLog) hold(data []byte) {
	l.waiting += len(data)
	if len(data) > logPart {
		data = data[len(data)-logPart:]
	}
	l.held = append(l.held, data...)
	if over := len(l.held) - logPart; over > 0 {
		l.held = append(l.held[:0], l.held[over:]...)
	}
}

// part returns what is held. Where something is left out before, it begins with a whole
// line, if it has one.
func (l *longLog) part() []byte {
	part := bytes.Clone(l.held)
	if l.waiting > len(part) {
		if end := bytes.IndexByte(part, '\n'); end >= 0 && end+1 < len(part) {
			part = part[end+1:]
		}
		gap := logGap
		if l.open {
			gap = "\n" + gap
		}
		part = append([]byte(gap), part...)
	}
	l.open = part[len(part)-1] != '\n'
	l.waiting, l.held = 0, l.held[:0]
	return part
}
