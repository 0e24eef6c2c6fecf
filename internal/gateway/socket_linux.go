package gateway

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// fdSocket is a TCP connection whose reads and writes do not wait: pollers tell when
// it may be read, or takes more. The descriptor is only touched inside the RawConn,
// which keeps it open meanwhile.
type fdSocket struct {
	// static
	raw     syscall.RawConn
	session *session
	in, out *poller
	fd      int32 // where the pollers know it
}

// vector is a flusher's scratch for writev.
type vector struct {
	iov   [maxFrames]unix.Iovec
	count int
	sock  *fdSocket
	call  func(fd uintptr) bool // v.writev, bound once

	want, done int64
	full       bool
	err        error
}

func newVector() *vector {
	v := &vector{}
	v.call = v.writev
	return v
}

// newFDSocket returns nil for a connection that is no TCP, or without epoll.
func (s *session) newFDSocket(conn net.Conn) *fdSocket {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil // closed: the other kind fails with the reason
	}
	in, out, err := s.gw.pollers.get()
	if err != nil {
		s.log().Warn("no epoll, sockets cost goroutines", "err", err)
		return nil
	}
	sock := &fdSocket{raw: raw, session: s, in: in, out: out}
	if raw.Control(func(fd uintptr) {
		sock.fd = int32(fd) //nolint:gosec // a descriptor
		limitUnsent(int(fd))
	}) != nil {
		return nil
	}
	return sock
}

func (s *fdSocket) write(frames [][]byte) (n int64, full bool, err error) {
	v := s.session.flusher.vec
	v.sock = s
	for len(frames) > 0 && !full && err == nil {
		rest := v.load(frames)
		if err = s.raw.Write(v.call); err == nil {
			err = v.err
		}
		n, full = n+v.done, v.full
		frames = rest
	}
	v.unload()
	return n, full, err
}

// load takes frames for one writev and returns the others.
func (v *vector) load(frames [][]byte) (rest [][]byte) {
	v.count, v.want, v.done, v.full, v.err = 0, 0, 0, false, nil
	for len(frames) > 0 && v.count < len(v.iov) {
		if f := frames[0]; len(f) > 0 {
			v.iov[v.count].Base = unsafe.SliceData(f) //nolint:gosec // the kernel only reads it
			v.iov[v.count].SetLen(len(f))
			v.count++
			v.want += int64(len(f))
		}
		frames = frames[1:]
	}
	return frames
}

func (v *vector) unload() {
	clear(v.iov[:v.count])
	v.sock, v.err = nil, nil
}

// writev is one call of it.
func (v *vector) writev(fd uintptr) bool {
	for v.count > 0 {
		n, errno := v.send(fd)
		switch errno {
		case 0:
			v.done = int64(n) //nolint:gosec // at most want
		case unix.EINTR:
			continue
		case unix.EAGAIN:
		default:
			v.err = errno
			return true
		}
		break
	}
	if v.done < v.want {
		v.full = true
		v.err = v.sock.out.await(int(fd), v.sock.session)
	}
	return true
}

// send is the system call: for one frame, which is the most frequent case, a cheaper
// one (by 4 to 8 % here). A raw call is right: it does not wait, and telling the
// scheduler would cost as much as a short write.
func (v *vector) send(fd uintptr) (uintptr, unix.Errno) {
	if v.count == 1 {
		n, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, fd, uintptr(unsafe.Pointer(v.iov[0].Base)), uintptr(v.iov[0].Len), //nolint:gosec // as above
			unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
		return n, errno
	}
	n, _, errno := unix.RawSyscall(unix.SYS_WRITEV, fd, uintptr(unsafe.Pointer(&v.iov[0])), uintptr(v.count)) //nolint:gosec // as above
	return n, errno
}

func (s *fdSocket) close() {
	s.in.forget(int(s.fd), s.session)
	s.out.forget(int(s.fd), s.session)
}

// Read takes what is there. Nothing is os.ErrDeadlineExceeded, which TLS survives.
func (s *fdSocket) Read(p []byte) (n int, err error) {
	var errno error
	if err := s.raw.Read(func(fd uintptr) bool {
		for {
			n, errno = unix.Read(int(fd), p)
			if !errors.Is(errno, unix.EINTR) {
				return true
			}
		}
	}); err != nil {
		return 0, err
	}
	switch {
	case errors.Is(errno, unix.EAGAIN):
		return 0, os.ErrDeadlineExceeded
	case errno != nil:
		return 0, errno
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

// park has the session told once there is something to read.
func (s *fdSocket) park() error {
	var err error
	if ctl := s.raw.Control(func(fd uintptr) { err = s.in.await(int(fd), s.session) }); ctl != nil {
		return ctl
	}
	return err
}
