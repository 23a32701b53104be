package elb

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// register makes the Watcher's metrics. None carries the name of a target group:
// there are too many.
func (w *Watcher) register(reg prometheus.Registerer) {
	auto := promauto.With(reg)
	auto.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "drain_wait_pollers", Help: "Target groups that are watched now.",
	}, func() float64 { return float64(w.Pollers()) })
	auto.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "drain_wait_aws_rate_budget", Help: "Requests per second that this replica may send to AWS now: its share of the configured rate, and less while AWS throttles.",
	}, w.Rate)
	w.calls = auto.NewCounterVec(prometheus.CounterOpts{
		Name: "drain_wait_aws_calls_total", Help: "Calls to AWS, by operation and error code (OK for none).",
	}, []string{"operation", "code"})
	w.throttles = auto.NewCounter(prometheus.CounterOpts{
		Name: "drain_wait_aws_throttled_total", Help: "Calls that AWS throttled.",
	})
}
