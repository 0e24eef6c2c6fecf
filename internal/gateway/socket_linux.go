package gateway

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// fdSocket is a TCP connection whose reads and writes do not wait: pollers tell when it
// may be read, or takes more. The descriptor is its own: for Go's connection the runtime
// would keep 0.7 KB, and be woken too by whatever comes.
//
// It is open until the session's end, when neither its reader nor its flusher has
// anything more to do with it. Only who parks it, or hangs up, may be late.
type fdSocket struct {
	session *session // static, as in and out
	in, out *poller

	mu     sync.Mutex // guards closed, and keeps the descriptor open
	closed bool
	fd     int32 // static
}

// vector is a flusher's scratch for writev.
type vector struct {
	iov   [maxFrames]unix.Iovec
	count int
	want  int
}

func newVector() *vector { return &vector{} }

// newFDSocket takes a TCP connection's descriptor over, and lets the connection go. It
// returns nil for any other connection, and where there is no epoll or no descriptor.
func (s *session) newFDSocket(conn net.Conn) *fdSocket {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return nil
	}
	in, out, err := s.gw.pollers.get()
	if err != nil {
		s.log().Warn("no epoll, sockets cost goroutines", "err", err)
		return nil
	}
	fd, err := duplicate(tcp)
	if err != nil {
		s.log().Warn("no descriptor of its own, the socket costs a goroutine", "err", err)
		return nil
	}
	_ = conn.Close() // its descriptor: the peer does not notice
	limitUnsent(fd)
	return &fdSocket{session: s, in: in, out: out, fd: int32(fd)} //nolint:gosec // a descriptor
}

// duplicate returns another descriptor of a connection.
func duplicate(tcp *net.TCPConn) (fd int, err error) {
	raw, err := tcp.SyscallConn()
	if err != nil {
		return 0, err
	}
	if ctl := raw.Control(func(of uintptr) { fd, err = unix.FcntlInt(of, unix.F_DUPFD_CLOEXEC, 0) }); ctl != nil {
		return 0, ctl
	}
	return fd, err
}

func (s *fdSocket) write(frames [][]byte) (n int64, full bool, err error) {
	v := s.session.flusher.vec
	for len(frames) > 0 {
		frames = v.load(frames)
		done, err := v.send(s.fd)
		clear(v.iov[:v.count])
		n += int64(done)
		switch {
		case err != nil:
			return n, false, err
		case done < v.want:
			return n, true, s.out.await(s.fd, s.session)
		}
	}
	return n, false, nil
}

// load takes frames for one writev and returns the others.
func (v *vector) load(frames [][]byte) (rest [][]byte) {
	v.count, v.want = 0, 0
	for len(frames) > 0 && v.count < len(v.iov) {
		if f := frames[0]; len(f) > 0 {
			v.iov[v.count].Base = unsafe.SliceData(f) //nolint:gosec // the kernel only reads it
			v.iov[v.count].SetLen(len(f))
			v.count++
			v.want += len(f)
		}
		frames = frames[1:]
	}
	return frames
}

// send writes what is loaded, and returns how many bytes the kernel took: fewer than all
// if it takes no more now.
func (v *vector) send(fd int32) (n int, err error) {
	for v.count > 0 {
		switch n, errno := v.call(uintptr(fd)); errno { //nolint:gosec // a descriptor
		case 0:
			return int(n), nil
		case unix.EINTR:
		case unix.EAGAIN:
			return 0, nil
		default:
			return 0, errno
		}
	}
	return 0, nil
}

// call is the system call: for one frame, which is the most frequent case, a cheaper
// one (by 4 to 8 % here). A raw call is right: it does not wait, and telling the
// scheduler would cost as much as a short write.
func (v *vector) call(fd uintptr) (uintptr, unix.Errno) {
	if v.count == 1 {
		n, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, fd, uintptr(unsafe.Pointer(v.iov[0].Base)), uintptr(v.iov[0].Len), //nolint:gosec // as above
			unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
		return n, errno
	}
	n, _, errno := unix.RawSyscall(unix.SYS_WRITEV, fd, uintptr(unsafe.Pointer(&v.iov[0])), uintptr(v.count)) //nolint:gosec // as above
	return n, errno
}

// finish has nothing to say.
func (s *fdSocket) finish() {}

// Read takes what is there. Nothing is os.ErrDeadlineExceeded, which TLS survives.
func (s *fdSocket) Read(p []byte) (n int, err error) {
	for {
		n, err = unix.Read(int(s.fd), p)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			return 0, os.ErrDeadlineExceeded
		case err != nil:
			return 0, err
		case n == 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}

// park has the session told once there is something to read. Another reader may have
// been told at once, and the session may have ended since: net.ErrClosed.
func (s *fdSocket) park() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return net.ErrClosed
	}
	return s.in.await(s.fd, s.session)
}

// hangUp ends both directions. The reader and the flusher find out.
func (s *fdSocket) hangUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		_ = unix.Shutdown(int(s.fd), unix.SHUT_RDWR) // or the peer has
	}
}

// close closes the descriptor.
func (s *fdSocket) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.in.forget(s.fd, s.session)
	s.out.forget(s.fd, s.session)
	_ = unix.Close(int(s.fd))
}
