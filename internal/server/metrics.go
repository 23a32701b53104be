package server

import (
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"drainwait/internal/api"
)

// Metrics are what the service tells Prometheus about itself. None carries the
// name of a pod or of a target group: there are too many.
type Metrics struct {
	waits     *prometheus.CounterVec
	waited    *prometheus.HistogramVec
	inFlight  prometheus.Gauge
	calls     *prometheus.CounterVec
	throttled prometheus.Counter
	fallbacks *prometheus.CounterVec
}

// Gauges are asked at each scrape.
type Gauges struct {
	Pollers  func() int           // target groups that are watched now
	Rate     func() float64       // requests per second to AWS that are allowed now
	WatchAge func() time.Duration // of the watch of the cluster that has been silent for longest
	Denied   func() int           // accounts and Regions in which AWS refused our first call
}

// NewMetrics registers the metrics.
func NewMetrics(reg prometheus.Registerer, version string, g Gauges) *Metrics {
	auto := promauto.With(reg)
	auto.NewGauge(prometheus.GaugeOpts{
		Name: "drain_wait_build_info", Help: "Always 1; the labels say what runs.",
		ConstLabels: prometheus.Labels{"version": version, "goversion": runtime.Version()},
	}).Set(1)
	auto.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "drain_wait_pollers", Help: "Target groups that are watched now.",
	}, func() float64 { return float64(g.Pollers()) })
	auto.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "drain_wait_aws_rate_budget", Help: "Requests per second to AWS that are allowed now: less than configured while AWS throttles, and shared by the replicas.",
	}, g.Rate)
	auto.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "drain_wait_watch_age_seconds", Help: "How long the quietest watch of the cluster has told nothing; a working one tells something about once a minute.",
	}, func() float64 { return g.WatchAge().Seconds() })
	auto.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "drain_wait_aws_accounts_denied", Help: "Accounts and Regions in which AWS has refused our first call, so that no wait can succeed there.",
	}, func() float64 { return float64(g.Denied()) })
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m := &Metrics{
		waits: auto.NewCounterVec(prometheus.CounterOpts{
			Name: "drain_wait_waits_total", Help: "Waits that are over, by outcome, or by error where the status was not 200.",
		}, []string{"outcome"}),
		waited: auto.NewHistogramVec(prometheus.HistogramOpts{
			Name: "drain_wait_wait_duration_seconds", Help: "How long callers were held, by outcome or error.",
			Buckets: []float64{0.1, 1, 5, 10, 15, 20, 25, 30, 45, 60, 90, 120, 150, 180, 240, 300, 600},
		}, []string{"outcome"}),
		inFlight: auto.NewGauge(prometheus.GaugeOpts{
			Name: "drain_wait_waits_in_flight", Help: "Callers that are held now.",
		}),
		calls: auto.NewCounterVec(prometheus.CounterOpts{
			Name: "drain_wait_aws_calls_total", Help: "Calls to AWS, by operation and error code (OK for none).",
		}, []string{"operation", "code"}),
		throttled: auto.NewCounter(prometheus.CounterOpts{
			Name: "drain_wait_aws_throttled_total", Help: "Calls that AWS turned away for their rate.",
		}),
		fallbacks: auto.NewCounterVec(prometheus.CounterOpts{
			Name: "drain_wait_fallbacks_total", Help: "Hooks that told of having done without an answer, by reason.",
		}, []string{"reason"}),
	}
	for _, reason := range api.Reasons {
		m.fallbacks.WithLabelValues(reason) // there from the start, so that the first one is an increase
	}
	return m
}

// AWSCall counts a call to AWS by the error code of its answer, and whether it
// was turned away for its rate.
func (m *Metrics) AWSCall(operation, code string, throttled bool) {
	m.calls.WithLabelValues(operation, code).Inc()
	if throttled {
		m.throttled.Inc()
	}
}

// over counts a wait that is over.
func (m *Metrics) over(outcome string, took time.Duration) {
	m.waits.WithLabelValues(outcome).Inc()
	m.waited.WithLabelValues(outcome).Observe(took.Seconds())
}
