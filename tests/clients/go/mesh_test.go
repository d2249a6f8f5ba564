// A Go client against a running `tutti up` that answers with the simulator. `tests/run` makes the stubs, starts it and
// sets TUTTI_TARGET (host:port) and TUTTI_WORKSPACE (the folder of the workspace `default`).
package clients

import (
	"context"
	"fmt"
	"io"
	"io/ioutil"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	ledgerv1 "tutti/ledger/v1"
	llmv1 "tutti/llm/v1"
	routerv1 "tutti/router/v1"
	sandboxv1 "tutti/sandbox/v1"
)

const (
	greeting   = "a greeting for go"
	askForTool = `[[tool read {"path":"go.txt"}]]`
)

// codec stands in for the one of grpc-go before 1.35, which can't encode what today's protoc-gen-go generates. Newer
// versions need none.
type codec struct{}

func (codec) Name() string { return "proto" }
func (codec) Marshal(message interface{}) ([]byte, error) {
	return proto.Marshal(message.(proto.Message))
}
func (codec) Unmarshal(data []byte, into interface{}) error {
	return proto.Unmarshal(data, into.(proto.Message))
}

// connect gives a channel that ends with the test, and a context of 30 seconds.
func connect(t *testing.T) (context.Context, *grpc.ClientConn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	channel, err := grpc.DialContext(ctx, os.Getenv("TUTTI_TARGET"), grpc.WithInsecure(), grpc.WithBlock(),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(codec{})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { channel.Close() })
	return ctx, channel
}

func user(text string) []*llmv1.Message {
	return []*llmv1.Message{{Role: llmv1.Role_ROLE_USER, Text: text}}
}

// usageOf gives the settled records of a request; settlement is off the caller's path, so it is waited for.
func usageOf(ctx context.Context, t *testing.T, channel *grpc.ClientConn, requestID string, expected int) []*ledgerv1.UsageRecord {
	t.Helper()
	request := &ledgerv1.ListUsageRequest{Filter: &ledgerv1.UsageFilter{RequestId: requestID}}
	for {
		answer, err := ledgerv1.NewLedgerServiceClient(channel).ListUsage(ctx, request)
		if err != nil {
			t.Fatal(err)
		}
		settled := 0
		for _, record := range answer.Records {
			if record.State != ledgerv1.UsageState_USAGE_STATE_RESERVED {
				settled++
			}
		}
		if settled >= expected && settled == len(answer.Records) {
			return answer.Records
		}
	}
}

// reason reads the details of an error.
func reason(err error) (code codes.Code, reason string, fields []string) {
	for _, detail := range status.Convert(err).Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			reason = detail.Reason
		case *errdetails.BadRequest:
			for _, violation := range detail.FieldViolations {
				fields = append(fields, violation.Field)
			}
		}
	}
	return status.Code(err), reason, fields
}

func TestChatAnswersWithUsageThatTheLedgerHasToo(t *testing.T) {
	ctx, channel := connect(t)
	answer, err := routerv1.NewRouterServiceClient(channel).Chat(ctx, &routerv1.ChatRequest{Messages: user("hello from go")})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(answer.Message.Text, "hello from go") || answer.FinishReason != llmv1.FinishReason_FINISH_REASON_STOP {
		t.Fatal(answer)
	}
	record := usageOf(ctx, t, channel, answer.RequestId, 1)[0]
	if record.AttemptId != answer.Attempts[0].AttemptId || answer.Usage.OutputTokens == 0 {
		t.Fatal(record, answer)
	}
}

func TestAStreamedChatRunsATool(t *testing.T) {
	path := filepath.Join(os.Getenv("TUTTI_WORKSPACE"), "go.txt")
	if err := ioutil.WriteFile(path, []byte(greeting), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, channel := connect(t)
	chat := &routerv1.ChatRequest{Messages: user(askForTool), MeshTools: []string{"read"}}
	stream, err := routerv1.NewRouterServiceClient(channel).ChatStream(ctx, &routerv1.ChatStreamRequest{Chat: chat})
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	var done *routerv1.ChatResponse
	calls, results := 0, 0
	for number := uint64(1); ; number++ {
		event, err := stream.Recv()
		if err == io.EOF {
			break
		}
		if err != nil || uint64(event.Seq) != number || done != nil {
			t.Fatal(number, event, err)
		}
		text.WriteString(event.GetDelta())
		done = event.GetDone()
		if event.GetToolCall() != nil {
			calls++
		}
		if event.GetToolResult() != nil {
			results++
		}
	}
	if done == nil || calls != 1 || results != 1 || text.String() != done.Message.Text || !strings.Contains(text.String(), greeting) {
		t.Fatal(calls, results, text.String(), done)
	}
	if records := usageOf(ctx, t, channel, done.RequestId, 2); len(records) != 2 {
		t.Fatal(records)
	}
	audit, err := sandboxv1.NewAuditServiceClient(channel).QueryAudit(ctx, &sandboxv1.QueryAuditRequest{RequestId: done.RequestId})
	if err != nil || len(audit.Records) != 1 || audit.Records[0].Tool != "read" || !audit.Records[0].Success {
		t.Fatal(audit, err)
	}
}

func TestErrorsHaveAReasonAndNameTheField(t *testing.T) {
	ctx, channel := connect(t)
	router := routerv1.NewRouterServiceClient(channel)
	_, err := router.Chat(ctx, &routerv1.ChatRequest{Messages: []*llmv1.Message{{Text: "who?"}}})
	if code, reason, fields := reason(err); code != codes.InvalidArgument || reason != "INVALID_REQUEST" ||
		len(fields) != 1 || fields[0] != "messages[0].role" {
		t.Fatal(code, reason, fields)
	}
	stream, err := router.ChatStream(ctx, &routerv1.ChatStreamRequest{Chat: &routerv1.ChatRequest{Messages: user("hi"), Backend: "simulatr"}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = stream.Recv()
	if code, reason, _ := reason(err); code != codes.NotFound || reason != "UNKNOWN_BACKEND" {
		t.Fatal(code, reason, err)
	}
}

func TestADeadlineIsExceededNotCancelled(t *testing.T) {
	ctx, channel := connect(t)
	ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	_, err := routerv1.NewRouterServiceClient(channel).Chat(ctx, &routerv1.ChatRequest{Messages: user("[[fault stall_after=1]] one two three")})
	if status.Code(err) != codes.DeadlineExceeded {
		t.Fatal(err)
	}
}

func TestAHundredCallsShareOneConnection(t *testing.T) {
	ctx, channel := connect(t)
	var calls sync.WaitGroup
	for number := 0; number < 100; number++ {
		calls.Add(1)
		go func(text string) {
			defer calls.Done()
			answer, err := routerv1.NewRouterServiceClient(channel).Chat(ctx, &routerv1.ChatRequest{Messages: user(text)})
			if err != nil || !strings.Contains(answer.Message.Text, text) {
				t.Error(answer, err)
			}
		}(fmt.Sprintf("number %d of go", number))
	}
	calls.Wait()
}
