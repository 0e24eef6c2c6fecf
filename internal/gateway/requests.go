package gateway

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
	"github.com/roomcast/roomcast/internal/auth"
	"github.com/roomcast/roomcast/internal/hub"
	"github.com/roomcast/roomcast/internal/room"
	"github.com/roomcast/roomcast/internal/wire"
)

// Bounds of a socket's requests.
const (
	maxRooms       = 1000             // subscriptions of one socket
	requestTimeout = 15 * time.Second // for one request's answer
)

// requests is what a session's reader owns: whoever reads it just now.
type requests struct {
	frames    frameReader
	faulty    bool     // nothing more of the peer counts
	pooled    bool     // who reads is one of the workers
	bad       uint8    // malformed requests in a row
	completed uint64   // messages when stallBy was set
	seq       Sequence // made by the first publish
	rate      budget   // of frames
	bytes     budget
}

// welcome lets the socket in. Its frame is the first: it is queued before anyone else
// can see that there is a caller. It reports false if the token does not count any more.
func (s *session) welcome(caller *auth.Caller) bool {
	s.reply(&roomcastv1.ServerFrame{Frame: &roomcastv1.ServerFrame_Welcome_{Welcome: &roomcastv1.ServerFrame_Welcome{
		Connection: s.id,
		User:       caller.User,
		Node:       s.gw.cfg.Node,
		PingMs:     uint32(s.gw.cfg.PingInterval.Milliseconds()), //nolint:gosec // far below 49 days
		Version:    s.gw.cfg.Version,
	}}})
	if !s.identify(caller) {
		return false
	}
	s.tellTurn()
	s.tellDegraded()
	return true
}

// subscribeQueries subscribes the rooms that the socket's URL named, once.
func (s *session) subscribeQueries() {
	by := time.Now().Add(requestTimeout) // for all of them
	for _, name := range s.queries {
		s.answer(0, s.subscribe(by, 0, &roomcastv1.ClientFrame_Subscribe{Room: name}))
	}
	s.queries = nil
}

// handle does one request. Its answer is queued when it returns, but for a publish,
// whose answer comes with the log's.
func (s *session) handle(f *roomcastv1.ClientFrame) {
	id := f.GetId()
	if auth := f.GetAuth(); auth != nil {
		s.authenticate(id, auth.GetToken())
		return
	}
	if s.caller.Load() == nil {
		s.answer(id, room.Errorf(room.Unauthenticated, room.ReasonTokenMissing, "the first frame must be auth"))
		return
	}
	switch r := f.GetRequest().(type) {
	case *roomcastv1.ClientFrame_Subscribe_:
		s.answer(id, s.subscribe(time.Now().Add(requestTimeout), id, r.Subscribe))
	case *roomcastv1.ClientFrame_Unsubscribe_:
		s.answer(id, s.unsubscribe(id, r.Unsubscribe))
	case *roomcastv1.ClientFrame_Publish_:
		s.answer(id, s.publish(id, r.Publish))
	case *roomcastv1.ClientFrame_Ping_:
		s.reply(&roomcastv1.ServerFrame{Id: id, Frame: &roomcastv1.ServerFrame_Pong_{Pong: &roomcastv1.ServerFrame_Pong{}}})
	case *roomcastv1.ClientFrame_Members_:
		s.answer(id, s.members(id, r.Members))
	}
}

// answer queues the error frame of a request that was refused; nil needs none.
func (s *session) answer(id uint32, err error) {
	if err == nil {
		return
	}
	e := room.AsError(err)
	s.gw.cfg.Metrics.Rejects.WithLabelValues(string(e.Reason)).Inc()
	if e.Kind == room.Internal {
		s.log().Error("request failed", "err", err)
	}
	s.reply(wire.ErrorFrame(id, e))
}

// authenticate takes the first token, or a newer one of the same user. A guest may
// become a user. Rooms that the newer token does not allow are left, but for those that
// the server subscribed.
func (s *session) authenticate(id uint32, token string) {
	caller, err := s.gw.cfg.Verifier.Verify(token, time.Now())
	before := s.caller.Load()
	if err != nil {
		if before == nil {
			s.shut(closeToken(room.AsError(err)))
			return
		}
		s.answer(id, err)
		return
	}
	if before != nil && before != s.gw.cfg.Anonymous && before.User != caller.User {
		s.answer(id, room.Errorf(room.Denied, room.ReasonOtherUser, "the token is of another user"))
		return
	}
	counts := s.identify
	if before == nil {
		counts = s.welcome
	}
	if !counts(caller) {
		return
	}
	s.reply(&roomcastv1.ServerFrame{Id: id, Frame: &roomcastv1.ServerFrame_Authenticated_{
		Authenticated: &roomcastv1.ServerFrame_Authenticated{Expires: timestamppb.New(caller.Expires)},
	}})
	s.subscribeQueries()
	s.recheckRooms()
	s.recheckPresence()
	if before != nil && before.User != caller.User {
		s.rooms.renamed()
	}
}

func (s *session) subscribe(by time.Time, id uint32, r *roomcastv1.ClientFrame_Subscribe) error {
	name, err := room.ParseName(r.GetRoom(), "subscribe.room")
	if err != nil {
		return err
	}
	if !s.caller.Load().MaySubscribe(name) {
		return room.Errorf(room.Denied, room.ReasonForbidden, "the token does not allow this room")
	}
	if r.GetPresence() {
		if err := s.mayPresence(name); err != nil {
			return err
		}
	}
	var after room.Position
	policy := s.gw.cfg.Policies.Of(name)
	if r.GetAfter() != "" {
		if after, err = s.position(r.GetAfter(), policy); err != nil {
			return err
		}
	}
	if in, count := s.rooms.has(name); !in && count >= maxRooms {
		return tooManyRooms()
	}
	c, pos, err := s.join(by, name, after)
	if err != nil {
		return err
	}
	return s.enter(id, name, c, pos, r.GetPresence())
}

func tooManyRooms() error {
	return room.Errorf(room.Exhausted, room.ReasonTooManyRooms, "a socket may have %d rooms", maxRooms)
}

// enter lets a cursor that waits in its room begin. Subscribing again moves the place. The
// frames of a watch come after `subscribed`.
func (s *session) enter(id uint32, name room.Name, c *hub.Cursor, pos room.Position, watch bool) error {
	r := &s.rooms
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.getLocked(name)
	switch {
	case s.out.closing():
		c.Leave()
		return nil
	case old != nil:
		c.Succeed(old)
	case r.lenLocked() >= maxRooms: // the server has subscribed others meanwhile
		c.Leave()
		return tooManyRooms()
	}
	s.beginLocked(id, c, pos)
	s.watchLocked(name, watch)
	return nil
}

// beginLocked puts a cursor in its place and lets it begin. The rooms' lock is held.
func (s *session) beginLocked(id uint32, c *hub.Cursor, pos room.Position) {
	s.rooms.putLocked(c)
	name := c.Room()
	s.reply(&roomcastv1.ServerFrame{Id: id, Frame: &roomcastv1.ServerFrame_Subscribed_{
		Subscribed: &roomcastv1.ServerFrame_Subscribed{Room: string(name), Position: pos.String()},
	}})
	c.Start()
}

// join waits for the room's place in the log.
func (s *session) join(by time.Time, name room.Name, after room.Position) (c *hub.Cursor, pos room.Position, err error) {
	s.hold(func() {
		s.out.whileOpen(func(ctx context.Context) { c, pos, err = s.gw.cfg.Hub.Join(ctx, by, name, after, s) })
	})
	return c, pos, err
}

// position reads `after`. In an ephemeral room any text is a position of another
// log: the hub answers RESET.
func (s *session) position(after string, policy *room.Policy) (room.Position, error) {
	p, err := room.ParsePosition(after, "subscribe.after")
	if err != nil && !policy.Stored() {
		return room.Position{Epoch: "none"}, nil
	}
	return p, err
}

func (s *session) unsubscribe(id uint32, r *roomcastv1.ClientFrame_Unsubscribe) error {
	name, err := room.ParseName(r.GetRoom(), "unsubscribe.room")
	if err != nil {
		return err
	}
	if !s.leave(id, name) {
		return room.Errorf(room.Precondition, room.ReasonNotSubscribed, "this socket is not subscribed to the room")
	}
	return nil
}

// leave ends a subscription, if there is one: nothing of the room follows the frame.
func (s *session) leave(id uint32, name room.Name) bool {
	s.rooms.mu.Lock()
	defer s.rooms.mu.Unlock()
	return s.leaveLocked(id, name)
}

func (s *session) leaveLocked(id uint32, name room.Name) bool {
	c := s.rooms.getLocked(name)
	if c == nil {
		return false
	}
	c.Leave()
	s.rooms.unwatchLocked(name)
	s.rooms.deleteLocked(name)
	delete(s.rooms.given, name)
	s.reply(&roomcastv1.ServerFrame{Id: id, Frame: &roomcastv1.ServerFrame_Unsubscribed_{
		Unsubscribed: &roomcastv1.ServerFrame_Unsubscribed{Room: string(name)},
	}})
	return true
}

// recheckRooms ends the subscriptions that a newer token does not allow, but for those
// that the server wants.
func (s *session) recheckRooms() {
	caller, r := s.caller.Load(), &s.rooms
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, name := range r.namesLocked() {
		if _, given := r.given[name]; !given && !caller.MaySubscribe(name) {
			s.leaveLocked(0, name)
		}
	}
}

// jsonName is a field's name in JSON frames.
func jsonName(field string) string {
	switch field {
	case "message_id":
		return "messageId"
	case "raw_json":
		return "json"
	}
	return field
}

// publish hands a client's message to the log, in the socket's order; its answer
// comes when the log has acknowledged it.
func (s *session) publish(id uint32, r *roomcastv1.ClientFrame_Publish) error {
	name, err := room.ParseName(r.GetRoom(), "publish.room")
	if err != nil {
		return err
	}
	if !s.caller.Load().MayPublish(name) {
		return room.Errorf(room.Denied, room.ReasonForbidden, "the token does not allow publishing to this room")
	}
	policy := s.gw.cfg.Policies.Of(name)
	if !policy.ClientPublish {
		return room.Errorf(room.Denied, room.ReasonPublishDisabled, "sockets may not publish in namespace %q", policy.Namespace)
	}
	payload, err := wire.FramePayload(r)
	if err != nil {
		return err
	}
	p := &room.Publication{
		Room: name, Payload: payload, Event: r.GetEvent(), MessageID: r.GetMessageId(), TTL: r.GetTtl().AsDuration(),
	}
	err = p.Check(policy)
	if r.GetTtl() != nil && p.TTL == 0 {
		err = room.Invalidf(room.ReasonInvalidTTL, "ttl", "is 0s; it must be at least %s", room.MinTTL)
	}
	if err != nil {
		e := *room.AsError(err)
		e.Field = "publish." + jsonName(e.Field)
		return &e
	}
	if s.reader.seq == nil {
		s.reader.seq = s.gw.cfg.NewSequence()
	}
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	s.out.owe()
	s.reader.seq.Publish(ctx, p, func(ack room.Ack, err error) {
		cancel()
		s.out.pay()
		if err != nil {
			s.answer(id, err)
			return
		}
		s.reply(&roomcastv1.ServerFrame{Id: id, Frame: &roomcastv1.ServerFrame_Published_{
			Published: &roomcastv1.ServerFrame_Published{Id: ack.ID, Stored: ack.Stored, Duplicate: ack.Duplicate},
		}})
	})
	return nil
}
