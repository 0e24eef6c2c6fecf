package auth

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/golang-jwt/jwt/v5"
)

// Limits of keys.
const (
	MinHMACKey  = 32       // bytes of an HMAC secret
	MinRSABits  = 2048     // of an RSA modulus
	MaxKeys     = 16       // of one verifier: a token without kid tries each of its algorithm
	maxKeyBytes = 64 << 10 // of a key file
)

// The algorithms that are served. A key serves exactly one of them, by its type.
const (
	algHS256 = "HS256"
	algRS256 = "RS256"
	algES256 = "ES256"
	algEdDSA = "EdDSA"
)

// devKid names the development key.
const devKid = "dev"

// Config says which tokens count. Its zero value refuses every token.
type Config struct {
	// HMACKeyFiles hold one HS256 secret each: the raw bytes of the file without one
	// trailing newline, at least [MinHMACKey] bytes.
	HMACKeyFiles []string

	// PublicKeyFiles hold one public key each in PEM: PKIX ("PUBLIC KEY") or an
	// X.509 certificate, of which only the key counts. RSA from [MinRSABits] serves
	// RS256, EC P-256 serves ES256, Ed25519 serves EdDSA.
	PublicKeyFiles []string

	Issuer   string // a token's iss must equal it; empty = not looked at
	Audience string // a token's aud must be or contain it; empty = not looked at

	DevKey []byte // HS256 secret of a development node; nil = none
}

// Empty reports whether no key is configured, so that no token can pass.
func (c Config) Empty() bool {
	return len(c.HMACKeyFiles) == 0 && len(c.PublicKeyFiles) == 0 && len(c.DevKey) == 0
}

// keyID is how a token's header picks a key.
type keyID struct{ alg, kid string }

// keySet holds the keys by algorithm. It never changes once made.
type keySet struct {
	byAlg map[string][]jwt.VerificationKey
	byKid map[keyID][]jwt.VerificationKey
}

// loadKeys reads all keys of a configuration. Errors name the file and the mend.
func loadKeys(c Config) (*keySet, error) {
	if n := len(c.HMACKeyFiles) + len(c.PublicKeyFiles); n > MaxKeys {
		return nil, fmt.Errorf("%d token key files are configured; the limit is %d", n, MaxKeys)
	}
	set := &keySet{
		byAlg: make(map[string][]jwt.VerificationKey),
		byKid: make(map[keyID][]jwt.VerificationKey),
	}
	for _, path := range c.HMACKeyFiles {
		key, err := loadHMACKey(path)
		if err != nil {
			return nil, fmt.Errorf("token key file %q: %w", path, err)
		}
		set.add(algHS256, kidOf(path), key)
	}
	for _, path := range c.PublicKeyFiles {
		alg, key, err := loadPublicKey(path)
		if err != nil {
			return nil, fmt.Errorf("token key file %q: %w", path, err)
		}
		set.add(alg, kidOf(path), key)
	}
	if len(c.DevKey) > 0 {
		if err := checkHMACKey(c.DevKey); err != nil {
			return nil, fmt.Errorf("development key: %w", err)
		}
		set.add(algHS256, devKid, bytes.Clone(c.DevKey))
	}
	return set, nil
}

func (s *keySet) add(alg, kid string, key jwt.VerificationKey) {
	s.byAlg[alg] = append(s.byAlg[alg], key)
	id := keyID{alg, kid}
	s.byKid[id] = append(s.byKid[id], key)
}

// find returns the keys to try. A kid that names no key of this algorithm is no
// error, because issuers choose kids without knowing our file names: every key of
// the algorithm is tried then. The result may be empty.
func (s *keySet) find(alg, kid string) []jwt.VerificationKey {
	if keys := s.byKid[keyID{alg, kid}]; len(keys) > 0 {
		return keys
	}
	return s.byAlg[alg]
}

// kidOf names a key by its file: "/etc/roomcast/2026-05.pem" is "2026-05".
func kidOf(path string) string {
	base := filepath.Base(path)
	return strings.TrimSuffix(base, filepath.Ext(base))
}

func loadHMACKey(path string) ([]byte, error) {
	key, err := readKeyFile(path)
	if err != nil {
		return nil, err
	}
	if bytes.HasPrefix(key, []byte("-----BEGIN ")) {
		// A public key is known to all: as an HMAC secret anyone could sign with it.
		return nil, errors.New("is a PEM file, but an HMAC key file holds the raw secret; a public key belongs to the public key files")
	}
	if trimmed, ok := bytes.CutSuffix(key, []byte("\n")); ok {
		key = bytes.TrimSuffix(trimmed, []byte("\r"))
	}
	return key, checkHMACKey(key)
}

func checkHMACKey(key []byte) error {
	if len(key) < MinHMACKey {
		return fmt.Errorf("the HMAC key has %d bytes; it must have at least %d", len(key), MinHMACKey)
	}
	return nil
}

func loadPublicKey(path string) (alg string, key jwt.VerificationKey, err error) {
	data, err := readKeyFile(path)
	if err != nil {
		return "", nil, err
	}
	block, rest := pem.Decode(data)
	if block == nil {
		return "", nil, errors.New("holds no PEM block; want PUBLIC KEY or CERTIFICATE")
	}
	if second, _ := pem.Decode(rest); second != nil {
		return "", nil, errors.New("holds more than one PEM block; put one key into each file")
	}
	switch block.Type {
	case "PUBLIC KEY":
		parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return "", nil, fmt.Errorf("read public key: %w", err)
		}
		return classify(parsed)
	case "CERTIFICATE":
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return "", nil, fmt.Errorf("read certificate: %w", err)
		}
		return classify(cert.PublicKey)
	}
	if strings.Contains(block.Type, "PRIVATE") {
		return "", nil, fmt.Errorf("holds a private key (%s); a node needs only the public one", block.Type)
	}
	return "", nil, fmt.Errorf("holds a PEM block %q; want PUBLIC KEY or CERTIFICATE", block.Type)
}

// classify gives a public key its one algorithm.
func classify(key any) (string, jwt.VerificationKey, error) {
	switch k := key.(type) {
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits < MinRSABits {
			return "", nil, fmt.Errorf("the RSA key has %d bits; it must have at least %d", bits, MinRSABits)
		}
		return algRS256, k, nil
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() {
			return "", nil, fmt.Errorf("the EC key is on curve %s; want P-256", k.Curve.Params().Name)
		}
		return algES256, k, nil
	case ed25519.PublicKey:
		return algEdDSA, k, nil
	}
	return "", nil, fmt.Errorf("holds a key of type %T; want RSA, EC P-256 or Ed25519", key)
}

// readKeyFile reads a small file. Errors do not repeat the path.
func readKeyFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, withoutPath(err)
	}
	defer func() { _ = f.Close() }() // it was only read
	data, err := io.ReadAll(io.LimitReader(f, maxKeyBytes+1))
	if err != nil {
		return nil, withoutPath(err)
	}
	if len(data) > maxKeyBytes {
		return nil, fmt.Errorf("has more than %d bytes; that is no key", maxKeyBytes)
	}
	return data, nil
}

func withoutPath(err error) error {
	if e, ok := errors.AsType[*os.PathError](err); ok {
		return fmt.Errorf("%s: %w", e.Op, e.Err)
	}
	return err
}
