package main

import (
	"encoding/binary"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// grpcAnswer is an answer of the health service: a status of grpc.health.v1, or an error.
type grpcAnswer struct {
	serving int // 0 UNKNOWN, 1 SERVING, 2 NOT_SERVING, 3 SERVICE_UNKNOWN
	code    int // of the call; 0 is OK
	message string
}

// grpcAnswers by their name in --grpc and /_/mode?grpc=; a request for a service of that name gets the answer as well.
var grpcAnswers = map[string]grpcAnswer{
	"serving":           {serving: 1},
	"not-serving":       {serving: 2},
	"unknown":           {serving: 0},
	"service-unknown":   {serving: 3},
	"not-found":         {code: 5, message: "unknown service"},
	"unimplemented":     {code: 12, message: "unknown service grpc.health.v1.Health"},
	"unavailable":       {code: 14, message: "shutting down"},
	"unauthenticated":   {code: 16, message: "no credentials"},
	"permission-denied": {code: 7, message: "not for you"},
	"internal":          {code: 13, message: "it broke"},
	"canary":            {code: 2, message: "CANARY-grpc-message-8f1c"},
}

func isGRPC(r *http.Request) bool {
	return r.ProtoMajor == 2 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc")
}

// serveGRPC implements the part of grpc.health.v1.Health that a prober uses: Check.
func (v *visit) serveGRPC() {
	v.site.mutex.Lock()
	says := v.site.grpcSays
	v.site.mutex.Unlock()

	answer := grpcAnswers[says]
	service, err := askedService(v.r.Body)
	switch {
	case v.r.URL.Path != "/grpc.health.v1.Health/Check":
		answer = grpcAnswers["unimplemented"]
	case err != nil:
		answer = grpcAnswer{code: 13, message: "the request is no HealthCheckRequest"}
	case service == "hang":
		v.site.hang(v.r)
		return
	case service != "":
		var known bool
		if answer, known = grpcAnswers[service]; !known {
			answer = grpcAnswers["not-found"]
		}
	}
	header := v.w.Header()
	header.Set("Content-Type", "application/grpc")
	if answer.code == 0 {
		v.w.WriteHeader(http.StatusOK)
		// Not compressed, two bytes: field 1 as a number.
		_, _ = v.w.Write([]byte{0, 0, 0, 0, 2, 8, byte(answer.serving)})
	}
	header.Set(http.TrailerPrefix+"Grpc-Status", strconv.Itoa(answer.code))
	if answer.message != "" {
		header.Set(http.TrailerPrefix+"Grpc-Message", answer.message)
	}
}

// askedService reads a HealthCheckRequest: at most one field, the service's name.
func askedService(body io.Reader) (string, error) {
	head := make([]byte, 5)
	if _, err := io.ReadFull(body, head); err != nil {
		return "", err
	}
	length := binary.BigEndian.Uint32(head[1:])
	if head[0] != 0 || length > 127+2 {
		return "", io.ErrUnexpectedEOF
	}
	message := make([]byte, length)
	if _, err := io.ReadFull(body, message); err != nil {
		return "", err
	}
	if len(message) == 0 {
		return "", nil
	}
	if len(message) < 2 || message[0] != 0x0a || int(message[1]) != len(message)-2 {
		return "", io.ErrUnexpectedEOF
	}
	return string(message[2:]), nil
}
