// Deploys an agent that requires a secret, sets it, and resolves it as a run does. Prints what happened, and never a
// value.
package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log"
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	secretsv1 "superserve.example/client/gen/superserve/secrets/v1"
)

const (
	domain   = "secrets.superserve.ai"
	key      = "ANTHROPIC_API_KEY"
	timeout  = 10 * time.Second
	attempts = 5
)

func main() {
	if err := run(context.Background()); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) (err error) {
	connection, err := connect(cmp.Or(os.Getenv("SUPERSERVE_API_URL"), "http://127.0.0.1:8080"))
	if err != nil {
		return err
	}
	defer connection.Close()
	agents := secretsv1.NewAgentsServiceClient(connection)
	secrets := secretsv1.NewSecretsServiceClient(connection)
	tokens := secretsv1.NewTokensServiceClient(connection)
	runtime := secretsv1.NewRuntimeServiceClient(connection)
	ctx = withToken(ctx, os.Getenv("SUPERSERVE_TOKEN"))

	deployed, err := call(ctx, agents.DeployAgent, &secretsv1.DeployAgentRequest{
		Name:            "client-" + rand.Text(),
		RequiredSecrets: []*secretsv1.RequiredSecret{{Name: key}},
	})
	if err != nil {
		return err
	}
	agent := deployed.Agent.Id
	fmt.Println("deployed")
	defer func() {
		_, deleteErr := call(ctx, agents.DeleteAgent, &secretsv1.DeleteAgentRequest{AgentId: agent})
		if deleteErr == nil {
			fmt.Println("deleted")
		}
		err = errors.Join(err, deleteErr)
	}()

	// A run's token may resolve, and reaches this agent alone
	created, err := call(ctx, tokens.CreateToken, &secretsv1.CreateTokenRequest{
		Name: "run", Scopes: []string{"secrets:resolve"}, AgentIds: []string{agent},
	})
	if err != nil {
		return err
	}
	runCtx := withToken(ctx, created.Text)
	resolve := &secretsv1.ResolveSecretsRequest{AgentId: agent, RunId: new("example")}

	_, err = call(runCtx, runtime.ResolveSecrets, resolve)
	if reason(err) != "REQUIRED_SECRETS_MISSING" {
		return fmt.Errorf("a secret is missing: %w", err)
	}
	unmet, _ := detail[*errdetails.PreconditionFailure](err)
	for _, violation := range unmet.GetViolations() {
		fmt.Println("missing:", violation.Subject)
	}

	// With a name of its own a set is done once, however often it is sent
	_, err = call(ctx, secrets.SetSecrets, &secretsv1.SetSecretsRequest{
		AgentId:        agent,
		Secrets:        map[string]string{key: cmp.Or(os.Getenv(key), "sk-ant-example")},
		IdempotencyKey: rand.Text(),
	})
	if err != nil {
		return err
	}
	listed, err := call(ctx, secrets.ListSecrets, &secretsv1.ListSecretsRequest{AgentId: agent})
	if err != nil {
		return err
	}
	fmt.Println("set:", strings.Join(listed.Keys, ", "))

	_, err = call(ctx, secrets.DeleteSecret, &secretsv1.DeleteSecretRequest{AgentId: agent, Key: "OTHER"})
	if reason(err) != "SECRET_NOT_FOUND" {
		return fmt.Errorf("it is not set: %w", err)
	}
	fmt.Println("not set: OTHER")

	resolved, err := call(runCtx, runtime.ResolveSecrets, resolve)
	if err != nil {
		return err
	}
	fmt.Println("resolved:", strings.Join(slices.Sorted(maps.Keys(resolved.Env)), ", "))
	_, err = call(ctx, tokens.RevokeToken, &secretsv1.RevokeTokenRequest{TokenId: created.Token.Id})
	return err
}

// connect opens a connection to the server at http://HOST:PORT or https://HOST.
func connect(address string) (*grpc.ClientConn, error) {
	parsed, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	if parsed.Scheme == "https" {
		host := withPort(parsed)
		return grpc.NewClient(host, grpc.WithTransportCredentials(credentials.NewTLS(nil)))
	}
	return grpc.NewClient(parsed.Host, grpc.WithTransportCredentials(insecure.NewCredentials()))
}

func withPort(parsed *url.URL) string {
	if parsed.Port() == "" {
		return parsed.Host + ":443"
	}
	return parsed.Host
}

func withToken(ctx context.Context, token string) context.Context {
	return metadata.NewOutgoingContext(ctx, metadata.Pairs("authorization", "Bearer "+token))
}

// call makes a call, and again when the server says after which pause. For calls that may be repeated.
func call[Request, Response any](
	ctx context.Context,
	method func(context.Context, Request, ...grpc.CallOption) (Response, error),
	request Request,
) (Response, error) {
	for attempt := 1; ; attempt++ {
		response, err := once(ctx, method, request)
		code := status.Code(err)
		if (code != codes.Unavailable && code != codes.ResourceExhausted) || attempt == attempts {
			return response, err
		}
		pause := 250 * time.Millisecond << attempt
		if retry, ok := detail[*errdetails.RetryInfo](err); ok {
			pause = retry.RetryDelay.AsDuration()
		}
		log.Printf("waiting, as %s asks", reason(err))
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return response, ctx.Err()
		}
	}
}

func once[Request, Response any](
	ctx context.Context,
	method func(context.Context, Request, ...grpc.CallOption) (Response, error),
	request Request,
) (Response, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return method(ctx, request)
}

// reason is the stable word for an error, such as SECRET_NOT_FOUND; programs go by it, and not by the sentence.
func reason(err error) string {
	if info, ok := detail[*errdetails.ErrorInfo](err); ok && info.Domain == domain {
		return info.Reason
	}
	return ""
}

// detail is the detail of this kind that an error carries.
func detail[Kind any](err error) (Kind, bool) {
	for _, found := range status.Convert(err).Details() {
		if kind, ok := found.(Kind); ok {
			return kind, true
		}
	}
	var none Kind
	return none, false
}
