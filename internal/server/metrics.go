package server

import (
	"runtime"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"drainwait/internal/api"
)

// metrics are what the service tells Prometheus about its callers. None carries
// the name of a pod or of a target group: there are too many.
type metrics struct {
	waits     *prometheus.CounterVec
	waited    *prometheus.HistogramVec
	fallbacks *prometheus.CounterVec
	panics    prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, version string, callers *atomic.Int64) *metrics {
	auto := promauto.With(reg)
	auto.NewGauge(prometheus.GaugeOpts{
		Name: "drain_wait_build_info", Help: "Always 1; the labels say what runs.",
		ConstLabels: prometheus.Labels{"version": version, "goversion": runtime.Version()},
	}).Set(1)
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	auto.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "drain_wait_waits_in_flight", Help: "Callers that are held now.",
	}, func() float64 { return float64(callers.Load()) })
	m := &metrics{
		waits: auto.NewCounterVec(prometheus.CounterOpts{
			Name: "drain_wait_waits_total", Help: "Finished waits, by outcome, or by error if the status was not 200.",
		}, []string{"outcome"}),
		waited: auto.NewHistogramVec(prometheus.HistogramOpts{
			Name: "drain_wait_wait_duration_seconds", Help: "How long callers were held, by outcome or error.",
			Buckets: []float64{0.1, 1, 5, 10, 15, 20, 25, 30, 45, 60, 90, 120, 150, 180, 240, 300, 600},
		}, []string{"outcome"}),
		fallbacks: auto.NewCounterVec(prometheus.CounterOpts{
			Name: "drain_wait_fallbacks_total", Help: "Hooks that reported that they took their fallback, by reason.",
		}, []string{"reason"}),
		panics: auto.NewCounter(prometheus.CounterOpts{
			Name: "drain_wait_panics_total", Help: "Waits that a bug has ended; the log has the stack.",
		}),
	}
	// There from the start, so that the first one is an increase.
	for _, outcome := range api.Outcomes {
		m.waits.WithLabelValues(string(outcome))
	}
	for _, reason := range api.Reasons {
		m.fallbacks.WithLabelValues(reason)
	}
	return m
}

// countWait counts a wait that is over.
func (m *metrics) countWait(outcome string, took time.Duration) {
	m.waits.WithLabelValues(outcome).Inc()
	m.waited.WithLabelValues(outcome).Observe(took.Seconds())
}
