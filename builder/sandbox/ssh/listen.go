package ssh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/crypto/ssh/agent"
	"golang.org/x/sys/unix"
)

// dialTimeout is how long the person's agent may take to answer.
const dialTimeout = 2 * time.Second

// maxSocketPath is the longest path that fits an address of a socket.
const maxSocketPath = 107

// Listen serves a source's keys on a new socket with this owner and mode
// (permission bits), until stop is called or the context is done. Stop cuts
// connections off, removes the socket and returns when nothing is left. An
// agent that cannot be reached is an error here, not in the command. The source's
// keys must have been read.
func Listen(ctx context.Context, path string, uid, gid int, mode uint32, src Source) (stop func(), err error) {
	connect, err := src.connector()
	if err != nil {
		return nil, err
	}
	listener, err := listen(path)
	if err != nil {
		return nil, fmt.Errorf("ssh socket %s: %w", path, err)
	}
	if err := own(path, uid, gid, mode); err != nil {
		return nil, fmt.Errorf("ssh socket: %w", errors.Join(err, listener.Close(), os.Remove(path)))
	}
	s := &server{connect: connect, open: map[io.Closer]bool{}}
	s.running.Add(1)
	go s.accept(listener)
	end := sync.OnceFunc(func() {
		listener.Close()
		s.closeAll()
		s.running.Wait()
		os.Remove(path)
	})
	release := context.AfterFunc(ctx, end)
	return func() { release(); end() }, nil
}

// own sets the owner and mode of the socket. An id that our user namespace does
// not have is nobody's in it, so the socket stays ours.
func own(path string, uid, gid int, mode uint32) error {
	if err := os.Chown(path, uid, gid); err != nil && !errors.Is(err, unix.EINVAL) {
		return err
	}
	return os.Chmod(path, os.FileMode(mode).Perm())
}

// listen makes the socket. A path that is too long for an address is reached
// through its directory.
func listen(path string) (*net.UnixListener, error) {
	address := path
	if len(path) > maxSocketPath {
		dir, err := unix.Open(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, err
		}
		defer unix.Close(dir)
		address = fmt.Sprintf("/proc/self/fd/%d/%s", dir, filepath.Base(path))
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: address, Net: "unix"})
	if err != nil {
		return nil, err
	}
	listener.SetUnlinkOnClose(false) // the address may mean nothing by then
	return listener, nil
}

// A connector returns the agent for one connection and what it hangs on.
type connector func() (agent.ExtendedAgent, io.Closer, error)

// connector returns how connections get at the source's keys.
func (s Source) connector() (connector, error) {
	if s.Socket == "" {
		if s.ring == nil {
			return nil, fmt.Errorf("ssh %q: neither an agent nor keys", s.ID)
		}
		return func() (agent.ExtendedAgent, io.Closer, error) {
			return s.ring, io.NopCloser(nil), nil
		}, nil
	}
	connect := func() (agent.ExtendedAgent, io.Closer, error) {
		conn, err := net.DialTimeout("unix", s.Socket, dialTimeout)
		if err != nil {
			return nil, nil, fmt.Errorf("ssh %q: agent: %w", s.ID, err)
		}
		return agent.NewClient(conn), conn, nil
	}
	_, conn, err := connect()
	if err != nil {
		return nil, err
	}
	if err := conn.Close(); err != nil {
		return nil, fmt.Errorf("ssh %q: agent: %w", s.ID, err)
	}
	return connect, nil
}

// A server keeps track of its connections, to be able to end them.
type server struct {
	connect connector
	running sync.WaitGroup

	mu     sync.Mutex
	open   map[io.Closer]bool // clients, and the agents asked for them
	closed bool
}

func (s *server) accept(l net.Listener) {
	defer s.running.Done()
	for {
		conn, err := l.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			time.Sleep(10 * time.Millisecond) // out of files, or a client that is gone
			continue
		}
		if !s.add(conn) { // stopped in between
			conn.Close()
			return
		}
		s.running.Add(1)
		go s.serve(conn)
	}
}

// serve answers one client until it hangs up or says something that is not the
// agent's protocol.
func (s *server) serve(conn net.Conn) {
	defer s.running.Done()
	defer s.remove(conn)
	keys, upstream, err := s.connect()
	if err != nil {
		return // the client sees the connection end, as with an agent that died
	}
	defer s.remove(upstream)
	if !s.add(upstream) {
		return
	}
	_ = converse(conn, keys)
}

// add notes a connection that is to be closed at the end; it says no after it.
func (s *server) add(conn io.Closer) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.open[conn] = true
	}
	return !s.closed
}

func (s *server) remove(conn io.Closer) {
	conn.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, conn)
}

func (s *server) closeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for conn := range s.open {
		conn.Close()
	}
}
