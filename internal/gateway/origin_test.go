package gateway

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestOrigins(t *testing.T) {
	t.Parallel()
	policy, err := parseOrigins([]string{
		"https://app.example", "HTTP://Dev.Example:3000", "https://ported.example:443", "https://xn--bcher-kva.example",
		"capacitor://localhost", "http://[::1]:3000",
	})
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		origin string
		want   bool
	}{
		"same host":               {"http://node.example", true},
		"same host behind TLS":    {"https://node.example", true},
		"same host, upper case":   {"HTTPS://NODE.EXAMPLE", true},
		"same host, default port": {"https://node.example:443", true},
		"same host, other port":   {"http://node.example:8081", false},
		"same host, other scheme": {"ftp://node.example", false},
		"allowed":                 {"https://app.example", true},
		"allowed, upper case":     {"https://APP.example", true},
		"allowed, default port":   {"https://app.example:443", true},
		"allowed with a port":     {"http://dev.example:3000", true},
		"allowed with :443":       {"https://ported.example", true},
		"allowed IDN":             {"https://xn--bcher-kva.example", true},
		"allowed app":             {"capacitor://localhost", true},
		"allowed IPv6":            {"http://[::1]:3000", true},
		"other scheme":            {"http://app.example", false},
		"other port":              {"https://app.example:8443", false},
		"port of dev":             {"http://dev.example", false},
		"suffix":                  {"https://app.example.evil", false},
		"prefix":                  {"https://evilapp.example", false},
		"subdomain":               {"https://x.app.example", false},
		"user":                    {"https://app.example@evil.example", false},
		"user of ours":            {"https://evil@app.example", false},
		"password":                {"https://node.example:80@evil.example", false},
		"path":                    {"https://app.example/", false},
		"query":                   {"https://app.example?", false},
		"fragment":                {"https://app.example#", false},
		"backslash":               {`https://evil.example\app.example`, false},
		"space":                   {"https://app.example ", false},
		"two in one":              {"https://app.example, https://evil.example", false},
		"IDN as it is":            {"https://bücher.example", false},
		"case folding":            {"https://\u212aelvin.example", false},
		"a path of ours":          {"http://node.example/", false},
		"null":                    {"null", false},
		"empty":                   {"", false},
		"no scheme":               {"node.example", false},
		"no host":                 {"https://", false},
		"bad port":                {"https://app.example:x", false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequest(http.MethodGet, "http://node.example/v1/ws", nil)
			r.Header.Set("Origin", test.origin)
			if got := policy.allows(r); got != test.want {
				t.Errorf("origin %q is allowed: %v, want %v", test.origin, got, test.want)
			}
		})
	}
}

func TestOriginOfAPortedHost(t *testing.T) {
	t.Parallel()
	r := httptest.NewRequest(http.MethodGet, "http://localhost:8080/v1/ws", nil)
	for origin, want := range map[string]bool{
		"http://localhost:8080": true, "http://localhost": false, "http://localhost:3000": false, "http://127.0.0.1:8080": false,
	} {
		r.Header.Set("Origin", origin)
		if got := (originPolicy{}).allows(r); got != want {
			t.Errorf("origin %q is allowed: %v, want %v", origin, got, want)
		}
	}
	r.Header.Set("Origin", "http://localhost:8080")
	r.TLS = &tls.ConnectionState{}
	if (originPolicy{}).allows(r) {
		t.Error("a page without TLS is of the same host as one with it")
	}
}

func TestBadOriginSettings(t *testing.T) {
	t.Parallel()
	for _, s := range []string{
		"", "*", "null", "app.example", "https://", "https://app.example/", "https://*.example/x",
		"https://u@app.example", "https://bücher.example", "https://a b", "https://app.example?x", "https://a, https://b",
	} {
		_, err := parseOrigins([]string{"https://ok.example", s})
		if err == nil || !strings.Contains(err.Error(), "--allowed-origins") {
			t.Errorf("%q: got %v, want an error that names the setting", s, err)
		}
		if _, err := New(Config{AllowedOrigins: []string{s}}); err == nil {
			t.Errorf("New took the origin %q", s)
		}
	}
}

func TestClientAddr(t *testing.T) {
	t.Parallel()
	proxies, err := parseProxies([]string{"10.0.0.0/8", "192.0.2.1", "2001:db8::/32"})
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		remote    string
		forwarded []string
		want      string
	}{
		"direct":                  {"198.51.100.7:999", nil, "198.51.100.7"},
		"direct, forged":          {"198.51.100.7:999", []string{"1.2.3.4"}, "198.51.100.7"},
		"proxy without header":    {"10.1.2.3:999", nil, "10.1.2.3"},
		"proxy":                   {"10.1.2.3:999", []string{"198.51.100.7"}, "198.51.100.7"},
		"single proxy":            {"192.0.2.1:999", []string{"198.51.100.7"}, "198.51.100.7"},
		"proxy, forged":           {"10.1.2.3:999", []string{"1.2.3.4, 198.51.100.7"}, "198.51.100.7"},
		"two proxies":             {"10.1.2.3:999", []string{"1.2.3.4, 198.51.100.7, 10.9.9.9"}, "198.51.100.7"},
		"two lines":               {"10.1.2.3:999", []string{"198.51.100.7", "10.9.9.9"}, "198.51.100.7"},
		"proxies only":            {"10.1.2.3:999", []string{"10.4.4.4, 10.9.9.9"}, "10.4.4.4"},
		"with a port":             {"10.1.2.3:999", []string{"198.51.100.7:443"}, "198.51.100.7"},
		"IPv6":                    {"[2001:db8::1]:999", []string{"2001:db9::7"}, "2001:db9::7"},
		"IPv6 with a port":        {"[2001:db8::1]:999", []string{"[2001:db9::7]:443"}, "2001:db9::7"},
		"IPv4 in IPv6":            {"[::ffff:10.1.2.3]:999", []string{"::ffff:198.51.100.7"}, "198.51.100.7"},
		"nonsense":                {"10.1.2.3:999", []string{"unknown"}, "10.1.2.3"},
		"nonsense behind a proxy": {"10.1.2.3:999", []string{"<script>, 10.9.9.9"}, "10.9.9.9"},
		"no address":              {"pipe", []string{"1.2.3.4"}, "pipe"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequest(http.MethodGet, "/v1/ws", nil)
			r.RemoteAddr = test.remote
			r.Header["X-Forwarded-For"] = test.forwarded
			if got := proxies.clientAddr(r); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
	for _, s := range []string{"", "proxy.example", "10.0.0.0/33", "10.0.0.0/8,10.1.0.0/16"} {
		if _, err := parseProxies([]string{s}); err == nil || !strings.Contains(err.Error(), "--trusted-proxies") {
			t.Errorf("%q: got %v, want an error that names the setting", s, err)
		}
	}
}
