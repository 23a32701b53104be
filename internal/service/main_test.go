package service_test

import (
	"testing"

	"drainwait/internal/service/servicetest"
)

func TestMain(m *testing.M) { servicetest.Main(m) }
