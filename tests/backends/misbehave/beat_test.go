package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

func TestItBeatsUntilItHangs(t *testing.T) {
	heard := make(chan beat, 1000)
	operator := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var got beat
		if err := json.NewDecoder(r.Body).Decode(&got); err != nil {
			t.Error(err)
		}
		heard <- got
	}))
	defer operator.Close()
	s := begin(t, "--beat-to", operator.URL, "--beat-every", "10ms", "--beat-id", "a", "--beat-token", "b", "--beat-pod-uid", "c")
	for range 3 {
		select {
		case got := <-heard:
			if (got != beat{"a", "b", "c"}) {
				t.Errorf("%+v", got)
			}
		case <-time.After(patience):
			t.Fatal("no beat")
		}
	}
	ask(t, http.MethodPost, s.url("control", "/_/hang?port=main"))
	await(t, "silence", func() bool {
		select {
		case <-heard:
			return false
		case <-time.After(moment):
			return true
		}
	})
}
