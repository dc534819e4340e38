// Command misbehave is a server that fails in every way that a probe must recognise, on request. See ../README.md.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// config is set at the start, by flag or by the environment variable of the same name.
type config struct {
	listen, management, control, blackhole, dns, dnsAnswer string
	mode, managementMode, grpc                             string
	bearer, basic                                          string
	tls, tlsDirectory, tlsNames                            string
	tlsValid                                               time.Duration
	beatTo, beatID, beatToken, beatPodUID                  string
	beatEvery                                              time.Duration
	listenAfter, crashAfter                                time.Duration
	exit                                                   int
	message, terminationLog                                string
	ignoreTerminate                                        bool
}

func parse(arguments []string, environment func(string) (string, bool), errors io.Writer) (config, error) {
	var c config
	flags := flag.NewFlagSet("misbehave", flag.ContinueOnError)
	flags.SetOutput(errors)
	flags.StringVar(&c.listen, "listen", "127.0.0.1:0", "address of the main port; port 0 takes a free one")
	flags.StringVar(&c.management, "management", "", "address of a second port with the same pages")
	flags.StringVar(&c.control, "control", "", "address of a port that serves /_/ only, and never misbehaves")
	flags.StringVar(&c.blackhole, "blackhole", "", "address of a port on which connecting times out")
	flags.StringVar(&c.dns, "dns", "", "UDP address of a name server, see the README")
	flags.StringVar(&c.dnsAnswer, "dns-answer", "192.0.2.10", "addresses that the name server gives, with commas")
	flags.StringVar(&c.mode, "mode", "ok", "mode of the main port, such as 'status/503' or 'slow/first-byte;seconds=3'")
	flags.StringVar(&c.managementMode, "management-mode", "ok", "mode of the management port")
	flags.StringVar(&c.grpc, "grpc", "serving", "what the gRPC health service says")
	flags.StringVar(&c.bearer, "bearer", "right", "the token that auth/bearer lets in")
	flags.StringVar(&c.basic, "basic", "right:right", "the user and password that auth/basic lets in")
	flags.StringVar(&c.tls, "tls", "", "TLS of the main port: "+strings.Join(tlsModes, ", "))
	flags.StringVar(&c.tlsDirectory, "tls-dir", "", "directory for ca.crt, tls.crt, client.crt, client.key and their like")
	flags.StringVar(&c.tlsNames, "tls-names", "", "names and addresses in the certificate, with commas; else this host's")
	flags.DurationVar(&c.tlsValid, "tls-valid", 90*24*time.Hour, "how long the certificate is valid from now")
	flags.StringVar(&c.beatTo, "beat-to", "", "URL that heartbeats are sent to until the main port hangs")
	flags.DurationVar(&c.beatEvery, "beat-every", 5*time.Second, "time between two heartbeats")
	flags.StringVar(&c.beatID, "beat-id", "", "connector_id of a heartbeat")
	flags.StringVar(&c.beatToken, "beat-token", "", "token of a heartbeat: better set by MISBEHAVE_BEAT_TOKEN, which other users cannot read")
	flags.StringVar(&c.beatPodUID, "beat-pod-uid", "", "pod_uid of a heartbeat")
	flags.DurationVar(&c.listenAfter, "listen-after", 0, "listen only after this long; negative: never")
	flags.DurationVar(&c.crashAfter, "crash-after", 0, "crash this long after the start; negative: at once")
	flags.IntVar(&c.exit, "exit", 1, "exit code of a crash")
	flags.StringVar(&c.message, "message", "crashed, as asked", "what a crash says on stderr and in the termination log")
	flags.StringVar(&c.terminationLog, "termination-log", "/dev/termination-log", "written by a crash, where it exists")
	flags.BoolVar(&c.ignoreTerminate, "ignore-sigterm", false, "do not end on SIGTERM")

	// The environment first, so that a flag takes precedence.
	var wrong error
	flags.VisitAll(func(f *flag.Flag) {
		name := "MISBEHAVE_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		if value, ok := environment(name); ok && wrong == nil {
			if err := flags.Set(f.Name, value); err != nil {
				wrong = fmt.Errorf("%s=%q: %w", name, value, err)
			}
		}
	})
	if wrong != nil {
		return c, wrong
	}
	if err := flags.Parse(arguments); err != nil {
		return c, err
	}
	if flags.NArg() > 0 {
		return c, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	return c, nil
}

func main() {
	c, err := parse(os.Args[1:], os.LookupEnv, os.Stderr)
	if err == flag.ErrHelp {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "misbehave:", err)
		os.Exit(2)
	}
	if err := run(c); err != nil {
		fmt.Fprintln(os.Stderr, "misbehave:", err)
		os.Exit(1)
	}
}

func run(c config) error {
	signals := make(chan os.Signal, 1)
	// Process 1 of a container gets no default action for signals: without this it would live until SIGKILL.
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	ending := func(s os.Signal) bool { return s == os.Interrupt || !c.ignoreTerminate }

	if c.crashAfter != 0 {
		time.AfterFunc(max(c.crashAfter, 0), func() { crash(c, c.exit, c.message) })
	}
	if c.listenAfter != 0 {
		late := time.After(c.listenAfter)
		if c.listenAfter < 0 {
			late = nil
		}
		for waiting := true; waiting; {
			select {
			case s := <-signals:
				if ending(s) {
					return nil
				}
			case <-late:
				waiting = false
			}
		}
	}

	bound, err := start(context.Background(), c)
	if err != nil {
		return err
	}
	// One line of JSON with the addresses, for callers that passed port 0.
	if err := json.NewEncoder(os.Stdout).Encode(bound.addresses); err != nil {
		return fmt.Errorf("telling the addresses: %w", err)
	}
	for s := range signals {
		if ending(s) {
			break
		}
	}
	bound.close()
	return nil
}

// crash ends the process as a failing program does: its last output goes to stderr, and to the termination log.
func crash(c config, code int, message string) {
	if message != "" {
		fmt.Fprintln(os.Stderr, message)
		// Only if the kubelet has created the file; elsewhere it is never read.
		if file, err := os.OpenFile(c.terminationLog, os.O_WRONLY|os.O_TRUNC, 0); err == nil {
			_, _ = file.WriteString(message)
			_ = file.Close()
		}
	}
	os.Exit(code)
}
