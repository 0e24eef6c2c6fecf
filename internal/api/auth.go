package api

import (
	"context"
	"strings"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/roomcast/roomcast/internal/auth"
	"github.com/roomcast/roomcast/internal/room"
)

// Verifier checks a bearer token at a moment. Errors are [*room.Error]s of kind
// Unauthenticated whose text does not say why a signature failed.
type Verifier interface {
	Verify(token string, now time.Time) (*auth.Caller, error)
	// Revoked reports whether the token of a caller was revoked since.
	Revoked(c *auth.Caller) bool
}

// authenticator finds out who calls.
type authenticator struct {
	verifier  Verifier
	anonymous *auth.Caller
}

// callerKey is the context key of the *auth.Caller.
type callerKey struct{}

// callerOf returns who calls; only a context from the interceptors has it.
func callerOf(ctx context.Context) *auth.Caller {
	caller, _ := ctx.Value(callerKey{}).(*auth.Caller)
	return caller
}

// admit puts the caller into the context, if it may call the method at all. Which
// rooms it may name is the handler's question, see [mayRoom].
func (a *authenticator) admit(ctx context.Context, method string) (context.Context, error) {
	right, open := rightFor(method)
	if open {
		return ctx, nil
	}
	caller, err := a.identify(ctx)
	if err != nil {
		return nil, err
	}
	if right == "" || !caller.MayCall(right) {
		return nil, room.Errorf(room.Denied, room.ReasonForbidden, "the caller has not the right %q", right)
	}
	return context.WithValue(ctx, callerKey{}, caller), nil
}

func (a *authenticator) identify(ctx context.Context) (*auth.Caller, error) {
	values := metadata.ValueFromIncomingContext(ctx, "authorization")
	if len(values) == 0 {
		if a.anonymous != nil {
			return a.anonymous, nil
		}
		return nil, room.Errorf(room.Unauthenticated, room.ReasonTokenMissing,
			"no credentials; send metadata authorization: Bearer <token>")
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	if len(values) != 1 || !strings.EqualFold(scheme, "Bearer") || token == "" {
		return nil, room.Errorf(room.Unauthenticated, room.ReasonTokenInvalid,
			"metadata authorization is not one Bearer token")
	}
	if a.verifier == nil {
		return nil, room.Errorf(room.Unauthenticated, room.ReasonTokenInvalid, "the token is not valid")
	}
	return a.verifier.Verify(strings.TrimSpace(token), time.Now())
}

// revoked is the error of a stream whose caller's token was revoked since it began; nil
// if it was not.
func (a *authenticator) revoked(ctx context.Context) error {
	if caller := callerOf(ctx); caller != nil && a.verifier != nil && a.verifier.Revoked(caller) {
		return room.Errorf(room.Unauthenticated, room.ReasonTokenRevoked, "the token was revoked")
	}
	return nil
}

// rightFor returns the right that a method needs. Open methods need no credentials:
// probes have none, and reflection is a setting of its own. A method that is not
// known here needs the empty right, which nobody has.
func rightFor(method string) (right string, open bool) {
	service, _, _ := strings.Cut(strings.TrimPrefix(method, "/"), "/")
	switch service {
	case "roomcast.v1.PublishService":
		return auth.RPCPublish, false
	case "roomcast.v1.HistoryService":
		return auth.RPCHistory, false
	case "roomcast.v1.PresenceService":
		return auth.RPCPresence, false
	case "roomcast.v1.ConnectionService":
		return auth.RPCConnections, false
	case "roomcast.v1.ClusterService":
		return auth.RPCCluster, false
	case "grpc.health.v1.Health",
		"grpc.reflection.v1.ServerReflection",
		"grpc.reflection.v1alpha.ServerReflection":
		return "", true
	}
	return "", false
}

// mayRoom refuses a room that the caller's grants do not cover. The answer does not
// depend on whether the room exists.
func mayRoom(ctx context.Context, right string, name room.Name) error {
	if caller := callerOf(ctx); caller != nil && caller.MayCallRoom(right, name) {
		return nil
	}
	return room.Errorf(room.Denied, room.ReasonForbidden, "the caller has not the right %q in this room", right)
}
