// Calls SecretsService/ListSecrets at a steady rate until it is told to stop, and counts the answers. With -write it
// calls SetSecrets instead, and looks in the end whether all that was acknowledged is there.
//
// No call is repeated and none waits for a connection: what a server drops is counted as failed. What a client of the
// service is advised to do is done: names are resolved by DNS, calls go round all addresses, silence is asked about.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/resolver/dns"
	"google.golang.org/grpc/status"
)

var (
	target    = flag.String("target", "", "gRPC target, such as dns:///name:8080")
	authority = flag.String("ca", "", "file with the authority of the server's certificate; none for plaintext")
	agent     = flag.String("agent", "", "id of the agent whose keys are listed")
	rate      = flag.Int("rate", 200, "calls a second")
	channels  = flag.Int("channels", 4, "connections, or sets of them, in use at a time")
	alive     = flag.Duration("keepalive", 0, "ask after so much silence whether the server is still there; 0 for never")
	again     = flag.Duration("resolve-interval", time.Second, "shortest time between two look-ups of the target")
	timeout   = flag.Duration("timeout", 5*time.Second, "longest time of a call")
	write     = flag.String("write", "", "set keys that begin so, in place of listing; what is set stays")
)

// The request and its answer as bytes, of which `message.go` makes something.
type raw struct{}

func (raw) Name() string { return "proto" }

func (raw) Marshal(value any) ([]byte, error) { return value.([]byte), nil }

func (raw) Unmarshal(data []byte, value any) error {
	*value.(*[]byte) = slices.Clone(data)
	return nil
}

// What became of the calls.
type tally struct {
	sync.Mutex
	calls    int
	failures map[string]int
	slowest  time.Duration
	// The time from the first failure to the last, to tell how long an outage was felt.
	firstFailure, lastFailure time.Time
	// The longest time without a success: a call that waits for the end of an outage does not fail.
	gap         time.Duration
	lastSuccess time.Time
}

func (t *tally) add(err error, took time.Duration) {
	t.Lock()
	defer t.Unlock()
	t.calls++
	t.slowest = max(t.slowest, took)
	if err != nil {
		if t.firstFailure.IsZero() {
			t.firstFailure = time.Now()
		}
		t.lastFailure = time.Now()
		t.failures[fmt.Sprintf("%s: %s", status.Code(err), status.Convert(err).Message())]++
		return
	}
	t.endGap()
	t.lastSuccess = time.Now()
}

func (t *tally) endGap() {
	t.gap = max(t.gap, time.Since(t.lastSuccess))
}

// One line of figures, then one for each kind of failure.
func (t *tally) report() int {
	failed := 0
	for _, count := range t.failures {
		failed += count
	}
	felt := t.lastFailure.Sub(t.firstFailure)
	fmt.Printf("calls=%d failed=%d slowest=%dms felt=%dms gap=%dms\n",
		t.calls, failed, t.slowest.Milliseconds(), felt.Milliseconds(), t.gap.Milliseconds())
	for kind, count := range t.failures {
		fmt.Printf("  %d times %s\n", count, kind)
	}
	return failed
}

func transport() (credentials.TransportCredentials, error) {
	if *authority == "" {
		return insecure.NewCredentials(), nil
	}
	text, err := os.ReadFile(*authority)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, errors.New("no certificate in " + *authority)
	}
	return credentials.NewTLS(&tls.Config{RootCAs: pool}), nil
}

func connect() ([]*grpc.ClientConn, error) {
	security, err := transport()
	if err != nil {
		return nil, err
	}
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(security),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"round_robin": {}}]}`),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(raw{})),
	}
	if *alive > 0 {
		options = append(options, grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: *alive, Timeout: *alive / 2}))
	}
	open := make([]*grpc.ClientConn, *channels)
	for i := range open {
		if open[i], err = grpc.NewClient(*target, options...); err != nil {
			return nil, err
		}
	}
	return open, nil
}

// call gives the answer, and how long it took.
func call(connection *grpc.ClientConn, method string, request []byte) ([]byte, time.Duration, error) {
	ctx, cancel := context.WithTimeout(context.Background(), *timeout)
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+os.Getenv("SUPERSERVE_TOKEN"))
	var answer []byte
	began := time.Now()
	err := connection.Invoke(ctx, "/superserve.secrets.v1."+method, request, &answer)
	return answer, time.Since(began), err
}

func list(connection *grpc.ClientConn, _ int) (time.Duration, error) {
	_, took, err := call(connection, "SecretsService/ListSecrets", ofAgent())
	return took, err
}

func run() (int, error) {
	flag.Parse()
	// Go's own 30 s outlast a rolling upgrade: all the addresses that a client knows may be gone before it asks again
	dns.SetMinResolutionInterval(*again)
	connections, err := connect()
	if err != nil {
		return 0, err
	}
	if _, err := list(connections[0], 0); err != nil {
		return 0, fmt.Errorf("the first call: %w", err)
	}
	fmt.Println("under load")
	act, written := list, writes{}
	if *write != "" {
		act = written.set
	}

	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	results := tally{failures: map[string]int{}, lastSuccess: time.Now()}
	var underWay sync.WaitGroup
	tick := time.NewTicker(time.Second / time.Duration(*rate))
	for turn := 0; ; turn++ {
		select {
		case <-stop:
			results.Lock()
			results.endGap()
			results.Unlock()
			underWay.Wait()
			return results.report(), written.check(connections[0])
		case <-tick.C:
			connection := connections[turn%len(connections)]
			underWay.Go(func() {
				took, err := act(connection, turn)
				results.add(err, took)
			})
		}
	}
}

func main() {
	failed, err := run()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	if failed > 0 {
		os.Exit(1)
	}
}
