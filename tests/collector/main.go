// A collector of traces: the OTLP receiver of the OpenTelemetry Collector over HTTP on a port of its own. It prints
// its address, and then what it received, one object of JSON a line. It ends when its standard input ends.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"os"

	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/receiver/otlpreceiver"
	"go.opentelemetry.io/collector/receiver/receivertest"
)

func print(_ context.Context, traces ptrace.Traces) error {
	line, err := (&ptrace.JSONMarshaler{}).MarshalTraces(traces)
	if err == nil {
		_, err = fmt.Printf("%s\n", line)
	}
	return err
}

func start(ctx context.Context, address string) (func(context.Context) error, error) {
	factory := otlpreceiver.NewFactory()
	config := factory.CreateDefaultConfig()
	http := map[string]any{"endpoint": address}
	settings := confmap.NewFromStringMap(map[string]any{"protocols": map[string]any{"http": http}})
	if err := settings.Unmarshal(config); err != nil {
		return nil, err
	}
	next, err := consumer.NewTraces(print)
	if err != nil {
		return nil, err
	}
	receiver, err := factory.CreateTraces(ctx, receivertest.NewNopSettings(factory.Type()), config, next)
	if err != nil {
		return nil, err
	}
	return receiver.Shutdown, receiver.Start(ctx, componenttest.NewNopHost())
}

func main() {
	ctx := context.Background()
	// Somebody else may take the port meanwhile: then it is another one.
	for attempt := 0; ; attempt++ {
		free, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			log.Fatal(err)
		}
		address := free.Addr().String()
		free.Close()
		stop, err := start(ctx, address)
		if err == nil {
			fmt.Println(address)
			io.Copy(io.Discard, os.Stdin)
			stop(ctx)
			return
		}
		if attempt == 5 {
			log.Fatal(err)
		}
	}
}
