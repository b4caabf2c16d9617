// Package metrics serves a sandbox's counters in Prometheus' format.
package metrics

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"ub/hot"
	"ub/sentry/statfile"
)

// Server serves one statistics file until Close.
type Server struct {
	http     *http.Server
	listener net.Listener
}

// Serve begins to serve f at addr, as launch.MetricsAddr returns it, under /metrics.
func Serve(addr string, f *statfile.File) (*Server, error) {
	l, err := listen(addr)
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(&collector{f: f})
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	s := &Server{http: &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}, listener: l}
	go s.http.Serve(l)
	return s, nil
}

// listen opens the socket. A socket file that nobody listens on any more is replaced.
func listen(addr string) (net.Listener, error) {
	path, ok := strings.CutPrefix(addr, "unix:")
	if !ok {
		return net.Listen("tcp", addr)
	}
	if st, err := os.Lstat(path); err == nil && st.Mode()&fs.ModeSocket != 0 {
		c, err := net.DialTimeout("unix", path, time.Second)
		if err == nil {
			c.Close()
			return nil, fmt.Errorf("%s is in use", path)
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// Addr is where the server listens.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Close ends the server, and removes its socket file.
func (s *Server) Close() error { return s.http.Close() }

// collector reads the file anew for each scrape.
type collector struct{ f *statfile.File }

// live are the counters that go both ways.
var live = map[statfile.Counter]bool{
	statfile.SitesLive: true, statfile.BlobsLive: true, statfile.BlobBytesLive: true, statfile.SpacesLive: true, statfile.SpacesMirrored: true,
}

var (
	counterDescs = func() (d [statfile.NumCounters]*prometheus.Desc) {
		for c := range d {
			name := statfile.Counter(c).Name()
			if !live[statfile.Counter(c)] {
				name += "_total"
			}
			d[c] = prometheus.NewDesc("ub_"+name, "Counter "+statfile.Counter(c).Name()+" of the sandbox, see docs/tuning.md.", nil, nil)
		}
		return d
	}()
	syscallsDesc = prometheus.NewDesc("ub_syscalls_total", "System calls of the program.", []string{"way"}, nil)
	gapsDesc     = prometheus.NewDesc("ub_gaps", "Gaps that the payoff controller knows, by state.", []string{"state"}, nil)
	savedDesc    = prometheus.NewDesc("ub_saved_seconds", "Time saved in gaps that are kept at present, by their measured payoffs.", nil, nil)
	threadsDesc  = prometheus.NewDesc("ub_threads", "Threads of the program that make system calls.", nil, nil)
)

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range counterDescs {
		ch <- d
	}
	for _, d := range []*prometheus.Desc{syscallsDesc, gapsDesc, savedDesc, threadsDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	n := c.f.Snapshot()
	for i, v := range n {
		kind := prometheus.CounterValue
		if live[statfile.Counter(i)] {
			kind = prometheus.GaugeValue
		}
		ch <- prometheus.MustNewConstMetric(counterDescs[i], kind, float64(v))
	}
	ch <- prometheus.MustNewConstMetric(syscallsDesc, prometheus.CounterValue, float64(n[statfile.Native]), "crossing")
	ch <- prometheus.MustNewConstMetric(syscallsDesc, prometheus.CounterValue, float64(n[statfile.Bypassed]), "bypassed")
	states := make([]int, hot.Split+1)
	saved := 0.0
	for _, g := range c.f.Gaps() {
		if int(g.State) < len(states) {
			states[g.State]++
		}
		if hot.State(g.State) == hot.Kept && g.PayoffNS > 0 {
			saved += float64(g.Bypassed) * float64(g.PayoffNS) / 1e9
		}
	}
	for s, k := range states {
		name := strings.ReplaceAll(hot.State(s).String(), " ", "_")
		ch <- prometheus.MustNewConstMetric(gapsDesc, prometheus.GaugeValue, float64(k), name)
	}
	ch <- prometheus.MustNewConstMetric(savedDesc, prometheus.GaugeValue, saved)
	ch <- prometheus.MustNewConstMetric(threadsDesc, prometheus.GaugeValue, float64(len(c.f.Threads())))
}
