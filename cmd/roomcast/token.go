package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/roomcast/roomcast/internal/auth"
	"github.com/roomcast/roomcast/internal/room"
)

// tokenCmd makes and explains tokens without a node.
type tokenCmd struct {
	Mint  tokenMintCmd  `cmd:"" help:"Make a token and print it. Without --key-file it is signed with the public development key of serve --dev."`
	Check tokenCheckCmd `cmd:"" help:"Explain a token: what it says, and whether a key accepts it."`
}

// allRights are the rights that a token may give in a room.
func allRights() []string {
	return []string{auth.RightSubscribe, auth.RightPublish, auth.RightPresence}
}

// allRPC are the groups of gRPC methods that a token may allow.
func allRPC() []string {
	return []string{auth.RPCPublish, auth.RPCPresence, auth.RPCHistory, auth.RPCConnections, auth.RPCCluster}
}

type tokenMintCmd struct {
	User     string        `required:"" placeholder:"USER" help:"Whom the token is for: its sub."`
	Rooms    []string      `sep:"none" placeholder:"PATTERN" help:"A room, or a pattern with * at its end. Repeatable."`
	Rights   []string      `default:"subscribe" enum:"subscribe,publish,presence" help:"What the user may do in these rooms: subscribe, publish, presence."`
	RPC      []string      `name:"rpc" enum:"publish,presence,history,connections,cluster" placeholder:"GROUP" help:"gRPC methods that the token may call, for backend services: publish, presence, history, connections, cluster."`
	TTL      time.Duration `name:"ttl" default:"1h" help:"How long the token is valid."`
	KeyFile  string        `type:"path" placeholder:"FILE" help:"HMAC key, the same file as serve --token-hmac-key-file."`
	Issuer   string        `env:"ROOMCAST_TOKEN_ISSUER" placeholder:"ISS" help:"The iss."`
	Audience string        `env:"ROOMCAST_TOKEN_AUDIENCE" placeholder:"AUD" help:"The aud."`
	ID       string        `name:"id" placeholder:"ID" help:"The jti, by which the token can be revoked."`
}

// Run prints the token alone on standard output.
func (c *tokenMintCmd) Run(p *process) error {
	if c.TTL <= 0 {
		return usagef("--ttl must be more than 0")
	}
	key, err := c.key(p)
	if err != nil {
		return &usageError{err}
	}
	rooms := make(map[string][]string, len(c.Rooms))
	for _, pattern := range c.Rooms {
		rooms[pattern] = c.Rights
	}
	now := time.Now()
	token, err := auth.Mint(key, auth.Claims{
		User: c.User, Rooms: rooms, RPC: c.RPC,
		Issuer: c.Issuer, Audience: c.Audience, ID: c.ID,
		IssuedAt: now, Expires: now.Add(c.TTL),
	})
	if err != nil {
		return &usageError{err}
	}
	p.printf("%s\n", token)
	return nil
}

func (c *tokenMintCmd) key(p *process) ([]byte, error) {
	if c.KeyFile == "" {
		p.notef("signed with the public development key: only serve --dev accepts it\n")
		return []byte(devKey), nil
	}
	return readHMACKey("--key-file", c.KeyFile)
}

// readHMACKey reads a flag's file as auth does: the raw secret without one line end.
func readHMACKey(flag, path string) ([]byte, error) {
	key, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", flag, err)
	}
	if bytes.HasPrefix(key, []byte("-----BEGIN ")) {
		return nil, fmt.Errorf("%s: %s is a PEM file; tokens are signed here with an HMAC secret only", flag, path)
	}
	if trimmed, ok := bytes.CutSuffix(key, []byte("\n")); ok {
		key = bytes.TrimSuffix(trimmed, []byte("\r"))
	}
	if len(key) < auth.MinHMACKey {
		return nil, fmt.Errorf("%s: %s has %d bytes; a key must have at least %d", flag, path, len(key), auth.MinHMACKey)
	}
	return key, nil
}

type tokenCheckCmd struct {
	Token         string   `arg:"" help:"The token, or - to read it from standard input, which keeps it out of the shell's history."`
	KeyFile       []string `placeholder:"FILE" help:"HMAC key to check the signature with. Repeatable."`
	PublicKeyFile []string `placeholder:"FILE" help:"PEM public key to check the signature with. Repeatable."`
	Issuer        string   `env:"ROOMCAST_TOKEN_ISSUER" placeholder:"ISS" help:"The iss that it must have."`
	Audience      string   `env:"ROOMCAST_TOKEN_AUDIENCE" placeholder:"AUD" help:"The aud that it must have."`
}

// maxTokenInput bounds what is read from standard input, in bytes: more than any
// token may have.
const maxTokenInput = 2 * auth.MaxToken

// Run explains the token and, with keys, judges it as a node with these keys
// would. A token that no such node takes is exit code 1.
func (c *tokenCheckCmd) Run(p *process) error {
	token := c.Token
	if token == "-" {
		text, err := io.ReadAll(io.LimitReader(p.stdin, maxTokenInput))
		if err != nil {
			return fmt.Errorf("read the token: %w", err)
		}
		token = strings.TrimSpace(string(text))
	}
	explanation := auth.Explain(token, time.Now())
	p.printf("%s", explanation)
	if len(c.KeyFile)+len(c.PublicKeyFile) == 0 {
		return c.checkDevelopment(p, token, len(explanation.Problems) > 0)
	}
	err := c.verify(token, auth.Config{HMACKeyFiles: c.KeyFile, PublicKeyFiles: c.PublicKeyFile})
	if err != nil {
		return err
	}
	p.printf("verdict  valid with these keys\n")
	return nil
}

// checkDevelopment says what can be said without keys.
func (c *tokenCheckCmd) checkDevelopment(p *process, token string, problems bool) error {
	switch {
	case problems:
		p.printf("verdict  no node takes it\n")
		return errSilent
	case c.verify(token, auth.Config{DevKey: []byte(devKey)}) == nil:
		p.printf("verdict  signed with the public development key: only serve --dev accepts it\n")
	default:
		p.printf("verdict  signature not checked; give --key-file or --public-key-file\n")
	}
	return nil
}

// verify names the cause of a refusal: whoever holds the keys may know it.
func (c *tokenCheckCmd) verify(token string, cfg auth.Config) error {
	cfg.Issuer, cfg.Audience = c.Issuer, c.Audience
	verifier, err := auth.NewVerifier(cfg)
	if err != nil {
		return &usageError{err}
	}
	_, err = verifier.Verify(token, time.Now())
	if refusal, ok := errors.AsType[*room.Error](err); ok && refusal.Err != nil {
		return fmt.Errorf("%s: %w", refusal.Msg, refusal.Err)
	}
	return err
}
