// Package client is the Go client of Roomcast: a [Publisher] sends messages to rooms
// over gRPC, a [Subscription] receives them over a WebSocket.
//
// # Publishing
//
// Every message travels with an idempotency key, the caller's or a random one, and a
// try that failed as UNAVAILABLE is repeated with the same key: in a stored room the
// message is stored once, however often the connection broke. No other failure is
// repeated. [Publisher.Publish] sends one message, [Publisher.Stream] many whose order
// in each room is kept, and [Publisher.PublishAll] keeps that order over broken
// connections too. Ephemeral rooms ignore the key, so there a repeated message may
// arrive twice.
//
// # Subscribing
//
// A subscription survives the loss of its connection: it dials again, with full jitter
// so that many clients do not come back at once, and resumes each room after the last
// message that it took in. For a stored room the events of [Subscription.Next] are
// therefore what the server guarantees to a socket: each message stored since the
// subscription began, in the order stored, once. Where that cannot be kept there is a
// [Gap], and no Gap means that nothing is missing. An ephemeral room has no history:
// each reconnect gives it a Gap.
//
// A node that drains asks for another connection. The subscription then opens one
// beside the old, which goes on meanwhile, has it take the rooms over one by one, each
// at the position that it has just then, and closes the old one when all have moved: a
// [StateChange] to [Moved], without a loss, a repetition or a pause. A try that fails
// gives the rooms back and is made again, until the server closes the old connection.
//
// A subscriber that is slow loses nothing. Up to 1,024 events or 1 MiB wait in memory;
// then the socket is not read until there is room. A stall beyond that long enough for
// the server to miss its pings (about 35 s) costs the connection (close code 4504),
// and the subscription resumes where it stood as soon as there is room again.
//
// The package never drops an event, never logs a token or a body, starts no goroutine
// without an owner that waits for it (but for the one of PublishAll, which says so),
// and keeps nothing between processes: a program that wants to go on after its own
// restart stores the last [Delivery.ID] or [Subscribed.Position] of each room and
// hands it back as [RoomConfig.After].
package client
