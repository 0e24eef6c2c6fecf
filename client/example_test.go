package client_test

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/roomcast/roomcast/client"
)

// Publish one message and wait until the log has it.
func ExamplePublisher_Publish() {
	publisher, err := client.Dial("localhost:9090", client.WithPlaintext())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = publisher.Close() }()

	result, err := publisher.Publish(context.Background(), client.Message{
		Room: "orders:42",
		Body: client.JSON(map[string]string{"state": "paid"}),
	})
	if refused, ok := errors.AsType[*client.Error](err); ok {
		fmt.Println("refused:", refused.Code, refused.Reason)
		return
	}
	fmt.Println("stored as", result.ID)
}

// Publish many messages in order, over broken connections too.
func ExamplePublisher_PublishAll() {
	publisher, err := client.Dial("roomcast.example:9090", client.WithToken("eyJ…"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = publisher.Close() }()

	messages := slices.Values([]client.Message{
		{Room: "log", Body: client.Text("first")},
		{Room: "log", Body: client.Text("second")},
	})
	err = publisher.PublishAll(context.Background(), messages, func(m client.Message, r client.Result) error {
		fmt.Println(string(m.Body.Bytes()), r.ID)
		return r.Err // stop at the first refusal
	})
	if err != nil {
		fmt.Println(err)
	}
}

// Receive a room's messages for as long as the program runs.
func ExampleSubscribe() {
	ctx := context.Background()
	sub, err := client.Subscribe(ctx, client.Config{
		URL:   "ws://localhost:8080/v1/ws",
		Rooms: []client.RoomConfig{{Room: "orders:42", After: ""}}, // After: where an earlier run ended
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer sub.Close()

	for event, err := range sub.Events(ctx) {
		if err != nil {
			fmt.Println(err) // final: the subscription does not come back
			return
		}
		switch e := event.(type) {
		case client.Delivery:
			fmt.Println(e.Room, e.ID, string(e.Body.Bytes()))
		case client.Gap:
			fmt.Println("messages of", e.Room, "may be missing; load its state anew")
		case client.StateChange:
			fmt.Println(e.State, e.Reason)
		}
	}
}

func ExampleBody_Decode() {
	body := client.RawJSON([]byte(`{"state":"paid"}`))
	var order struct{ State string }
	if err := body.Decode(&order); err != nil {
		fmt.Println(err)
	}
	fmt.Println(body.Kind(), order.State)
	// Output: json paid
}
