package launch

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestMetricsAddr(t *testing.T) {
	abs, _ := filepath.Abs("sock")
	for in, want := range map[string]string{
		"127.0.0.1:9100": "127.0.0.1:9100", "localhost:9100": "127.0.0.1:9100", ":9100": "127.0.0.1:9100", "[::1]:9100": "[::1]:9100",
		"unix:sock": "unix:" + abs, "unix:/x/y": "unix:/x/y",
	} {
		if got, err := MetricsAddr(in); err != nil || got != want {
			t.Errorf("MetricsAddr(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
	for _, in := range []string{"", "9100", "0.0.0.0:9100", "[::]:9100", "10.0.0.1:9100", "example.com:80", "127.0.0.1:0", "127.0.0.1:http", "unix:", "unix:/" + strings.Repeat("x", 200)} {
		if got, err := MetricsAddr(in); err == nil {
			t.Errorf("MetricsAddr(%q) = %q", in, got)
		}
	}
}
