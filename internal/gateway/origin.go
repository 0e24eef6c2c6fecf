package gateway

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// originPolicy says which web pages may open sockets. A request without an Origin
// is no browser's and is allowed.
type originPolicy struct {
	allowed map[string]bool // as parseOrigin writes them
}

// parseOrigins reads --allowed-origins.
func parseOrigins(list []string) (originPolicy, error) {
	p := originPolicy{allowed: make(map[string]bool, len(list))}
	for _, s := range list {
		scheme, host, ok := parseOrigin(s)
		if !ok {
			return p, fmt.Errorf("--allowed-origins: %q is no origin; write it like https://app.example (international names as xn--)", s)
		}
		p.allowed[scheme+"://"+host] = true
	}
	return p, nil
}

func (p originPolicy) allows(r *http.Request) bool {
	origins := r.Header["Origin"]
	if len(origins) == 0 {
		return true
	}
	scheme, host, ok := parseOrigin(origins[0])
	if !ok || len(origins) > 1 {
		return false
	}
	return p.allowed[scheme+"://"+host] || sameHost(r, scheme, host)
}

// sameHost reports whether a page is of the host that it asks. Without TLS here a
// proxy may have ended it, so the page's scheme can be either.
func sameHost(r *http.Request, scheme, host string) bool {
	if scheme != "https" && (scheme != "http" || r.TLS != nil) {
		return false
	}
	return withoutPort(scheme, strings.ToLower(r.Host)) == host
}

// parseOrigin takes an origin apart, RFC 6454 §6.2: scheme and host[:port], in lower
// case, without the port that the scheme implies. Only ASCII is one: browsers send
// xn-- names, and case folding beyond it would make different names equal.
func parseOrigin(s string) (scheme, host string, ok bool) {
	if strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7F }) {
		return "", "", false
	}
	scheme, host, ok = strings.Cut(strings.ToLower(s), "://")
	u, err := url.Parse(scheme + "://" + host)
	if !ok || err != nil || host == "" || u.Scheme != scheme || u.Host != host {
		return "", "", false // a path, a query, a user, or no URL at all
	}
	return scheme, withoutPort(scheme, host), true
}

// withoutPort cuts off the scheme's default port, which browsers leave out.
func withoutPort(scheme, host string) string {
	switch scheme {
	case "http":
		return strings.TrimSuffix(host, ":80")
	case "https":
		return strings.TrimSuffix(host, ":443")
	default:
		return host
	}
}

// proxyList is --trusted-proxies: whose X-Forwarded-For counts.
type proxyList []netip.Prefix

func parseProxies(list []string) (proxyList, error) {
	var proxies proxyList
	for _, s := range list {
		prefix, err := netip.ParsePrefix(s)
		if err != nil {
			addr, addrErr := netip.ParseAddr(s)
			if addrErr != nil {
				return nil, fmt.Errorf("--trusted-proxies: %q is no address or prefix", s)
			}
			prefix = netip.PrefixFrom(addr, addr.BitLen())
		}
		proxies = append(proxies, prefix.Masked())
	}
	return proxies, nil
}

func (l proxyList) trusts(addr netip.Addr) bool {
	for _, prefix := range l {
		if prefix.Contains(addr.Unmap()) {
			return true
		}
	}
	return false
}

// clientAddr returns the peer's address: the last one in X-Forwarded-For that is no
// trusted proxy, if the connection comes from one.
func (l proxyList) clientAddr(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	addr, err := netip.ParseAddr(host)
	if err != nil || !l.trusts(addr) {
		return host
	}
	hops := strings.Split(strings.Join(r.Header["X-Forwarded-For"], ","), ",")
	for _, text := range slices.Backward(hops) {
		hop, err := parseHop(strings.TrimSpace(text))
		if err != nil {
			break
		}
		addr = hop
		if !l.trusts(hop) {
			break
		}
	}
	return addr.Unmap().String()
}

// parseHop reads an address, with a port as some proxies write it or without.
func parseHop(s string) (netip.Addr, error) {
	if withPort, err := netip.ParseAddrPort(s); err == nil {
		return withPort.Addr(), nil
	}
	return netip.ParseAddr(s)
}
