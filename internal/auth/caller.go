package auth

import (
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/roomcast/roomcast/internal/room"
)

// The rights that a token's rooms claim can give. A list of patterns gives
// [RightSubscribe].
const (
	RightSubscribe = "subscribe" // receive messages; read the history
	RightPresence  = "presence"  // see members, joins and leaves
	RightPublish   = "publish"   // publish, where the room's policy lets clients
)

// The groups of gRPC methods that a token's rpc claim can allow, one a service.
const (
	RPCPublish     = "publish"
	RPCPresence    = "presence"
	RPCHistory     = "history"
	RPCConnections = "connections"
	RPCCluster     = "cluster"
)

// GuestUser is the user of [Guest].
const GuestUser = "guest"

// rights is a set of room rights.
type rights uint8

const (
	subscribe rights = 1 << iota
	presence
	publish
	allRights = subscribe | presence | publish
)

func rightOf(word string) (rights, bool) {
	switch word {
	case RightSubscribe:
		return subscribe, true
	case RightPresence:
		return presence, true
	case RightPublish:
		return publish, true
	}
	return 0, false
}

// rpcs is a set of groups of gRPC methods.
type rpcs uint8

const (
	rpcPublish rpcs = 1 << iota
	rpcPresence
	rpcHistory
	rpcConnections
	rpcCluster
	allRPCs = rpcPublish | rpcPresence | rpcHistory | rpcConnections | rpcCluster
)

func rpcOf(word string) (rpcs, bool) {
	switch word {
	case RPCPublish:
		return rpcPublish, true
	case RPCPresence:
		return rpcPresence, true
	case RPCHistory:
		return rpcHistory, true
	case RPCConnections:
		return rpcConnections, true
	case RPCCluster:
		return rpcCluster, true
	}
	return 0, false
}

// Caller is who calls and what that caller may do. It never changes once made and
// is safe for concurrent use.
type Caller struct {
	User    string // a token's sub; empty for [Everything], which is no user
	TokenID string // a token's jti; empty if it has none

	// IssuedAt is a token's iat; zero if it has none. RevokeTokens compares it.
	IssuedAt time.Time

	// Expires is a token's exp; zero = never. [Caller.Expired] adds the leeway.
	Expires time.Time

	grants grants
}

// Guest returns the user of a development node who sent no token: all rooms with
// all rights, no gRPC, no expiry.
func Guest() *Caller {
	c := &Caller{User: GuestUser}
	c.grants.addPrefix("", allRights)
	return c
}

// Everything returns a caller without a name who may do all: gRPC without
// credentials on a development node.
func Everything() *Caller {
	c := &Caller{grants: grants{rpc: allRPCs}}
	c.grants.addPrefix("", allRights)
	return c
}

// MaySubscribe reports whether the caller may receive a room's messages: by its
// patterns, or because the room is its own personal one, user:<id>.
func (c *Caller) MaySubscribe(n room.Name) bool {
	return c.grants.allow(n, subscribe) || c.owns(n)
}

// MayPublish reports whether the caller may publish to a room. Whether sockets may
// at all is the room's policy, which the caller of this must check.
func (c *Caller) MayPublish(n room.Name) bool { return c.grants.allow(n, publish) }

// MayPresence reports whether the caller may see who is in a room.
func (c *Caller) MayPresence(n room.Name) bool { return c.grants.allow(n, presence) }

// MayCall reports whether the caller may call the methods of a group, one of the
// RPC constants. For a method that names a room [Caller.MayCallRoom] decides.
func (c *Caller) MayCall(rpc string) bool {
	group, known := rpcOf(rpc)
	return known && c.grants.rpc&group != 0
}

// MayCallRoom reports whether the caller may call a method of the group for this
// room: it needs the group (rpc claim), bounded by the rooms claim, where a pattern
// with any right counts. The rights in it are those of sockets. No rooms claim = no
// room.
func (c *Caller) MayCallRoom(rpc string, n room.Name) bool {
	return c.MayCall(rpc) && c.grants.allow(n, allRights)
}

// Patterns lists the rooms for which [Caller.MayCallRoom] may hold: names, and
// beginnings of names before a '*'. Sorted.
func (c *Caller) Patterns() []string {
	list := make([]string, 0, len(c.grants.exact)+len(c.grants.prefixes))
	for name := range c.grants.exact {
		list = append(list, string(name))
	}
	for prefix := range c.grants.prefixes {
		list = append(list, string(prefix)+"*")
	}
	slices.Sort(list)
	return list
}

// MayCallAll reports whether the caller may call a method of the group for every room
// whose name begins so.
func (c *Caller) MayCallAll(rpc string, prefix room.Name) bool {
	if !c.MayCall(rpc) {
		return false
	}
	for _, length := range c.grants.lengths {
		if length <= len(prefix) && c.grants.prefixes[prefix[:length]] != 0 {
			return true
		}
	}
	return false
}

// Expired reports whether the token has ended, [Leeway] included. A socket is to
// be closed from Expires + Leeway on.
func (c *Caller) Expired(now time.Time) bool {
	return !c.Expires.IsZero() && !now.Before(c.Expires.Add(Leeway))
}

// LogValue names the caller without what it may do.
func (c *Caller) LogValue() slog.Value {
	return slog.GroupValue(slog.String("user", c.User), slog.String("token_id", c.TokenID))
}

func (c *Caller) owns(n room.Name) bool {
	user, found := strings.CutPrefix(string(n), room.UserPrefix)
	return found && user != "" && user == c.User
}

// grants is what a caller may do. A lookup costs one map access for the name and one
// for each different length of a prefix, however many patterns there are.
type grants struct {
	exact    map[room.Name]rights
	prefixes map[room.Name]rights // patterns without their final '*'
	lengths  []int                // of the prefixes, each once
	rpc      rpcs
}

func (g *grants) allow(n room.Name, want rights) bool {
	if g.exact[n]&want != 0 {
		return true
	}
	for _, length := range g.lengths {
		if length <= len(n) && g.prefixes[n[:length]]&want != 0 {
			return true
		}
	}
	return false
}

// add grants rights for a pattern; the same pattern twice adds up. The error says
// what is wrong with the pattern.
func (g *grants) add(pattern string, r rights) error {
	prefix, wild := strings.CutSuffix(pattern, "*")
	if err := checkPattern(prefix, wild); err != nil {
		return err
	}
	if !wild {
		if g.exact == nil {
			g.exact = make(map[room.Name]rights)
		}
		g.exact[room.Name(pattern)] |= r
		return nil
	}
	g.addPrefix(room.Name(prefix), r)
	return nil
}

func (g *grants) addPrefix(prefix room.Name, r rights) {
	if g.prefixes == nil {
		g.prefixes = make(map[room.Name]rights)
	}
	g.prefixes[prefix] |= r
	if !slices.Contains(g.lengths, len(prefix)) {
		g.lengths = append(g.lengths, len(prefix))
	}
}

// checkPattern checks a pattern without its final '*': what is left must be a room
// name, or nothing if the '*' stands alone.
func checkPattern(prefix string, wild bool) error {
	if wild && prefix == "" {
		return nil
	}
	_, err := room.ParseName(prefix, "pattern")
	return err
}
