package bus

import (
	"github.com/nats-io/nats.go"
)

// Server says how to reach an external NATS. Empty fields are not used.
type Server struct {
	URL            string // comma-separated
	Creds          string // credentials file
	Nkey           string // nkey seed file
	User, Password string
	CA             string // PEM file of the servers' CA
	Cert, Key      string // PEM files of the client certificate
}

// options turns credentials and TLS into connection options.
func (s Server) options() ([]nats.Option, error) {
	var opts []nats.Option
	if s.Creds != "" {
		opts = append(opts, nats.UserCredentials(s.Creds))
	}
	if s.Nkey != "" {
		opt, err := nats.NkeyOptionFromSeed(s.Nkey)
		if err != nil {
			return nil, err
		}
		opts = append(opts, opt)
	}
	if s.User != "" {
		opts = append(opts, nats.UserInfo(s.User, s.Password))
	}
	if s.CA != "" {
		opts = append(opts, nats.RootCAs(s.CA))
	}
	if s.Cert != "" {
		opts = append(opts, nats.ClientCert(s.Cert, s.Key))
	}
	return opts, nil
}
