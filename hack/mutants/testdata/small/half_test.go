package small

import "testing"

func TestHalf(t *testing.T) {
	t.Run("of four", func(t *testing.T) {
		if Half(4) != 2 {
			t.Error(Half(4))
		}
	})
	t.Run("and more", func(t *testing.T) {
		if more(Half(4)) != 3 {
			t.Error(more(Half(4)))
		}
	})
	t.Run("and a channel", func(t *testing.T) {
		c := make(chan bool, 2)
		send(c)
		if ok := <-c; !ok || len(c) > 0 {
			t.Error(ok, len(c))
		}
	})
}

func TestRed(t *testing.T) { t.Error(twice(1)) }
