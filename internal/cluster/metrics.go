package cluster

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Register registers what the index tells Prometheus about itself.
func (x *Index) Register(reg prometheus.Registerer) {
	promauto.With(reg).NewGaugeFunc(prometheus.GaugeOpts{
		Name: "drain_wait_watch_age_seconds", Help: "How long the quietest watch of the cluster has told nothing; a working one tells something about once a minute.",
	}, func() float64 { return x.WatchAge().Seconds() })
}
