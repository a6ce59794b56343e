//go:build tools

package conformance

// The echo server of the suite's manifests is built from the suite's own source.
import _ "sigs.k8s.io/gateway-api/conformance/echo-basic"
