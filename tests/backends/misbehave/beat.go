package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"time"
)

// beat is an agent's heartbeat. The operator drops fields that it does not know.
type beat struct {
	ID    string `json:"connector_id"`
	Token string `json:"token"`
	PodID string `json:"pod_uid,omitempty"`
}

// beatOn makes this process act as an agent: it sends heartbeats, and stops when its main port hangs, because then the
// whole process counts as deadlocked.
func (s *site) beatOn() {
	body, err := json.Marshal(beat{s.config.beatID, s.config.beatToken, s.config.beatPodUID})
	if err != nil {
		panic("three strings always become JSON: " + err.Error())
	}
	client := http.Client{Timeout: s.config.beatEvery}
	every := time.NewTicker(s.config.beatEvery)
	defer every.Stop()
	for !s.isHung("main") {
		if err := send(&client, s.config.beatTo, body); err != nil {
			// Without the request: it contains the token.
			fmt.Fprintln(os.Stderr, "misbehave: a beat was not heard:", err)
		}
		select {
		case <-every.C:
		case <-s.shut:
			return
		}
	}
}

func send(client *http.Client, to string, body []byte) error {
	answer, err := client.Post(to, "application/json", bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("sending it: %w", err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("it was answered %s", answer.Status)
	}
	return nil
}
