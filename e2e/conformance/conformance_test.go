// Package conformance runs the Gateway API's own suite against a cluster in which idm is installed.
package conformance

import (
	"flag"
	"testing"
	"time"

	"sigs.k8s.io/gateway-api/conformance"
)

var patience = flag.Duration("patience", 0, "the longest that a test waits for a status; 0: what the suite says")

// TestConformance takes the suite's own flags after -args; see run.
func TestConformance(t *testing.T) {
	options := conformance.DefaultOptions(t)
	if limit := *patience; limit > 0 {
		timeouts := &options.TimeoutConfig
		for _, timeout := range []*time.Duration{
			&timeouts.GatewayMustHaveAddress, &timeouts.GatewayMustHaveCondition,
			&timeouts.GatewayStatusMustHaveListeners, &timeouts.GatewayListenersMustHaveConditions,
			&timeouts.HTTPRouteMustNotHaveParents, &timeouts.HTTPRouteMustHaveCondition,
			&timeouts.RouteMustHaveParents, &timeouts.MaxTimeToConsistency, &timeouts.DefaultTestTimeout,
			&timeouts.LatestObservedGenerationSet,
		} {
			*timeout = min(*timeout, limit)
		}
	}
	conformance.RunConformanceWithOptions(t, options)
}
