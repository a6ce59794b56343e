// Package conformance runs the Gateway API's own suite against a cluster in which idm is installed.
package conformance

import (
	"flag"
	"net/http"
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
	options.RestConfig.Wrap(func(next http.RoundTripper) http.RoundTripper { return earlierLogs{next} })
	conformance.RunConformanceWithOptions(t, options)
}

// earlierLogs asks for the log of a pod from one second earlier on. The suite looks for mirrored requests in what was
// written since a moment after it sent them, which the API server cuts to its second: a mirror that was faster than the
// end of that second would not be found, however long the suite waits.
type earlierLogs struct{ next http.RoundTripper }

func (l earlierLogs) RoundTrip(request *http.Request) (*http.Response, error) {
	query := request.URL.Query()
	if since, err := time.Parse(time.RFC3339, query.Get("sinceTime")); err == nil {
		query.Set("sinceTime", since.Add(-time.Second).Format(time.RFC3339))
		request = request.Clone(request.Context())
		request.URL.RawQuery = query.Encode()
	}
	return l.next.RoundTrip(request)
}
