package main

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// conn prepares a plain gRPC connection, without the client's retries.
func (s *grpcServer) conn(c *caller) (*grpc.ClientConn, error) {
	addr, err := dialable(s.GRPCAddr)
	if err != nil {
		return nil, usagef("--grpc-addr: %w", err)
	}
	config, err := c.tlsConfig()
	if err != nil {
		return nil, err
	}
	encrypted := s.encrypted(addr, c)
	transport := credentials.NewTLS(config)
	if !encrypted {
		transport = insecure.NewCredentials()
	}
	options := []grpc.DialOption{grpc.WithTransportCredentials(transport)}
	if c.Token != "" {
		options = append(options, grpc.WithPerRPCCredentials(bearer{token: c.Token, encrypted: encrypted}))
	}
	conn, err := grpc.NewClient(addr, options...)
	if err != nil {
		return nil, usagef("--grpc-addr: %w", err)
	}
	return conn, nil
}

// bearer puts a fixed token into the metadata of each call.
type bearer struct {
	token     string
	encrypted bool
}

// GetRequestMetadata implements [credentials.PerRPCCredentials].
func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + b.token}, nil
}

// RequireTransportSecurity implements [credentials.PerRPCCredentials].
func (b bearer) RequireTransportSecurity() bool { return b.encrypted }
